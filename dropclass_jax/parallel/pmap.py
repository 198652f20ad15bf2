"""The only pmap in the house: data parallelism over the local and remote devices.

A step is written for one device and a named axis, ``AXIS``. Here it becomes a function of a
replicated state and a batch split over the devices. The state goes in and comes out as one array a
leaf, never stacked: pmap broadcasts it on the way in and takes one replica on the way out.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dropclass_jax.errors import UserError, first_line

AXIS = "devices"

# After so long without a sign of life a process counts as lost, and the others stop.
HEARTBEAT_SECONDS = 60


def pmap_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """``step(state, batch) -> (state, metrics)`` on every device, the old state's memory reused.

    Both results must be equal on all devices, which they are when the step reduces over ``AXIS``.
    """
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)


def pmap_eval(step: Callable[..., Any]) -> Callable[..., Any]:
    """``step(variables, batch) -> (reduced, per_example)`` on every device.

    ``reduced`` is equal on all devices; ``per_example`` comes back stacked, ``[devices, b, ...]``.
    """
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, 0))


def initialize(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the other processes of a run, before anything else is asked of jax.

    Without arguments jax finds them out by itself: on a TPU pod, under Slurm and under MPI.

    Args:
      coordinator: ``host:port`` of process 0, to be reached from all.
      num_processes: how many processes there are.
      process_id: which one this is.

    Raises:
      UserError: the others cannot be found or reached.
    """
    try:
        jax.distributed.initialize(
            coordinator, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot join the other processes ({first_line(error)}): check "
            "--coordinator, --num_processes and --process_id, and that all were started"
        ) from error


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all must ask."""
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
    """``gather_batches`` of texts, ``[n, b] str``, which travel as bytes."""
    encoded = np.char.encode(texts, "utf-8")
    width = int(gather_batches(np.array([[encoded.itemsize]], np.int32)).max())
    characters = encoded.astype(f"S{width}")[..., None].view(np.uint8)  # [n, b, width]
    gathered = np.ascontiguousarray(gather_batches(characters))
    return np.char.decode(gathered.view(f"S{width}")[..., 0], "utf-8")


def first_process(action: Callable[[], Any]) -> None:
    """Do something in the first process alone, while the others wait.

    Raises:
      UserError: it raised one; the others say so too, instead of waiting for ever.
    """
    fault = None
    if jax.process_index() == 0:
        try:
            action()
        except UserError as error:
            fault = error
    if any_process(fault is not None):
        raise fault or UserError("the first process stopped; it says why")


def barrier(name: str) -> None:
    """Wait for all processes to come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def is_lost_process(error: BaseException) -> bool:
    """Whether an error says that another process of the run cannot be reached any more."""
    signs = "gloo|nccl|connection|heartbeat|unavailable|deadline|barrier"
    return jax.process_count() > 1 and bool(re.search(signs, str(error), re.IGNORECASE))


@contextmanager
def leave_together() -> Iterator[None]:
    """End this process at once when something goes wrong while others are under way.

    An exit in good order would wait for the others, and they for this one. Cut off, they stop by
    themselves: at their next exchange or, at the latest, after ``HEARTBEAT_SECONDS``.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        code = 2 if isinstance(error, UserError) else 1
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
        elif is_lost_process(error):
            print(
                f"error: another process of this run is gone ({first_line(error)}): "
                f"process {jax.process_index()} stops too. Start all of them again to continue",
                file=sys.stderr,
            )
        else:
            traceback.print_exc()
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(code)


def replicate(tree: Any) -> Any:
    """A tree of arrays, one a leaf, with a copy on every local device.

    So ``pmap_step`` need not copy it, and can give its memory back.
    """
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard(batch: dict[str, Any]) -> dict[str, Any]:
    """Split the leading axis over this process's devices: ``[b, ...]`` -> ``[n, b / n, ...]``."""
    devices = jax.local_device_count()
    return {
        name: array.reshape(devices, array.shape[0] // devices, *array.shape[1:])
        for name, array in batch.items()
    }


def unshard(array: jax.Array) -> jax.Array:
    """The inverse of ``shard`` for one array, ``[devices, b, ...]`` -> ``[devices * b, ...]``."""
    return array.reshape(-1, *array.shape[2:])


def psum(tree: Any, axis_name: str | None) -> Any:
    """The sum over the devices; the tree itself when there is no axis."""
    return tree if axis_name is None else lax.psum(tree, axis_name)


def example_rows(local_batch: int, axis_name: str | None) -> jax.Array:
    """The rows of the global batch that this device holds, ``[b]`` int32."""
    first = 0 if axis_name is None else lax.axis_index(axis_name) * local_batch
    return first + jax.numpy.arange(local_batch)


def peak_bytes(compiled: jax.stages.Compiled) -> int | None:
    """The most memory one device needs for a compiled step; None if the backend does not tell."""
    stats = compiled.memory_analysis()
    if stats is None:
        return None
    sizes = (stats.argument_size_in_bytes, stats.output_size_in_bytes, stats.temp_size_in_bytes)
    return sum(sizes) - stats.alias_size_in_bytes


def device_bytes() -> int | None:
    """The memory of a local device; of the whole machine, shared out, where devices are its CPU."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return pages // jax.local_device_count()
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit")
