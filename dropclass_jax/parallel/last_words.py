"""One line in place of the pages that jax's runtime prints when it loses the other processes.

jax's coordination service does not raise when the first process is gone, or when not all processes
come: it aborts, from a thread of its own, with a C++ stack trace that no Python code can catch. So
what the process prints to its standard error goes through this program, which outlives it:

    python last_words.py SECONDS < what the process prints

It needs nothing but the standard library, and knows the runtime's lines by these words.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

ABORT = b"Terminating process because the JAX distributed service detected fatal errors"
NOT_ALL_CAME = (b"RegisterTask", b"DEADLINE_EXCEEDED")
SILENT = b"stopped sending heartbeats"
OWN = b"error: "  # the process's own last line, which may come before the abort or after it

# A message of the runtime, and one about the other processes; either may go on for some lines.
MESSAGE = re.compile(rb"[IWEF]\d{4} \S+ +\d+ (?P<file>[\w./-]+):\d+\] ")
ABOUT_OTHERS = re.compile(rb"coordination_service|preemption_sync_manager")

# So long the process may take to end after the abort, before it is killed.
LAST_SECONDS = 60


def shorten(
    lines: Iterable[bytes], seconds: str, aborted: Callable[[], object] = lambda: None
) -> Iterator[bytes]:
    """The lines, with one line for an abort of the runtime, the last thing a process prints.

    Messages about the other processes, which precede an abort, are held back, and left out when the
    process or this program has said in one line what they mean.

    Args:
      lines: what the process prints, each with its end.
      seconds: how long it waits for the others at the start.
      aborted: called when the runtime aborts.
    """
    lines = iter(lines)
    held: list[bytes] = []
    told = holding = False
    for line in lines:
        if ABORT in line:
            aborted()
            rest = [line, *lines]
            if not told:
                yield next((late for late in rest if late.startswith(OWN)), _line(rest, seconds))
            return
        message = MESSAGE.match(line)
        told = told or line.startswith(OWN)
        if message or line.startswith((OWN, b"Traceback ")):
            holding = bool(message and ABOUT_OTHERS.search(message["file"]))
        if holding:
            held.append(line)
        else:
            yield line
    if not told:
        yield from held


def _line(printed: Iterable[bytes], seconds: str) -> bytes:
    """What an abort means."""
    text = b"".join(printed)
    if any(sign in text for sign in NOT_ALL_CAME):
        return (
            f"error: not all processes of this run came within {seconds} s: check that all were "
            "started, with the same --coordinator and --num_processes, and that it can be reached "
            "from all; --wait_seconds is how long to wait\n"
        ).encode()
    who = "another process" if SILENT in text else "the first process"
    return (
        f"error: {who} of this run is gone, or cannot be reached any more: this one stops too. "
        "Start all of them again to continue\n"
    ).encode()


def shorten_aborts(seconds: int) -> None:
    """Let all that this process prints to its standard error go through this program."""
    sys.stderr.flush()
    read, write = os.pipe()
    subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(seconds)],
        stdin=read,
        stdout=sys.stderr.fileno(),
        start_new_session=True,  # a signal to the process's group is not for it
    )
    os.dup2(write, sys.stderr.fileno())
    os.close(read)
    os.close(write)


def _kill_later(process: int) -> None:
    """Kill a process that has not ended by then; only while it is the parent of this one."""

    def kill(number: int, frame: object) -> None:
        if os.getppid() == process:
            os.kill(process, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.alarm(LAST_SECONDS)


if __name__ == "__main__":
    parent = os.getppid()
    printed = iter(sys.stdin.buffer.readline, b"")
    for line in shorten(printed, sys.argv[1], lambda: _kill_later(parent)):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
