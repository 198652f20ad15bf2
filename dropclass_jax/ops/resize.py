"""Bilinear resizing with half-pixel centres and without antialiasing.

The same as PyTorch's ``interpolate(mode="bilinear", align_corners=False)``. Both axes are resized
one after the other, each by a few multiplications an output value where the size grows by a whole
factor: HRNet's exchange and every upsampled map whose size is a multiple of the stride.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def resize_bilinear(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """``x [B, H, W, C]`` -> ``[B, *size, C]``, in the dtype of ``x``."""
    # Rows last, and so first in the backward pass: along them whole rows are contiguous.
    return resize_axis(resize_axis(x, 2, size[1]), 1, size[0])


def resize_axis(x: jax.Array, axis: int, length: int) -> jax.Array:
    """``x`` with one axis resized to ``length``."""
    old = x.shape[axis]
    if length == old:
        return x
    if length % old == 0:
        return _grow(x, axis, length // old)
    # A product with a small matrix, at the highest precision: TF32 or bfloat16 would round the
    # values by 1e-3.
    shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
    return jax.image.resize(x, shape, "bilinear", antialias=False, precision="highest")


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _grow(x: jax.Array, axis: int, factor: int) -> jax.Array:
    """One axis ``factor`` times as long.

    Output ``factor * i + p`` lies ``(p + 1/2) / factor - 1/2`` beyond input i, between it and one
    neighbour: the same two weights for every i.
    """
    length = x.shape[axis]
    inner = lax.slice_in_dim(x, 0, length - 1, axis=axis), lax.slice_in_dim(x, 1, length, axis=axis)
    ends = lax.slice_in_dim(x, 0, 1, axis=axis), lax.slice_in_dim(x, length - 1, length, axis=axis)
    before = jnp.concatenate([ends[0], inner[0]], axis)  # of the edges, their own values
    after = jnp.concatenate([inner[1], ends[1]], axis)
    outputs = []
    for offset in _offsets(factor):
        neighbour = before if offset < 0 else after
        outputs.append((1 - abs(offset)) * x + abs(offset) * neighbour if offset else x)
    shape = (*x.shape[:axis], length * factor, *x.shape[axis + 1 :])
    return jnp.stack(outputs, axis + 1).reshape(shape)


def _offsets(factor: int) -> list[float]:
    return [(p + 0.5) / factor - 0.5 for p in range(factor)]


def _grow_backward(axis: int, factor: int, _: None, g: jax.Array) -> tuple[jax.Array]:
    """Each output's gradient, shared between the input that it lies at and that one's neighbour.

    Written out: by rule it is a sum of padded slices, one for every output, which XLA's CPU
    compiler computes anew wherever it is read.
    """
    length = g.shape[axis] // factor
    parts = g.reshape(*g.shape[:axis], length, factor, *g.shape[axis + 1 :])
    own, before, after = [], [], []  # of each input, for itself and for its neighbours
    for p, offset in enumerate(_offsets(factor)):
        part = lax.index_in_dim(parts, p, axis + 1, keepdims=False)
        own.append((1 - abs(offset)) * part)
        if offset:
            (before if offset < 0 else after).append(abs(offset) * part)
    before, after = sum(before), sum(after)

    def cut(x: jax.Array, start: int, stop: int) -> jax.Array:
        return lax.slice_in_dim(x, start, stop, axis=axis)

    # At the edges the neighbour is the input itself.
    from_next = jnp.concatenate([cut(before, 1, length), cut(after, length - 1, length)], axis)
    from_previous = jnp.concatenate([cut(before, 0, 1), cut(after, 0, length - 1)], axis)
    return (sum(own) + from_next + from_previous,)


_grow.defvjp(lambda x, axis, factor: (_grow(x, axis, factor), None), _grow_backward)


def resize_matrix(old: int, new: int) -> np.ndarray:
    """The matrix that resizes one axis, ``[new, old]`` float64: at most two weights a row."""
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    below = np.floor(at).astype(int)
    above = np.minimum(below + 1, old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), below), 1 - (at - below))
    np.add.at(matrix, (np.arange(new), above), at - below)
    return matrix
