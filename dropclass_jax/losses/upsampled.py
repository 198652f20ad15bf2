"""Sums over the pixels of upsampled logits, and maps of them, a few rows at a time.

Logits ``[B, h, w, K]`` are compared with labels ``[B, H, W]``. Upsampled they would be the largest
array of a step, and their softmax and its gradient as large again. Here they never exist as a
whole: a few rows of pixels are upsampled at a time, and their gradient is folded back to
``[B, h, w, K]`` at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dropclass_jax.ops.resize import resize_axis, resize_matrix

PixelLoss = Callable[..., jax.Array]

# How much of the upsampled logits there is at a time. A CPU is fastest when they stay in its cache
# (2 to 4 times as fast as all at once); elsewhere each block costs the launch of a few kernels.
BLOCK_BYTES = {"cpu": 2**20}
DEFAULT_BLOCK_BYTES = 2**26


class _Blocks(NamedTuple):
    """Rows of pixels, and the rows of the logits between which they lie.

    Attributes:
      first: ``[n]``, of each block's window, its first row of the logits.
      matrices: ``[n, r, window]``, from those rows to the block's r rows of pixels; zero for rows
        beyond the picture.
    """

    first: np.ndarray
    matrices: np.ndarray


def _blocks(height: int, pixel_height: int, rows: int) -> _Blocks:
    count = -(-pixel_height // rows)
    matrix = resize_matrix(height, pixel_height)
    matrix = np.pad(matrix, ((0, count * rows - pixel_height), (0, 0)))
    matrix = matrix.reshape(count, rows, height)
    used = [np.flatnonzero(block.any(axis=0)) for block in matrix]
    window = max(rows[-1] - rows[0] + 1 for rows in used)
    first = np.array([min(rows[0], height - window) for rows in used])
    matrices = [block[:, i : i + window] for block, i in zip(matrix, first, strict=True)]
    return _Blocks(first, np.stack(matrices))


def sum_over_pixels(
    pixel_loss: PixelLoss,
    logits: jax.Array,
    labels: jax.Array,
    *constants: Any,
    ignore_label: int,
    block_bytes: int | None = None,
) -> jax.Array:
    """``pixel_loss(upsampled logits, labels, *constants)``, some rows of pixels at a time.

    Reverse-mode differentiation costs one pass: the gradient of the logits is computed together
    with the sum. (Forward mode is not defined.)

    Args:
      pixel_loss: from logits ``[B, K, r, W]`` and labels ``[B, r, W]`` of any r rows to the sum of
        a loss over their pixels, a scalar. A pixel that is ignored adds 0.
      logits: ``[B, h, w, K]``, float; upsampled bilinearly (half-pixel centres).
      labels: ``[B, H, W]``, integer.
      *constants: whatever else ``pixel_loss`` takes; no gradient reaches them.
      ignore_label: a label whose pixels add 0.
      block_bytes: the size of the upsampled logits of one block; by default what suits the device.

    Returns:
      The sum, a scalar in the dtype of the logits.
    """
    parts = _parts(logits, labels, ignore_label, block_bytes)
    return _sum(partial(_of_block, pixel_loss), _planes(logits), parts, constants)


def map_pixels(
    of_pixels: PixelLoss, logits: jax.Array, labels: jax.Array, *, ignore_label: int
) -> jax.Array:
    """``of_pixels(upsampled logits, labels)``, some rows of pixels at a time.

    Not for differentiation, which would keep every block.

    Args:
      of_pixels: from logits ``[B, K, r, W]`` and labels ``[B, r, W]`` of any r rows to a value of
        each pixel, ``[B, r, W]``.
      logits: ``[B, h, w, K]``, float; upsampled bilinearly (half-pixel centres).
      labels: ``[B, H, W]``, integer.
      ignore_label: a label that may stand for rows beyond the picture.

    Returns:
      ``[B, H, W]``, in the dtype of ``of_pixels``.
    """
    planes, parts = _planes(logits), _parts(logits, labels, ignore_label, None)
    values = lax.map(lambda part: _of_block(of_pixels, *_cut(planes, part)), parts)  # [n, B, r, W]
    batch, height, width = labels.shape
    return jnp.swapaxes(values, 0, 1).reshape(batch, -1, width)[:, :height]


def _planes(logits: jax.Array) -> jax.Array:
    """The classes first, ``[B, K, h, w]``.

    A sum over them then adds whole rows of pixels, where in the last axis they would be a short sum
    for every pixel.
    """
    return jnp.moveaxis(logits, 3, 1)


def _parts(
    logits: jax.Array, labels: jax.Array, ignore_label: int, block_bytes: int | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of each block, the first row of its window, its matrix and its labels ``[n, B, r, W]``."""
    size = block_bytes or BLOCK_BYTES.get(jax.default_backend(), DEFAULT_BLOCK_BYTES)
    batch, height, width = labels.shape
    row_bytes = batch * width * logits.shape[-1] * logits.dtype.itemsize
    count = -(-height // min(max(size // row_bytes, 1), height))
    rows = -(-height // count)
    blocks = _blocks(logits.shape[1], height, rows)
    padding = len(blocks.first) * rows - height
    labels = jnp.pad(labels, ((0, 0), (0, padding), (0, 0)), constant_values=ignore_label)
    labels = jnp.swapaxes(labels.reshape(batch, -1, rows, width), 0, 1)
    return jnp.asarray(blocks.first), jnp.asarray(blocks.matrices, logits.dtype), labels


def _cut(planes: jax.Array, part: Any) -> tuple[jax.Array, ...]:
    """What ``_of_block`` takes: one part's window of the planes, its matrix and its labels."""
    first, matrix, labels = part
    return lax.dynamic_slice_in_dim(planes, first, matrix.shape[-1], axis=2), matrix, labels


def _of_block(
    of_pixels: PixelLoss, window: jax.Array, matrix: jax.Array, labels: jax.Array, *constants: Any
) -> jax.Array:
    """``of_pixels`` of ``labels [B, r, W]``, from ``window [B, K, m, w]`` and ``matrix [r, m]``."""
    wide = resize_axis(window, 3, labels.shape[2])
    # A batch of small products, one for each image and class: nothing is transposed.
    matrices = jnp.broadcast_to(matrix, (*wide.shape[:2], *matrix.shape))
    by_plane = (((3,), (2,)), ((0, 1), (0, 1)))
    rows = lax.dot_general(matrices, wide, by_plane, precision="highest")  # [B, K, r, W]
    return of_pixels(rows, labels, *constants)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum(block_loss: PixelLoss, planes: jax.Array, parts: Any, constants: Any) -> jax.Array:
    def add(total: jax.Array, part: Any) -> tuple[jax.Array, None]:
        return total + block_loss(*_cut(planes, part), *constants), None

    return lax.scan(add, jnp.zeros((), planes.dtype), parts)[0]


def _sum_and_gradient(
    block_loss: PixelLoss, planes: jax.Array, parts: Any, constants: Any
) -> tuple[jax.Array, jax.Array]:
    def add(sums: tuple[jax.Array, jax.Array], part: Any) -> tuple[Any, None]:
        total, gradient = sums
        loss, more = jax.value_and_grad(block_loss)(*_cut(planes, part), *constants)
        more += _cut(gradient, part)[0]
        gradient = lax.dynamic_update_slice_in_dim(gradient, more, part[0], axis=2)
        return (total + loss, gradient), None

    start = jnp.zeros((), planes.dtype), jnp.zeros_like(planes)
    return lax.scan(add, start, parts)[0]


def _backward(
    block_loss: PixelLoss, gradient: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, None, None]:
    return cotangent * gradient, None, None


_sum.defvjp(_sum_and_gradient, _backward)
