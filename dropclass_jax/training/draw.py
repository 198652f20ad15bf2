"""Which classes a step drops, and where: a function of (seed, step, row, tile) alone."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dropclass_jax.keep_masks import draw_keep, draw_keep_evenly
from dropclass_jax.ops import axis

DRAWN_PER = ("batch", "example", "tile")


class Draw(NamedTuple):
    """How the dropped classes are drawn.

    Attributes:
      class_odds: ``[K]``, each class's odds of being drawn; ones in the paper.
      per: one draw for each ``'batch'``, ``'example'`` or ``'tile'``.
      tile: the height and width of a tile in pixels, where it divides the crop; see ``grid``.
      count: how many classes are drawn at once, 1 in the paper; see ``keep_masks.draw_keep``.
      present_only: draw only from classes that the (whole) batch holds; per example or tile, from
        those of the example.
      stratify: the tiles of an image, or the examples of a step, share the classes evenly; see
        ``keep_masks.draw_keep_evenly``. Not for examples with ``present_only``, whose classes
        differ, nor for a single draw a batch.
    """

    class_odds: jax.Array
    per: str = "batch"
    tile: int = 32
    count: int = 1
    present_only: bool = False
    stratify: bool = False


def grid(size: tuple[int, int], tile: int) -> tuple[int, int]:
    """How many tiles there are of a crop ``(H, W)``, ``(gh, gw)``.

    They share the crop equally, so that one of ``tile`` pixels that does not divide it becomes a
    little smaller, and there are no slivers at its borders.
    """
    height, width = size
    return -(-height // tile), -(-width // tile)


def draw_for_batch(
    draw: Draw,
    key: jax.Array,
    drop_probability: jax.Array,
    labels: jax.Array,
    axis_name: str | None = None,
) -> jax.Array:
    """The keep-mask of one step.

    Args:
      draw: how to draw.
      key: the step's PRNG key, equal on all devices.
      drop_probability: p(t).
      labels: ``[B, H, W]``, this device's part.
      axis_name: the axis of the devices.

    Returns:
      ``[K]``, equal on all devices; ``[B, K]`` when drawn per example; ``[B, gh, gw, K]`` per tile.
    """
    odds = jnp.asarray(draw.class_odds, jnp.float32)
    num_classes, batch = odds.shape[0], labels.shape[0]
    if draw.present_only:
        classes = jnp.arange(num_classes)
        present = lax.map(lambda c: jnp.any(labels == c, axis=(1, 2)), classes).T  # [B, K]
        if draw.per == "batch":
            present = axis.psum(jnp.sum(present, axis=0), axis_name) > 0  # [K]
        odds = odds * present
    if draw.per == "batch":
        return draw_keep(key, drop_probability, odds, draw.count)

    rows = axis.example_rows(batch, axis_name)
    if draw.per == "example" and draw.stratify:
        devices = axis.psum(1, axis_name)
        everybody = draw_keep_evenly(key, drop_probability, odds, draw.count, devices * batch)
        return everybody[rows]
    keys = _fold_in_each(key, rows)  # [B]
    odds = jnp.broadcast_to(odds, (batch, num_classes))
    if draw.per == "example":
        return draw_keep(keys, drop_probability, odds, draw.count)

    gh, gw = grid(labels.shape[1:], draw.tile)
    if draw.stratify:
        keep = jax.vmap(
            lambda key, odds: draw_keep_evenly(key, drop_probability, odds, draw.count, gh * gw)
        )(keys, odds)
    else:
        keys = jax.vmap(_fold_in_each, in_axes=(0, None))(keys, jnp.arange(gh * gw))  # [B, T]
        odds = jnp.broadcast_to(odds[:, None], (batch, gh * gw, num_classes))
        keep = draw_keep(keys, drop_probability, odds, draw.count)
    return keep.reshape(batch, gh, gw, num_classes)


def _fold_in_each(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """A key for each of some numbers, ``[N]``."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)
