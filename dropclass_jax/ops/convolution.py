"""Convolutions in the form that each platform is fast at, with the gradients of its own.

XLA differentiates a convolution into convolutions. Its CPU backend has a fast library for most, but
not for the gradients of kernels, nor for convolutions over a dilated input (the input's gradient at
stride 2), which take 1.5 to 5 times as long as need be. On a CPU those are written here as what is
fast there: products of matrices, and small convolutions in place of a dilated one. They are the
same sums, rounded otherwise. Compiled for any other platform a gradient is what XLA's own rules
give.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

# A policy of rematerialisation sees names, but not into a function with a derivative of its own.
PRODUCT = "pointwise_product"
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_SAME = ((1, 1), (1, 1))


def pointwise(x: jax.Array, kernel: jax.Array, *, precision: Any = None) -> jax.Array:
    """A 1x1 convolution, ``[B, H, W, C]`` by ``[1, 1, C, O]``, as a product of two matrices.

    It is differentiable in reverse as often as one likes. Its result bears the name ``PRODUCT``,
    by which rematerialisation may keep it.
    """
    return checkpoint_name(_pointwise(x, kernel, precision), PRODUCT)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _pointwise(x: jax.Array, kernel: jax.Array, precision: Any) -> jax.Array:
    return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())), precision=precision)


def _pointwise_backward(
    precision: Any, kept: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The gradients as products of two axes.

    XLA's CPU backend copies what a gradient over three contracts, twice the time. The axes are
    joined here and not before the forward product: else what is kept for this is another array
    than the map that others keep.
    """
    x, kernel = kept
    flat = g.reshape(-1, g.shape[-1])  # [B * H * W, O]
    to_x = lax.dot_general(flat, kernel[0, 0], (((1,), (1,)), ((), ())), precision=precision)
    to_kernel = lax.platform_dependent(
        x.reshape(-1, x.shape[-1]),
        flat,
        cpu=partial(_product, precision=precision),
        default=partial(_plain_product, precision=precision),
    )
    return to_x.reshape(x.shape), to_kernel[None, None]


_pointwise.defvjp(
    lambda x, kernel, precision: (_pointwise(x, kernel, precision), (x, kernel)),
    _pointwise_backward,
)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv3x3(x: jax.Array, kernel: jax.Array, stride: int, precision: Any = None) -> jax.Array:
    """A 3x3 convolution with a padding of 1, differentiable in reverse as often as one likes.

    Args:
      x: ``[B, H, W, C]``.
      kernel: ``[3, 3, C, O]``.
      stride: 1 or 2.
      precision: of the products, as of ``jax.lax``.

    Returns:
      ``[B, ceil(H / stride), ceil(W / stride), O]``.
    """
    return _convolution(x, kernel, stride=stride, precision=precision)


def _forward(x: jax.Array, kernel: jax.Array, stride: int, precision: Any) -> Any:
    return conv3x3(x, kernel, stride, precision), (x, kernel)


def _backward(stride: int, precision: Any, kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    by_platform = {
        "cpu": partial(_gradients_on_a_cpu, stride=stride, precision=precision),
        "default": partial(_gradients, stride=stride, precision=precision),
    }
    return lax.platform_dependent(*kept, g, **by_platform)


conv3x3.defvjp(_forward, _backward)


def _convolution(
    x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: Any = _SAME, precision: Any
) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=_DIMENSIONS,
        precision=precision,
    )


def _gradients(
    x: jax.Array, kernel: jax.Array, g: jax.Array, *, stride: int, precision: Any
) -> tuple[jax.Array, jax.Array]:
    """Those that XLA's own rules give."""
    plain = partial(_convolution, stride=stride, precision=precision)
    (dx,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(g)
    (dk,) = jax.linear_transpose(partial(plain, x), kernel)(g)
    return dx, dk


def _gradients_on_a_cpu(
    x: jax.Array, kernel: jax.Array, g: jax.Array, *, stride: int, precision: Any
) -> tuple[jax.Array, jax.Array]:
    """Each in the form that was measured to be the fastest for its channels and stride."""
    inputs, outputs = kernel.shape[2:]
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    if stride == 1:
        by_products = _kernel_at_once if inputs > 4 * outputs else _kernel_by_rows
        return _convolution(g, turned, precision=precision), by_products(x, g, precision)
    by_products = _kernel_by_phases if inputs >= outputs > 16 else _kernel_by_taps
    return _input_by_phases(x.shape, turned, g, precision), by_products(x, g, precision)


def _beside(x: jax.Array) -> jax.Array:
    """``[B, H, W, C]`` to ``[B, H, W, 3C]``: every pixel between its neighbours of the row."""
    width = x.shape[2]
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    return jnp.concatenate([x[:, :, i : i + width] for i in range(3)], axis=-1)


def _product(a: jax.Array, b: jax.Array, precision: Any) -> jax.Array:
    """``[..., m]`` and ``[..., n]`` to ``[m, n]``, summed over all positions, as a CPU likes it.

    XLA's CPU backend takes up to 4 times as long where m is the larger one.
    """
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    if a.shape[1] > b.shape[1]:
        # The barrier, or the compiler would turn the product back.
        return lax.optimization_barrier(_plain_product(b, a, precision)).T
    return _plain_product(a, b, precision)


def _plain_product(a: jax.Array, b: jax.Array, precision: Any) -> jax.Array:
    """``[N, m]`` and ``[N, n]`` to ``[m, n]``."""
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), precision=precision)


