"""Run commands in parallel on the devices of this machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dropclass_jax import cores
from dropclass_jax.errors import UserError
from dropclass_jax.parallel import preemption

POLL_SECONDS = 0.2


class Slot(NamedTuple):
    """A share of the machine that runs one command at a time.

    Attributes:
      environment: environment variables that are added to ours.
      cores: the CPU cores that its processes are bound to; empty for all.
    """

    environment: Mapping[str, str]
    cores: frozenset[int]


class Job(NamedTuple):
    """A command.

    Attributes:
      name: what it is called, unique.
      command: its words.
      log: the file that its output is added to.
      after: the name of a job that has to succeed before; None for none.
    """

    name: str
    command: Sequence[str]
    log: Path
    after: str | None = None


def gpus() -> list[str]:
    """Names of the visible NVIDIA GPUs, as in ``CUDA_VISIBLE_DEVICES``."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True)
    return listed.stdout.split() if listed.returncode == 0 else []


def slots(count: int | None, devices: Sequence[str]) -> list[Slot]:
    """Divide the machine's cores and GPUs into slots.

    Args:
      count: how many; by default one a GPU, or one on a machine without.
      devices: the GPUs. Where they are fewer than commands, some share one, and its memory.

    Raises:
      UserError: there are not as many CPU cores.
    """
    count = count or max(len(devices), 1)
    usable = cores.usable()
    if count > len(usable):
        raise UserError(f"--jobs={count} is more than the {len(usable)} CPU cores that there are")
    able = hasattr(os, "sched_setaffinity")  # Linux
    made = []
    for n in range(count):
        environment = {}
        if devices:
            device = n % len(devices)
            environment["CUDA_VISIBLE_DEVICES"] = devices[device]
            environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # counted as nvidia-smi counts
            if (sharing := len(range(device, count, len(devices)))) > 1:
                environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / sharing:.3f}"
        own = usable[n * len(usable) // count : (n + 1) * len(usable) // count]
        made.append(Slot(environment, frozenset(own) if able and count > 1 else frozenset()))
    return made


@contextmanager
def only_one(folder: Path) -> Iterator[int]:
    """Lock a folder against other processes that run jobs in it, and jobs that they left behind.

    Yields:
      A file descriptor that holds the lock, for jobs to inherit.

    Raises:
      UserError: another does, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{folder} is in use by another process, or by runs that one has left behind; "
                "wait for them to end, or end them"
            ) from None
        yield file.fileno()


def run(
    jobs: Sequence[Job],
    places: Sequence[Slot],
    lock: int,
    started: Callable[[Job, Slot], None],
    ended: Callable[[Job, int | None, float], None],
    watch: Callable[[Sequence[Job]], None],
) -> signal.Signals | None:
    """Run all jobs, one per slot at a time, in order as far as possible.

    A failed job stops only the jobs that depend on it. SIGINT and SIGTERM are passed on to the
    running jobs, which may take their time to end; nothing new starts.

    Args:
      jobs: what to do; none comes before the one it waits for.
      places: where.
      lock: of ``only_one``.
      started: called at every start.
      ended: called at every end with the exit code (None for a job that was not started because
        the one before it failed) and the seconds it took.
      watch: called a few times a second with the running jobs.

    Returns:
      The signal that stopped it, or None.
    """
    waiting, free = list(jobs), list(places)
    running: dict[str, tuple[Job, subprocess.Popen, Slot, float]] = {}
    unfinished = {job.name for job in jobs}
    failed: set[str] = set()
    told = False
    with preemption.stop_requests() as stop:
        try:
            while running or (waiting and not stop()):
                for job in list(waiting):
                    if stop():
                        break
                    if job.after in failed:
                        failed.add(job.name)
                        waiting.remove(job)
                        ended(job, None, 0.0)
                    elif free and job.after not in unfinished:
                        place = free.pop(0)
                        waiting.remove(job)
                        process = _start(job, place, lock)
                        running[job.name] = job, process, place, time.monotonic()
                        started(job, place)
                for name, (job, process, place, since) in list(running.items()):
                    if (code := process.poll()) is not None:
                        del running[name]
                        free.append(place)
                        (failed.add if code else unfinished.discard)(name)
                        ended(job, code, time.monotonic() - since)
                if (received := stop()) and not told:
                    told = True
                    for _, process, *_ in running.values():
                        process.send_signal(received)
                watch([job for job, *_ in running.values()])
                time.sleep(POLL_SECONDS if running else 0)
        finally:  # something unforeseen, or a second Ctrl-C
            for _, process, *_ in running.values():
                process.send_signal(signal.SIGINT)
            for _, process, *_ in running.values():
                process.wait()
        return stop()


def _start(job: Job, place: Slot, lock: int) -> subprocess.Popen:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "a") as log, _on_cores(place.cores):
        return subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **place.environment},
            # Else Ctrl-C would reach the jobs twice, from the terminal and from us.
            start_new_session=True,
            pass_fds=(lock,),
        )


@contextmanager
def _on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Bind processes that are started in this block to these cores; XLA takes as many threads."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)  # of this thread alone, which children inherit
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
