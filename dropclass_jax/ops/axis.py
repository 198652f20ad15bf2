"""Sums and example rows over a named device axis."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

AXIS = "devices"


def psum(tree: Any, axis_name: str | None) -> Any:
    """The sum over the devices; the tree itself when there is no axis."""
    return tree if axis_name is None else lax.psum(tree, axis_name)


def example_rows(local_batch: int, axis_name: str | None) -> jax.Array:
    """The rows of the global batch that this device holds, ``[b]`` int32."""
    first = 0 if axis_name is None else lax.axis_index(axis_name) * local_batch
    return first + jax.numpy.arange(local_batch)
