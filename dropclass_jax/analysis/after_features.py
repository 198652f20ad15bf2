"""What comes after the features: the classifier and, with DropClass, the drop path."""

from __future__ import annotations

from typing import Any

import jax

from dropclass_jax.models.segmenter import Segmenter


def after_features(model: Segmenter) -> Segmenter:
    """The part of a network after its features ``[B, h, w, C]``, as a function of them.

    It is applied to the model's own variables and gives its outputs, so that what comes after the
    features can be computed many times for one pass through the backbone.
    """
    return model.clone(backbone=_identity, head=_identity, auxiliary=None)


def classifier_weights(variables: Any) -> jax.Array:
    """The weight vector of every class, ``[K, C]``: the columns of the 1x1 classifier's kernel.

    For such a classifier they are also the importance of the features (``dropclass.importance``).
    """
    return variables["params"]["classifier"]["kernel"][0, 0].T


def _identity(x: jax.Array, train: bool) -> jax.Array:
    return x
