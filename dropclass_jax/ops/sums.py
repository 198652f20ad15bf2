"""Sums over all positions of maps, in the form that each platform is fast at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

# That a sum over positions is taken apart into: of 1, 8 and 16 the fastest.
PIECES = 16


def over_positions(f: Callable[..., jax.Array], *maps: jax.Array) -> jax.Array:
    """``f`` of maps ``[..., C]``, summed over all axes but the last.

    XLA's CPU compiler has the operand of a reduction written out first, all of it. There the maps
    are taken to pieces, so that a kernel that computes ``f`` adds them up. Compiled for any other
    platform it is the plain sum.

    Args:
      f: takes the maps, or equal parts ``[N, C]`` of them, and works position by position.
      *maps: of one shape, float32 or wider.

    Returns:
      ``[C]``.
    """

    def in_pieces(*maps: jax.Array) -> jax.Array:
        flat = [x.reshape(-1, x.shape[-1]) for x in maps]
        size = len(flat[0]) // largest_divisor(len(flat[0]), PIECES)
        starts = range(0, len(flat[0]), size)
        return of_pieces([f(*(x[i : i + size] for x in flat)) for i in starts])

    def plain(*maps: jax.Array) -> jax.Array:
        return jnp.sum(f(*maps), axis=tuple(range(maps[0].ndim - 1)))

    return lax.platform_dependent(*maps, cpu=in_pieces, default=plain)


def of_pieces(pieces: Sequence[jax.Array]) -> jax.Array:
    """Several ``[..., C]`` of one shape, summed over all of them and all axes but the last."""
    total = sum(pieces)
    total = total.reshape(-1, total.shape[-1])
    # A product with ones: a reduction would take the sums above into itself.
    return jnp.ones(len(total), total.dtype) @ total


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor that is not above the limit."""
    return next(n for n in range(min(number, limit), 0, -1) if number % n == 0)
