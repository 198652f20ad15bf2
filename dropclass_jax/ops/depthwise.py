"""Depthwise convolutions as sums of shifted products, where that is what a CPU is fast at.

XLA's CPU backend runs a convolution of as many groups as channels in a loop over the groups. Every
output is the sum of a few inputs, each times a weight of its channel: that many products of whole
maps, in one kernel. Compiled for any other platform it is the plain convolution, and so are its
gradients.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from dropclass_jax.ops.fusion import computed_once
from dropclass_jax.ops.sums import PIECES, largest_divisor, of_pieces


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def depthwise(
    x: jax.Array, kernel: jax.Array, stride: int, dilation: int, precision: Any = None
) -> jax.Array:
    """A depthwise convolution of odd size, padded by ``dilation * (size // 2)`` on every side.

    Differentiable in reverse as often as one likes.

    Args:
      x: ``[B, H, W, C]``.
      kernel: ``[k, k, 1, C]``.
      stride: of the outputs.
      dilation: of the kernel.
      precision: of the products on other platforms, as of ``jax.lax``; on a CPU they are exact.

    Returns:
      ``[B, ceil(H / stride), ceil(W / stride), C]``.
    """
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_shifted, stride=stride, dilation=dilation),
        default=partial(_grouped, stride=stride, dilation=dilation, precision=precision),
    )


def _forward(x: jax.Array, kernel: jax.Array, *settings: Any) -> Any:
    return depthwise(x, kernel, *settings), (x, kernel)


def _backward(
    stride: int, dilation: int, precision: Any, kept: Any, g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def by_rule(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        plain = partial(_grouped, stride=stride, dilation=dilation, precision=precision)
        (dx,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(g)
        (dk,) = jax.linear_transpose(lambda kernel: plain(x, kernel), kernel)(g)
        return dx, dk

    def on_a_cpu(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        dx = _input_gradient(x.shape, kernel, g, stride, dilation)
        return dx, _kernel_gradient(x, kernel, g, stride, dilation)

    return lax.platform_dependent(*kept, g, cpu=on_a_cpu, default=by_rule)


depthwise.defvjp(_forward, _backward)


def _grouped(
    x: jax.Array, kernel: jax.Array, *, stride: int, dilation: int, precision: Any
) -> jax.Array:
    padding = dilation * (kernel.shape[0] // 2)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
        precision=precision,
    )


def _taps(kernel: jax.Array) -> list[tuple[int, int]]:
    return list(itertools.product(range(kernel.shape[0]), range(kernel.shape[1])))


def _padded(x: jax.Array, padding: int) -> jax.Array:
    """With zeros all around; once, or every product would look for its edges."""
    around = (padding, padding)
    return computed_once(jnp.pad(x, ((0, 0), around, around, (0, 0))))


def _seen(x: jax.Array, rows: int, columns: int, size: tuple[int, int], stride: int) -> jax.Array:
    """Every ``stride``-th position from ``(rows, columns)`` on: ``[B, *size, C]``."""
    height, width = size
    stop = rows + stride * (height - 1) + 1, columns + stride * (width - 1) + 1
    start = (0, rows, columns, 0)
    return lax.slice(x, start, (x.shape[0], *stop, x.shape[3]), (1, stride, stride, 1))


def _shifted(x: jax.Array, kernel: jax.Array, *, stride: int, dilation: int) -> jax.Array:
    size = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    x = _padded(x, dilation * (kernel.shape[0] // 2))
    return sum(
        _seen(x, i * dilation, j * dilation, size, stride) * kernel[i, j, 0]
        for i, j in _taps(kernel)
    )


def _kernel_gradient(
    x: jax.Array, kernel: jax.Array, g: jax.Array, stride: int, dilation: int
) -> jax.Array:
    """For every tap a sum over all positions, in pieces, which are read where they are."""
    x = _padded(x, dilation * (kernel.shape[0] // 2))
    wide = jnp.promote_types(x.dtype, jnp.float32)
    batch, height, width, _ = g.shape
    parts = largest_divisor(batch, PIECES)
    examples, rows = batch // parts, height // largest_divisor(height, PIECES // parts)

    def tap(i: int, j: int) -> jax.Array:
        seen = _seen(x, i * dilation, j * dilation, (height, width), stride)
        pieces = [
            (slice(b, b + examples), slice(row, row + rows))
            for b in range(0, batch, examples)
            for row in range(0, height, rows)
        ]
        return of_pieces([seen[piece].astype(wide) * g[piece] for piece in pieces])

    sums = [tap(i, j) for i, j in _taps(kernel)]
    return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _input_gradient(
    shape: tuple[int, ...], kernel: jax.Array, g: jax.Array, stride: int, dilation: int
) -> jax.Array:
    """Inputs of the same remainder by the stride are seen by the same taps."""
    batch, height, width, channels = shape
    padding = dilation * (kernel.shape[0] // 2)
    size = -(-height // stride), -(-width // stride)
    g = _padded(g, padding)

    def phase(p: int, q: int) -> jax.Array:
        total = jnp.zeros((batch, *size, channels), g.dtype)
        for i, j in _taps(kernel):
            # The output that sees input (stride * a + p) by tap i is that of a + row.
            row, row_left = divmod(p + padding - i * dilation, stride)
            column, column_left = divmod(q + padding - j * dilation, stride)
            if row_left == column_left == 0:
                seen = _seen(g, padding + row, padding + column, size, 1)
                total += seen * kernel[i, j, 0]
        return total

    if stride == 1:
        return phase(0, 0)
    rows = [jnp.stack([phase(p, q) for q in range(stride)], axis=3) for p in range(stride)]
    phases = jnp.stack(rows, axis=2)  # [B, h, stride, w, stride, C]
    dx = phases.reshape(batch, stride * size[0], stride * size[1], channels)
    return dx[:, :height, :width]
