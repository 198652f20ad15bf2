"""Which classes are kept, and where: the shapes of a keep-mask, and how it is drawn.

A keep-mask is an array, so that one compiled step serves every draw: 1 for a class that is kept,
0 for one that is dropped. It may be

* ``[K]``: one draw for the whole batch;
* ``[B, K]``: one an example;
* ``[B, gh, gw, K]``: one a tile. The image is divided into a grid of ``gh x gw`` tiles of one size;
  position i of n (of pixels, features or logits) lies in the tile of the grid that holds its
  centre, ``floor((i + 1/2) g / n)``. Once the importance is known everything in the drop path is
  pointwise, so that a tile costs no more than a batch.

Any number of classes may be dropped at a place, as long as one is kept.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np


def check_keep(keep: jax.Array, logits_shape: tuple[int, ...]) -> None:
    """Refuse a keep-mask that does not fit logits: it might broadcast, and mean something else.

    Args:
      keep: the keep-mask.
      logits_shape: ``(B, h, w, K)``; a grid of tiles is no finer than their positions.

    Raises:
      ValueError: names the shape, and those that fit.
    """
    batch, height, width, num_classes = logits_shape
    shape = jnp.shape(keep)
    rows, grid = shape[:-1][:1], shape[1:-1]
    if (
        len(shape) not in (1, 2, 4)
        or shape[-1] != num_classes
        or any(count not in (1, batch) for count in rows)
        or any(count > most for count, most in zip(grid, (height, width), strict=False))
    ):
        raise ValueError(
            f"keep is [{num_classes}], [{batch}, {num_classes}] or [{batch}, gh, gw, "
            f"{num_classes}] with a grid of up to {height} x {width} tiles, for logits "
            f"{list(logits_shape)}; not {list(shape)}"
        )


def by_tile(keep: jax.Array) -> jax.Array:
    """A keep-mask of any shape as ``[1 or B, gh, gw, K]``; one tile where there are none."""
    return keep if keep.ndim == 4 else jnp.atleast_2d(keep)[:, None, None, :]


def at_positions(tiles: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The values of tiles at every position.

    Args:
      tiles: ``[B, gh, gw, N]``, on a grid that is no finer than the positions.
      size: ``(h, w)``.

    Returns:
      ``[B, h, w, N]``. An axis with a single tile keeps its length of 1, which broadcasts.
    """
    for axis, length in enumerate(size, start=1):
        count = tiles.shape[axis]
        if count in (1, length):
            continue
        if length % count == 0:  # a broadcast, which is never stored
            tiles = jnp.repeat(tiles, length // count, axis)
        else:
            tile = (2 * np.arange(length) + 1) * count // (2 * length)
            tiles = jnp.take(tiles, tile, axis, mode="clip", indices_are_sorted=True)
    return tiles


def draw_keep(
    key: jax.Array,
    drop_probability: float | jax.Array,
    class_weights: jax.Array,
    count: int = 1,
) -> jax.Array:
    """Draw some classes, and drop each of them with a probability (section 3.2).

    The paper draws one class for the whole batch and drops it or not. (Its authors train in four
    processes that seed alike but for what the first one has drawn before: in their runs one GPU
    drops one class, and the other three drop another.) With a larger ``count`` as many different
    classes are drawn, of which each is dropped by a coin of its own: the number that is dropped,
    ``count * p(t)`` on average, then grows smoothly with p, where one coin for all would drop the
    whole set, more rarely.

    Args:
      key: a PRNG key; for weights of more axes, keys ``[B]`` or ``[B, T]``, so that a draw depends
        on its own key alone.
      drop_probability: p(t), 0 to 1.
      class_weights: ``[K]``, ``[B, K]`` or ``[B, T, K]``, the classes' odds of being drawn first:
        ones for the paper's uniform draw, zero for a class that must not be drawn.
      count: how many classes are drawn, without replacement; fewer where fewer may be. Below K, so
        that a class is kept.

    Returns:
      The keep-mask, float32, shaped as ``class_weights``.

    Raises:
      ValueError: ``count`` is not from 1 to K - 1, or there is not a key for every draw.
    """
    _check_count(count, class_weights)
    if class_weights.ndim > 1:
        draw = partial(draw_keep, count=count)
        return jax.vmap(draw, in_axes=(0, None, 0))(key, drop_probability, class_weights)
    pick, coin = jax.random.split(key)
    odds = jnp.log(class_weights)
    drawn = jax.random.categorical(pick, odds, shape=(count,), replace=False)
    dropped = jax.random.uniform(coin, (count,)) < drop_probability
    return _keep_without(drawn, dropped & (class_weights[drawn] > 0), class_weights.shape[-1])


def draw_keep_evenly(
    key: jax.Array,
    drop_probability: float | jax.Array,
    class_weights: jax.Array,
    count: int,
    places: int,
) -> jax.Array:
    """``draw_keep`` for several places at once, which share the classes evenly (stratified).

    Over all places together ``places * count * p(t)`` classes are dropped, rounded up or down at
    random, and none a second time before all have been; each place has its share of them, rounded
    up or down. Which places come first, and in which order the classes are taken, is drawn. Seen
    for itself each place drops as many classes on average as by ``draw_keep``, with equal odds each
    class as often.

    Args:
      key: a PRNG key.
      drop_probability: p(t), 0 to 1.
      class_weights: ``[K]``, the classes' odds of being taken first; zero for never.
      count: how many classes may be dropped in one place, below K; fewer where fewer have odds.
      places: how many places there are.

    Returns:
      The keep-masks, float32 ``[places, K]``.

    Raises:
      ValueError: ``count`` is not from 1 to K - 1.
    """
    _check_count(count, class_weights)
    take, arrange, rounding = jax.random.split(key, 3)
    num_classes = class_weights.shape[-1]
    order = jax.random.categorical(
        take, jnp.log(class_weights), shape=(num_classes,), replace=False
    )
    available = jnp.sum(class_weights > 0)
    most = jnp.minimum(count, available) * places
    total = jnp.floor(drop_probability * most + jax.random.uniform(rounding)).astype(jnp.int32)
    total = jnp.minimum(total, most)  # the sum may have been rounded up
    rank = jax.random.permutation(arrange, places)
    each, more = total // places, total % places
    here = each + (rank < more)  # [places], how many are dropped there
    first = rank * each + jnp.minimum(rank, more)  # how many before, in the order of the ranks
    turn = first[:, None] + jnp.arange(count)  # [places, count]
    drawn = order[turn % jnp.maximum(available, 1)]
    dropped = jnp.arange(count) < here[:, None]
    return jax.vmap(_keep_without, in_axes=(0, 0, None))(drawn, dropped, num_classes)


def _check_count(count: int, class_weights: jax.Array) -> None:
    num_classes = class_weights.shape[-1]
    if not 1 <= count < num_classes:
        raise ValueError(f"count is 1 to {num_classes - 1}, of {num_classes} classes; not {count}")


def _keep_without(drawn: jax.Array, dropped: jax.Array, num_classes: int) -> jax.Array:
    """The keep-mask ``[K]`` without those of the drawn classes ``[n]`` that are ``dropped [n]``."""
    one_hot = jax.nn.one_hot(drawn, num_classes, dtype=jnp.float32)  # [n, K]
    return 1.0 - jnp.max(dropped[:, None] * one_hot, axis=0)


def keep_all(num_classes: int) -> jax.Array:
    """The keep-mask that drops nothing, ``[K]`` float32: what inference uses."""
    return jnp.ones(num_classes, jnp.float32)
