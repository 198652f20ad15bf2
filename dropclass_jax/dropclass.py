"""DropClass: what one class contributes to the features, and the features without it.

Chu, Kim, Han, "Learning Debiased and Disentangled Representations for Semantic Segmentation",
NeurIPS 2021 (arXiv 2111.00531), section 3.

Everything here sees features, a classifier and a keep-mask, and knows nothing of the backbone. The
classifier is any differentiable function from features ``[B, h, w, C]`` to logits
``[B, h, w, K]``: a bound linen module, an nnx module, a lambda over plain arrays.

The keep-mask is an array, so that one compiled step serves every draw: 1 for a class that is kept,
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

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Classifier = Callable[[jax.Array], jax.Array]

# The settings of ``DropClass`` and their values, the default first.
SETTINGS: dict[str, tuple[Any, ...]] = {
    "importance": ("shared", "position", "uniform"),
    "stop_importance_gradient": (False, True),
    "refine": ("block", "none"),
    "refine_init": ("default", "identity"),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise ``ValueError``, which names setting and value, unless ``DropClass`` takes them."""
    for name, value in settings.items():
        if name not in SETTINGS:
            raise ValueError(f"{name} is none of {', '.join(SETTINGS)}")
        if value not in SETTINGS[name]:
            allowed = " or ".join(map(repr, SETTINGS[name]))
            raise ValueError(f"{name} is {allowed}, not {value!r}")


# Standard deviation and mean of max(x, 0) for a normal x of mean 0 and variance 1.
_RECTIFIED_NORMAL = (math.sqrt((1 - 1 / math.pi) / 2), 1 / math.sqrt(2 * math.pi))


def importance(
    classifier: Classifier, features: jax.Array, class_index: int | jax.Array
) -> jax.Array:
    """The importance of every feature for one class, ``S_c = d(sum of y_c) / dA``.

    The Grad-CAM gradient, kept per position (section 3.1).

    Args:
      classifier: features ``[B, h, w, C]`` -> logits ``[B, h, w, K]``.
      features: ``[B, h, w, C]``, float.
      class_index: the class c, 0 to K - 1; may be traced.

    Returns:
      ``[B, h, w, C]``, the features' dtype.
    """

    def class_score(features: jax.Array) -> jax.Array:
        logits = classifier(features)
        return jnp.sum(logits * jax.nn.one_hot(class_index, logits.shape[-1], dtype=logits.dtype))

    return jax.grad(class_score)(features)


def shared_importance(
    classifier: Classifier, num_channels: int, dtype: Any = jnp.float32
) -> jax.Array:
    """The importance of every class for a classifier that is affine in single positions.

    Such a classifier (a 1x1 convolution) has the same gradient at every position and for every
    feature value, so one position tells all of it: K gradients of ``[C]`` instead of K maps.

    Args:
      classifier: features ``[B, h, w, C]`` -> logits ``[B, h, w, K]``, affine in the C features of
        one position. This is not checked; ``average_features`` is right for any classifier.
      num_channels: C.
      dtype: the dtype to differentiate in.

    Returns:
      ``[K, C]``.
    """

    def logits_at_one_position(features: jax.Array) -> jax.Array:  # [C] -> [K]
        return classifier(features[None, None, None, :])[0, 0, 0]

    anywhere = jnp.zeros(num_channels, dtype)
    num_classes = jax.eval_shape(logits_at_one_position, anywhere).shape[0]

    def importance_of(one_hot: jax.Array) -> jax.Array:
        return jax.grad(lambda features: logits_at_one_position(features) @ one_hot)(anywhere)

    return jax.vmap(importance_of)(jnp.eye(num_classes, dtype=dtype))


def class_features(features: jax.Array, importance: jax.Array) -> jax.Array:
    """The features that speak for one class, ``A_c = relu(S_c * A)`` (section 3.1).

    Args:
      features: ``[B, h, w, C]``.
      importance: anything that broadcasts to ``[B, h, w, C]``.

    Returns:
      ``[B, h, w, C]``.
    """
    return nn.relu(importance * features)


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


def _shares(keep: jax.Array, dtype: Any) -> jax.Array:
    """A keep-mask -> ``[1 or B, gh, gw, K]`` weights that sum to one."""
    keep = by_tile(keep).astype(dtype)
    return keep / jnp.sum(keep, axis=-1, keepdims=True)


def average_features(
    features: jax.Array, classifier: Classifier, keep: jax.Array, *, stop_gradient: bool = False
) -> jax.Array:
    """The mean of the kept classes' features, for any classifier (section 3.2).

    ``A_avg = sum_c keep_c A_c / sum_c keep_c``, the classes folded in one at a time. The backward
    pass computes each class's map again, so that memory does not grow with K.

    Args:
      features: ``[B, h, w, C]``, of any sign.
      classifier: features -> logits ``[B, h, w, K]``, differentiable.
      keep: ``[K]``, ``[B, K]`` or ``[B, gh, gw, K]``; at least one class is kept everywhere.
      stop_gradient: hold the importance constant in the backward pass. The paper's method, and the
        default, differentiates through it.

    Returns:
      ``[B, h, w, C]``.
    """
    shares = _shares(keep, features.dtype)  # [1 or B, gh, gw, K]

    @jax.checkpoint
    def add_class(total: jax.Array, class_index: jax.Array) -> tuple[jax.Array, None]:
        weights = importance(classifier, features, class_index)
        if stop_gradient:
            weights = lax.stop_gradient(weights)
        share = at_positions(shares[..., class_index, None], features.shape[1:3])
        return total + share * class_features(features, weights), None

    total, _ = lax.scan(add_class, jnp.zeros_like(features), jnp.arange(shares.shape[-1]))
    return total


