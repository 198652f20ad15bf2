"""Data parallelism over local and remote devices; the only pmap of the package.

A step is written for one device and a named axis, ``AXIS``. Here it becomes a function of a
replicated state and a batch split over the devices. The state goes in and comes out as one array a
leaf, never stacked: pmap broadcasts it on the way in and takes one replica on the way out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dropclass_jax.ops import cpu_compiler
from dropclass_jax.ops.axis import AXIS


def pmap_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """Run ``step(state, batch, key) -> (state, metrics)`` on every device; the state is donated.

    The key is the same on all devices.

    Both results must be equal on all devices, which they are when the step reduces over ``AXIS``.
    """
    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0)


def pmap_eval(step: Callable[..., Any]) -> Callable[..., Any]:
    """Run ``step(variables, batch) -> (reduced, per_example)`` on every device.

    ``reduced`` is equal on all devices; ``per_example`` comes back stacked, ``[devices, b, ...]``.
    """
    mapped = jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, 0))
    if not cpu_compiler.forward_options() or jax.process_count() > 1:
        return mapped  # what pmap compiles ahead of time cannot be called by several processes
    programs: dict[tuple[Any, ...], jax.stages.Compiled] = {}

    def run(variables: Any, batch: dict[str, Any]) -> Any:
        shapes = tuple((array.shape, array.dtype) for array in batch.values())
        if shapes not in programs:
            programs[shapes] = cpu_compiler.compile_forward(mapped.lower(variables, batch))
        return programs[shapes](variables, batch)

    return run


def replicate(tree: Any) -> Any:
    """Copy every leaf of a tree to all local devices.

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


def peak_bytes(compiled: jax.stages.Compiled) -> int | None:
    """Peak memory of a compiled step on one device; None if the backend does not say."""
    stats = compiled.memory_analysis()
    if stats is None:
        return None
    sizes = (stats.argument_size_in_bytes, stats.output_size_in_bytes, stats.temp_size_in_bytes)
    return sum(sizes) - stats.alias_size_in_bytes


def device_bytes() -> int | None:
    """Memory of a local device; for CPU devices, an equal share of the machine's."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return pages // jax.local_device_count()
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit")
