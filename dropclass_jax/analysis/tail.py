"""The part of a network after its features: the classifier and, with DropClass, the drop path."""

from __future__ import annotations

from typing import Any

import jax

from dropclass_jax.models.segmenter import Segmenter


def tail(model: Segmenter) -> Segmenter:
    """A network that takes the features ``[B, h, w, C]`` in place of the images.

    It has the model's own variables and gives its outputs, so that what comes after the features
    can be computed many times for a backbone that ran once.
    """
    return model.clone(backbone=_as_given, head=_as_given, auxiliary=None)


def classifier_weights(variables: Any) -> jax.Array:
    """The weight vector of every class, ``[K, C]``: the columns of the 1x1 classifier's kernel.

    For such a classifier they are also the importance of the features (``dropclass.importance``).
    """
    return variables["params"]["classifier"]["kernel"][0, 0].T


def _as_given(x: jax.Array, train: bool) -> jax.Array:
    return x
