"""The evaluation step: a pure function of variables and a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.evaluation import boundary, inference, metrics
from dropclass_jax.ops import axis
from dropclass_jax.ops.images import Batch, normalize


def bind(
    model: nn.Module, info: DatasetInfo, views: inference.Views = inference.WHOLE
) -> Callable[[Any, Batch], Any]:
    """``eval_step`` of a network on a data set: a function of ``(variables, batch)``."""
    return partial(
        eval_step,
        model=model,
        num_classes=info.num_classes,
        image_mean=jnp.asarray(info.mean),
        image_std=jnp.asarray(info.std),
        views=views,
        axis_name=axis.AXIS,
    )


def eval_step(
    variables: Any,
    batch: Batch,
    *,
    model: nn.Module,
    num_classes: int,
    image_mean: jax.Array,
    image_std: jax.Array,
    views: inference.Views = inference.WHOLE,
    axis_name: str | None = None,
) -> tuple[dict[str, dict[str, jax.Array]], dict[str, dict[str, jax.Array]]]:
    """Predict one batch with every output, and count the predictions.

    Args:
      variables: the model's.
      batch: ``image`` uint8 ``[B, H, W, 3]``, ``label`` ``[B, H, W]``, where padding is labelled as
        ignored, and ``distance`` ``[B]``, see ``boundary.distance``.
      model: see ``dropclass_jax.models``.
      num_classes: K.
      image_mean: ``[3]``, on the scale 0 to 1.
      image_std: ``[3]``, on the scale 0 to 1.
      views: how the images are shown to the model.
      axis_name: the axis of the devices.

    Returns:
      For each head two dicts: over all devices ``confusion``, ``[K, K]``, and ``boundary``,
      ``[K, 2]`` of ``boundary.count``; of this device's examples ``counts``, ``[B, K, 3]`` of
      ``metrics.class_counts``, all int32, and ``prediction``, ``[B, H, W]`` uint8.
    """
    images = normalize(batch["image"], image_mean, image_std)
    labels = batch["label"]
    scores = inference.scores(inference.forward(model, variables), images, **views._asdict())
    totals, examples = {}, {}
    for head, prediction in inference.predictions(scores).items():
        confusions = jax.vmap(metrics.confusion_matrix, (0, 0, None))(
            labels, prediction, num_classes
        )  # [B, K, K]
        totals[head] = {
            "confusion": confusions.sum(axis=0),
            "boundary": boundary.count(labels, prediction, batch["distance"], num_classes),
        }
        examples[head] = {"counts": metrics.class_counts(confusions), "prediction": prediction}
    return axis.psum(totals, axis_name), examples
