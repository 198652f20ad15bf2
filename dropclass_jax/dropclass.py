"""DropClass: what one class contributes to the features, and the features without it.

Chu, Kim, Han, "Learning Debiased and Disentangled Representations for Semantic Segmentation",
NeurIPS 2021 (arXiv 2111.00531), section 3.

Everything here sees features, a head and a keep-mask, and knows nothing of the backbone. The head
is any differentiable function from features ``[B, h, w, C]`` to logits ``[B, h, w, K]``: a bound
linen module, an nnx module, a lambda over plain arrays.

The keep-mask is an array, ``[K]`` for one draw for the whole batch or ``[B, K]`` for one draw an
example, so that one compiled step serves every draw. It is 1 for a class that stays, 0 for the
class that is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Head = Callable[[jax.Array], jax.Array]

IMPORTANCES = ("shared", "position", "uniform")
REFINES = ("block", "none")
REFINE_INITS = ("default", "identity")
_CHOICES = {"importance": IMPORTANCES, "refine": REFINES, "refine_init": REFINE_INITS}

# Standard deviation and mean of max(x, 0) for a normal x of mean 0 and variance 1.
_RECTIFIED_NORMAL = (math.sqrt((1 - 1 / math.pi) / 2), 1 / math.sqrt(2 * math.pi))


def importance(head: Head, features: jax.Array, class_index: int | jax.Array) -> jax.Array:
    """The importance of every feature for one class, ``S_c = d(sum of y_c) / dA``.

    The Grad-CAM gradient, kept per position (section 3.1).

    Args:
      head: features ``[B, h, w, C]`` -> logits ``[B, h, w, K]``.
      features: ``[B, h, w, C]``, float.
      class_index: the class c, 0 to K - 1; may be traced.

    Returns:
      ``[B, h, w, C]``, the features' dtype.
    """

    def class_score(features: jax.Array) -> jax.Array:
        logits = head(features)
        return jnp.sum(logits * jax.nn.one_hot(class_index, logits.shape[-1], dtype=logits.dtype))

    return jax.grad(class_score)(features)


def shared_importance(head: Head, num_channels: int, dtype: Any = jnp.float32) -> jax.Array:
    """The importance of every class for a head that is affine and looks at one position.

    Such a head (a 1x1 convolution) has the same gradient at every position and for every feature
    value, so one position tells all of it: K gradients of ``[C]`` instead of K maps.

    Args:
      head: features ``[B, h, w, C]`` -> logits ``[B, h, w, K]``, affine in the C features of one
        position. This is not checked; ``average_features`` is right for any head.
      num_channels: C.
      dtype: the dtype to differentiate in.

    Returns:
      ``[K, C]``.
    """

    def logits_at_one_position(features: jax.Array) -> jax.Array:  # [C] -> [K]
        return head(features[None, None, None, :])[0, 0, 0]

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


def _keep_per_example(keep: jax.Array, dtype: Any) -> jax.Array:
    """``[K]`` or ``[B, K]`` -> ``[1 or B, K]`` weights that sum to one."""
    keep = jnp.atleast_2d(keep).astype(dtype)
    return keep / jnp.sum(keep, axis=-1, keepdims=True)


def average_features(
    features: jax.Array, head: Head, keep: jax.Array, *, stop_gradient: bool = False
) -> jax.Array:
    """The mean of the kept classes' features, for any head (section 3.2).

    ``A_avg = sum_c keep_c A_c / sum_c keep_c``, the classes folded in one at a time. The backward
    pass computes each class's map again, so that memory does not grow with K.

    Args:
      features: ``[B, h, w, C]``, of any sign.
      head: features -> logits ``[B, h, w, K]``, differentiable.
      keep: ``[K]`` or ``[B, K]``, 1 keeps a class; at least one class of each row is kept.
      stop_gradient: hold the importance constant in the backward pass. The paper's method, and the
        default, differentiates through it.

    Returns:
      ``[B, h, w, C]``.
    """
    share = _keep_per_example(keep, features.dtype)  # [1 or B, K]

    @jax.checkpoint
    def add_class(total: jax.Array, class_index: jax.Array) -> tuple[jax.Array, None]:
        weights = importance(head, features, class_index)
        if stop_gradient:
            weights = lax.stop_gradient(weights)
        return total + share[:, class_index, None, None, None] * class_features(
            features, weights
        ), None

    total, _ = lax.scan(add_class, jnp.zeros_like(features), jnp.arange(share.shape[-1]))
    return total


def average_features_shared(
    features: jax.Array, importance: jax.Array, keep: jax.Array
) -> jax.Array:
    """``average_features`` for an importance that is the same everywhere, without the K maps.

    For any sign of A, ``relu(S A) = relu(S) relu(A) + relu(-S) relu(-A)``, so the mean over the
    classes is two vectors of C weights, whatever K is.

    Args:
      features: ``[B, h, w, C]``, of any sign.
      importance: ``[K, C]``, as ``shared_importance`` gives it.
      keep: ``[K]`` or ``[B, K]``.

    Returns:
      ``[B, h, w, C]``.
    """
    share = _keep_per_example(keep, features.dtype)  # [1 or B, K]
    importance = importance.astype(features.dtype)
    for_positive = (share @ nn.relu(importance))[:, None, None, :]  # [1 or B, 1, 1, C]
    for_negative = (share @ nn.relu(-importance))[:, None, None, :]
    return nn.relu(features) * for_positive + nn.relu(-features) * for_negative


def draw_keep(
    key: jax.Array, drop_probability: float | jax.Array, class_weights: jax.Array
) -> jax.Array:
    """Draw one class and drop it with a probability, else nothing (section 3.2).

    Args:
      key: a PRNG key; for ``[B, K]`` weights, B keys, so that a row depends on its own key alone.
      drop_probability: p(t), 0 to 1.
      class_weights: ``[K]`` or ``[B, K]``, the classes' odds of being the one drawn: ones for the
        paper's uniform draw, zero for a class that must not be drawn. A row of zeros drops nothing.

    Returns:
      The keep-mask, float32, shaped as ``class_weights``.
    """
    if class_weights.ndim == 2:
        return jax.vmap(draw_keep, in_axes=(0, None, 0))(key, drop_probability, class_weights)
    pick, coin = jax.random.split(key)
    z = jax.random.categorical(pick, jnp.log(class_weights))
    dropped = (jax.random.uniform(coin) < drop_probability) & jnp.any(class_weights > 0)
    return 1.0 - dropped * jax.nn.one_hot(z, class_weights.shape[-1])


def keep_all(num_classes: int) -> jax.Array:
    """The keep-mask that drops nothing, ``[K]`` float32: what inference uses."""
    return jnp.ones(num_classes, jnp.float32)


def identity_kernel(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """The initial kernel ``[1, 1, C, C]`` of a convolution that changes nothing."""
    return jnp.eye(shape[-1], dtype=dtype).reshape(shape)


class DropClass(nn.Module):
    """Features without the dropped class: average, then refine (section 3.2).

    ``A_drop = relu(BN(conv1x1(A_avg)))``, C to C channels. The caller classifies the result with
    the same head.

    Attributes:
      conv: constructor of a convolution, called as ``conv(C, 1, use_bias=True, name=...)``; see
        ``models.layers.Layers``.
      norm: constructor of a batch norm, called as ``norm(name=...)(x, train)``.
      importance: ``'shared'`` for a 1x1 head (no cost that grows with K), ``'position'`` for any
        head: see ``average_features``. For a 1x1 head both are its kernel's columns. ``'uniform'``
        is 1 for every class and feature: no class has features of its own, so that dropping one
        leaves ``relu(A)`` and is felt in the loss alone (an ablation).
      stop_gradient: hold the importance constant in the backward pass.
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
    """

    conv: Callable[..., Callable[[jax.Array], jax.Array]]
    norm: Callable[..., Callable[[jax.Array, bool], jax.Array]]
    importance: str = "shared"
    stop_gradient: bool = False
    refine: str = "block"
    refine_init: str = "default"

    @nn.compact
    def __call__(
        self, features: jax.Array, head: Head, keep: jax.Array, train: bool = False
    ) -> jax.Array:
        """``[B, h, w, C]`` features -> ``[B, h, w, C]`` refined features of the kept classes."""
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {known}, not {getattr(self, name)!r}")
        channels = features.shape[-1]
        if self.importance == "shared":
            weights = shared_importance(head, channels, features.dtype)
            if self.stop_gradient:
                weights = lax.stop_gradient(weights)
            average = average_features_shared(features, weights, keep)
        elif self.importance == "position":
            average = average_features(features, head, keep, stop_gradient=self.stop_gradient)
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
