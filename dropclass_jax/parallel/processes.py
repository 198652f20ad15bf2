"""The processes of one run: start, exchange values and stop together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from dropclass_jax.errors import UserError, first_line
from dropclass_jax.parallel import last_words, leaving
from dropclass_jax.parallel.leaving import AgreedError

# After so long without a sign of life a process counts as lost, and the others stop.
HEARTBEAT_SECONDS = 60

# So long the processes wait for each other at the start.
WAIT_SECONDS = 300


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    wait_seconds: int = WAIT_SECONDS,
) -> None:
    """Join the other processes of a run; must come before any other use of jax.

    Without arguments jax detects them by itself, on a TPU pod, under Slurm and under MPI.

    Args:
      coordinator: ``host:port`` of process 0, to be reached from all.
      num_processes: how many processes there are.
      process_id: which one this is.
      wait_seconds: how long to wait until all have come. When they do not, or when the first one
        is lost later, jax aborts the process; see ``last_words`` for what it then says, and
        ``leaving`` for how it ends.

    Raises:
      UserError: the others cannot be found or reached.
    """
    last_words.shorten_aborts(wait_seconds)
    leaving.exit_when_aborted()
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=wait_seconds,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot join the other processes ({first_line(error)}): check "
            "--coordinator, --num_processes and --process_id, and that all were started"
        ) from error


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process. Collective: every process must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def gather_batches(rows: np.ndarray) -> np.ndarray:
    """Rows of this process's parts of the batches -> those of the whole batches; all must ask.

    Args:
      rows: ``[n, b, ...]`` of at most 32 bits: n batches, and b rows of each in every process.

    Returns:
      ``[n, processes * b, ...]``.
    """
    if jax.process_count() == 1:
        return rows
    return np.concatenate(multihost_utils.process_allgather(rows), axis=1)


def gather_texts(texts: np.ndarray) -> np.ndarray:
    """``gather_batches`` of texts, ``[n, b] str``, sent as bytes."""
    encoded = np.char.encode(texts, "utf-8")
    width = int(gather_batches(np.array([[encoded.itemsize]], np.int32)).max())
    characters = encoded.astype(f"S{width}")[..., None].view(np.uint8)  # [n, b, width]
    gathered = np.ascontiguousarray(gather_batches(characters))
    return np.char.decode(gathered.view(f"S{width}")[..., 0], "utf-8")


def broadcast(tree: Any, source: int) -> Any:
    """The arrays that the process of this index has, in every process. Collective.

    Args:
      tree: of arrays, of the same shapes and dtypes in all processes.
      source: the index of a process.
    """
    if jax.process_count() == 1:
        return tree
    return multihost_utils.broadcast_one_to_all(tree, is_source=jax.process_index() == source)


def gather_text(text: str) -> list[str]:
    """One text from every process, in order. Collective."""
    return gather_texts(np.array([[text]]))[0].tolist()


def check_agreement(values: Mapping[str, Any]) -> None:
    """Make sure that all processes have the same values. Collective.

    Args:
      values: named, for JSON.

    Raises:
      AgreedError: in every process, when they differ: names the values, and who has which.
    """
    if jax.process_count() == 1:
        return
    first, *others = map(json.loads, gather_text(json.dumps(values)))
    differences = [
        f"{name} is {first.get(name)!r} in process 0, {other.get(name)!r} in process {index}"
        for index, other in enumerate(others, start=1)
        for name in sorted({*first, *other})
        if first.get(name) != other.get(name)
    ]
    if differences:
        more = f" and {len(differences) - 5} more differences" if len(differences) > 5 else ""
        raise AgreedError(
            f"the processes of this run differ: {'; '.join(differences[:5])}{more}. "
            "Start all with the same command, code and data"
        )


@contextmanager
def together() -> Iterator[None]:
    """A block in which a ``UserError`` in any process is raised in all. Collective.

    Raises:
      AgreedError: as this process's own, or what another one's says, instead of waiting for it for
        ever.
    """
    fault = None
    try:
        yield
    except UserError as error:
        fault = error
    if any_process(fault is not None):
        told = gather_text(str(fault or ""))
        index = next(index for index, text in enumerate(told) if text)
        raise AgreedError(str(fault or f"process {index} stopped: {told[index]}")) from fault


def first_process(action: Callable[[], Any]) -> None:
    """Run a function in the first process only, while the others wait.

    Raises:
      UserError: it raised one; the others raise it too.
    """
    with together():
        if jax.process_index() == 0:
            action()


def barrier(name: str) -> None:
    """Wait until all processes get here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
