"""How the classes of one network depend on each other, in one pass over a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from dropclass_jax.analysis import dependence
from dropclass_jax.analysis.after_features import after_features, classifier_weights
from dropclass_jax.analysis.class_means import class_sums
from dropclass_jax.models.segmenter import Segmenter
from dropclass_jax.ops import cpu_compiler
from dropclass_jax.ops.images import normalize
from dropclass_jax.runs.trained_network import TrainedNetwork


class Measured(NamedTuple):
    """Measurements of one network on a split.

    Attributes:
      counts: ``{head: [N, K + 1, K, 3] int32}``; see ``dependence.counts``. ``plain`` by fading
        the features, ``drop`` (DropClass) by the network's own drop path.
      class_means: ``{features, features_drop: [K, C] float64}``, NaN for a class without pixels.
    """

    counts: dict[str, np.ndarray]
    class_means: dict[str, np.ndarray]


def measure_batch(
    variables: Any,
    images: jax.Array,
    labels: jax.Array,
    *,
    model: Segmenter,
    mean: Any,
    std: Any,
    ignore_label: int,
) -> tuple[dict[str, jax.Array], dict[str, tuple[jax.Array, jax.Array]]]:
    """The counts and sums of one batch from which ``Measured`` is computed.

    Args:
      variables: the model's.
      images: uint8 ``[B, H, W, 3]``.
      labels: ``[B, H, W]``.
      model: the network.
      mean, std: of the images, on the scale 0 to 1.
      ignore_label: the value of pixels that do not count.

    Returns:
      ``{head: [B, K + 1, K, 3] int32}``, and ``(sums [K, C], pixels [K])`` of ``features`` and
      ``features_drop``.
    """
    outputs = model.apply(variables, normalize(images, mean, std))
    features, rest = outputs["features"], after_features(model)
    importance = classifier_weights(variables)

    def faded(keep: jax.Array) -> jax.Array:
        return rest.apply(variables, dependence.fade(features, importance, keep))["logits"]

    def dropped(keep: jax.Array) -> jax.Array:
        return rest.apply(variables, features, keep)["logits_drop"]

    paths = {"plain": faded} if model.dropclass is None else {"drop": dropped, "plain": faded}
    return (
        {
            head: dependence.counts(logits_of, labels, model.num_classes, ignore_label)
            for head, logits_of in paths.items()
        },
        {
            name: class_sums(outputs[name], labels, model.num_classes, ignore_label)
            for name in ("features", "features_drop")
            if name in outputs
        },
    )


def measure_split(network: TrainedNetwork, batches: Iterable[Mapping[str, Any]]) -> Measured:
    """``measure_batch`` over all batches of a split.

    Args:
      network: a run's.
      batches: from ``pipeline.eval_iterator``.
    """
    info = network.info
    measure = jax.jit(
        partial(
            measure_batch,
            model=network.model,
            mean=info.mean,
            std=info.std,
            ignore_label=info.ignore_label,
        ),
        compiler_options=cpu_compiler.forward_options(),
    )
    counts, totals = [], None
    for batch in batches:
        of_images, sums = jax.device_get(measure(network.variables, batch["image"], batch["label"]))
        # The last batch is filled up with images that are none.
        counts.append({head: rows[batch["valid"]] for head, rows in of_images.items()})
        sums = jax.tree.map(lambda x: x.astype(np.float64), sums)
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    with np.errstate(invalid="ignore"):
        means = {name: total / count[:, None] for name, (total, count) in totals.items()}
    return Measured({head: np.concatenate([c[head] for c in counts]) for head in counts[0]}, means)