def average_features_shared(
    features: jax.Array, importance: jax.Array, keep: jax.Array
) -> jax.Array:
    """``average_features`` for an importance that is the same everywhere, without the K maps.

    For any sign of A, ``relu(S A) = relu(S) relu(A) + relu(-S) relu(-A)``, so the mean over the
    classes is two vectors of C weights (a tile), whatever K is.

    Args:
      features: ``[B, h, w, C]``, of any sign.
      importance: ``[K, C]``, as ``shared_importance`` gives it.
      keep: ``[K]``, ``[B, K]`` or ``[B, gh, gw, K]``.

    Returns:
      ``[B, h, w, C]``.
    """
    shares = _shares(keep, features.dtype)  # [1 or B, gh, gw, K]
    importance = importance.astype(features.dtype)
    size = features.shape[1:3]
    for_positive = at_positions(shares @ nn.relu(importance), size)  # [1 or B, h or 1, w or 1, C]
    for_negative = at_positions(shares @ nn.relu(-importance), size)
    return nn.relu(features) * for_positive + nn.relu(-features) * for_negative


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
    """
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
    """
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


def _keep_without(drawn: jax.Array, dropped: jax.Array, num_classes: int) -> jax.Array:
    """The keep-mask ``[K]`` without those of the drawn classes ``[n]`` that are ``dropped [n]``."""
    one_hot = jax.nn.one_hot(drawn, num_classes, dtype=jnp.float32)  # [n, K]
    return 1.0 - jnp.max(dropped[:, None] * one_hot, axis=0)


def keep_all(num_classes: int) -> jax.Array:
    """The keep-mask that drops nothing, ``[K]`` float32: what inference uses."""
    return jnp.ones(num_classes, jnp.float32)


def identity_kernel(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """The initial kernel ``[1, 1, C, C]`` of a convolution that changes nothing."""
    return jnp.eye(shape[-1], dtype=dtype).reshape(shape)


class DropClass(nn.Module):
    """Features without the dropped class: average, then refine (section 3.2).

    ``A_drop = relu(BN(conv1x1(A_avg)))``, C to C channels. The caller classifies the result with
    the same classifier.

    Attributes:
      conv: constructor of a convolution, called as ``conv(C, 1, use_bias=True, name=...)``; see
        ``models.layers.Layers``.
      norm: constructor of a batch norm, called as ``norm(name=...)(x, train)``.
      importance: ``'shared'`` for a 1x1 classifier (no cost that grows with K), ``'position'`` for
        any: see ``average_features``. For a 1x1 convolution both are its kernel's columns.
        ``'uniform'`` is 1 for every class and feature: no class has features of its own, so that
        dropping one leaves ``relu(A)`` and is felt in the loss alone (an ablation).
      stop_importance_gradient: hold the importance constant in the backward pass.
      refine: ``'block'``, or ``'none'`` to classify ``A_avg`` as it is (an ablation).
      refine_init: ``'default'``, what ``conv`` and ``norm`` start from; or ``'identity'``, which
        lets the drop path start from the plain one. The convolution then begins as the identity,
        the norm with the deviation and mean of a rectified normal variable as scale and bias
        (0.584 and 0.399). Batch statistics take away whatever factor the average has put on a
        channel, so that for features which are such variables, as ReLU makes them of a norm's
        output before training, ``relu(BN(A_avg))`` is A itself, at the first step in training. For
        other features, as a trained network's, it is A up to a shift and a factor of each channel,
        cut off at 0. This holds for channels that some class has a positive weight for (the average
        knows no others), whose average varies by more than the norm's epsilon: not from a
        classifier that starts at N(0, 0.001). The running statistics, which inference uses, are
        yet to be learned, as any norm's.
      average: what ``'position'`` averages with: ``average_features``, or a function that takes and
        returns the same.
    """

    conv: Callable[..., Callable[[jax.Array], jax.Array]]
    norm: Callable[..., Callable[[jax.Array, bool], jax.Array]]
    importance: str = "shared"
    stop_importance_gradient: bool = False
    refine: str = "block"
    refine_init: str = "default"
    average: Callable[..., jax.Array] = average_features

    @nn.compact
    def __call__(
        self, features: jax.Array, classifier: Classifier, keep: jax.Array, train: bool = False
    ) -> jax.Array:
        """``[B, h, w, C]`` features -> ``[B, h, w, C]`` refined features of the kept classes."""
        check_settings({name: getattr(self, name) for name in SETTINGS})
        channels = features.shape[-1]
        if self.importance == "shared":
            weights = shared_importance(classifier, channels, features.dtype)
            if self.stop_importance_gradient:
                weights = lax.stop_gradient(weights)
            average = average_features_shared(features, weights, keep)
        elif self.importance == "position":
            average = self.average(
                features, classifier, keep, stop_gradient=self.stop_importance_gradient
            )
        else:
            average = nn.relu(features)
        if self.refine == "none":
            return average
        conv_settings, norm_settings = {}, {}
        if self.refine_init == "identity":
            conv_settings["kernel_init"] = identity_kernel
            norm_settings["start"] = _RECTIFIED_NORMAL
        conv = self.conv(channels, 1, use_bias=True, name="conv", **conv_settings)
        norm = self.norm(name="norm", **norm_settings)
        return nn.relu(norm(conv(average), train))