def _kernel_by_rows(x: jax.Array, g: jax.Array, precision: Any) -> jax.Array:
    """The kernel's gradient at stride 1, a product for each of its rows."""
    height, channels = x.shape[1], x.shape[3]
    x, g = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0))), _beside(g)
    rows = [_product(x[:, i : i + height], g, precision) for i in range(3)]
    # [3, C, 3 * O], where a tap to the left meets the neighbour to the right
    return jnp.stack(rows).reshape(3, channels, 3, -1).swapaxes(1, 2)[:, ::-1]


def _kernel_at_once(x: jax.Array, g: jax.Array, precision: Any) -> jax.Array:
    """The kernel's gradient at stride 1, one product: for few outputs, whose copies are small."""
    height, channels = x.shape[1], x.shape[3]
    g = jnp.pad(_beside(g), ((0, 0), (1, 1), (0, 0), (0, 0)))
    around = jnp.concatenate([g[:, i : i + height] for i in range(3)], axis=-1)  # [B, H, W, 9 * O]
    taps = _product(x, around, precision).reshape(channels, 3, 3, -1)
    return jnp.moveaxis(taps, 0, 2)[::-1, ::-1]


def _kernel_by_phases(x: jax.Array, g: jax.Array, precision: Any) -> jax.Array:
    """The kernel's gradient at stride 2, a product for each phase of the input.

    An even row is seen by the middle tap alone; an odd one by the last tap of the output above it
    and the first tap of the one below. Columns likewise.
    """
    height, width = g.shape[1:3]
    missing = 2 * height - x.shape[1], 2 * width - x.shape[2]  # of the last pairs
    x = jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
    g = jnp.pad(g, ((0, 0), (0, 1), (0, 1), (0, 0)))
    taps = {}
    for i in range(2):
        for j in range(2):
            seen = [(a, b) for a in ((1,), (0, 2))[i] for b in ((1,), (0, 2))[j]]
            starts = [(int(a == 0), int(b == 0)) for a, b in seen]
            gradients = [g[:, a : a + height, b : b + width] for a, b in starts]
            product = _product(x[:, i::2, j::2], jnp.concatenate(gradients, axis=-1), precision)
            taps |= zip(seen, jnp.split(product, len(seen), axis=1), strict=True)
    return jnp.stack([jnp.stack([taps[i, j] for j in range(3)]) for i in range(3)])


def _kernel_by_taps(x: jax.Array, g: jax.Array, precision: Any) -> jax.Array:
    """The kernel's gradient at stride 2, a product for each tap, or for a row of few channels."""
    channels = x.shape[3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    batch, height, width, outputs = g.shape

    def seen_by(i: int, j: int) -> jax.Array:
        limits = batch, i + 2 * height - 1, j + 2 * width - 1, channels
        return lax.slice(x, (0, i, j, 0), limits, (1, 2, 2, 1))

    taps = [[seen_by(i, j) for j in range(3)] for i in range(3)]
    if channels <= 16:
        taps = [[jnp.concatenate(row, axis=-1)] for row in taps]
    products = [_product(tap, g, precision) for row in taps for tap in row]
    return jnp.stack(products).reshape(3, 3, channels, outputs)


def _input_by_phases(
    shape: tuple[int, ...], turned: jax.Array, g: jax.Array, precision: Any
) -> jax.Array:
    """The input's gradient at stride 2: even and odd rows and columns have their own taps.

    An even one is seen by the middle tap alone, an odd one by both outer taps.
    """
    batch, height, width, channels = shape
    taps, padding = (slice(1, 2), slice(0, None, 2)), ((0, 0), (0, 1))
    rows = []
    for i in range(2):
        columns = [
            _convolution(
                g,
                turned[taps[i], taps[j]],
                padding=(padding[i], padding[j]),
                precision=precision,
            )
            for j in range(2)
        ]
        rows.append(jnp.stack(columns, axis=3))
    phases = jnp.stack(rows, axis=2)  # [B, h, 2, w, 2, C]
    dx = phases.reshape(batch, 2 * g.shape[1], 2 * g.shape[2], channels)
    return dx[:, :height, :width]
