"""DropClass: what one class contributes to the features, and the features without it.

Chu, Kim, Han, "Learning Debiased and Disentangled Representations for Semantic Segmentation",
NeurIPS 2021 (arXiv 2111.00531), section 3.

Everything here sees features, a classifier and a keep-mask (see ``keep_masks``), and knows nothing
of the backbone. The classifier is any differentiable function from features ``[B, h, w, C]`` to
logits ``[B, h, w, K]``: a bound linen module, an nnx module, a lambda over plain arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from dropclass_jax.keep_masks import at_positions, by_tile, check_keep

# What a training loop of one's own needs beside what is below.
from dropclass_jax.keep_masks import draw_keep as draw_keep
from dropclass_jax.keep_masks import draw_keep_evenly as draw_keep_evenly
from dropclass_jax.keep_masks import keep_all as keep_all

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

    Raises:
      ValueError: an index that is known when traced is that of no class.
    """

    def class_score(features: jax.Array) -> jax.Array:
        logits = classifier(features)
        if isinstance(class_index, int) and not 0 <= class_index < logits.shape[-1]:
            raise ValueError(f"class {class_index} is none of the {logits.shape[-1]}")
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

    Raises:
      ValueError: the shape of ``keep`` is another.
    """
    num_classes = jax.eval_shape(classifier, features).shape[-1]
    check_keep(keep, (*features.shape[:3], num_classes))
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

    Raises:
      ValueError: the shape of ``importance`` or of ``keep`` is another.
    """
    if importance.ndim != 2 or importance.shape[1] != features.shape[-1]:
        raise ValueError(f"importance is [K, {features.shape[-1]}], not {list(importance.shape)}")
    check_keep(keep, (*features.shape[:3], len(importance)))
    shares = _shares(keep, features.dtype)  # [1 or B, gh, gw, K]
    importance = importance.astype(features.dtype)
    size = features.shape[1:3]
    for_positive = at_positions(shares @ nn.relu(importance), size)  # [1 or B, h or 1, w or 1, C]
    for_negative = at_positions(shares @ nn.relu(-importance), size)
    return nn.relu(features) * for_positive + nn.relu(-features) * for_negative


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
