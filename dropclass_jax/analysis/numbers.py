"""The analyses of one network as they are written to `analysis.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dropclass_jax.analysis import dependence, selection, similarity
from dropclass_jax.analysis.explain import Explained
from dropclass_jax.analysis.grad_cam import share_inside
from dropclass_jax.analysis.measure import Measured
from dropclass_jax.evaluation import summary


def classifier(weights: np.ndarray, pixels: Sequence[int]) -> dict[str, Any]:
    """Analysis of the classifier's weights, without any image.

    Args:
      weights: ``[K, C]``, from ``after_features.classifier_weights``.
      pixels: of each class in training, K.

    Returns:
      ``similarity [K, K]``, ``mean_similarity [K]`` to the others and its rank correlation with the
      pixels.
    """
    alike = similarity.cosine(weights)
    mean = similarity.mean_to_others(alike)
    rank = similarity.rank_correlation(pixels, mean)
    return {
        "similarity": alike,
        "mean_similarity": mean,
        "rank_correlation_with_pixels": None if rank is None else rank._asdict(),
    }


def selected_features(weights: np.ndarray) -> dict[str, Any]:
    """Which of the C features the classes select, and share, by ``weights [K, C]``."""
    selected = selection.selected(weights)
    top = max(weights.shape[1] // 10, 1)
    return {
        "features": weights.shape[1],
        "selected_share": selected.mean(axis=1),
        "classes_per_feature": selected.sum(axis=0),
        "top": top,
        "top_overlap": selection.top_overlap(weights, top),
    }


def by_class(measured: Measured) -> dict[str, Any]:
    """How the classes depend on each other on a split."""
    return {
        "feature_similarity": {
            name: similarity.cosine(means) for name, means in measured.class_means.items()
        },
        "dependence": {
            head: dependence.effect(counts)._asdict() for head, counts in measured.counts.items()
        },
    }


def context_gap(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The network's own IoUs in and out of context, where ``metrics.json`` has both."""
    head = "drop" if metrics["dropclass"] else "plain"
    entries = {entry["split"]: entry for entry in metrics["results"] if entry["head"] == head}
    if not all(split in entries for split in summary.CONTEXT_SPLITS):
        return None
    inside, outside = (entries[split] for split in summary.CONTEXT_SPLITS)
    return {
        "head": head,
        "splits": list(summary.CONTEXT_SPLITS),
        "inside": inside["iou"],
        "outside": outside["iou"],
        "gap": summary.context_gaps(inside, outside),
    }


def heat(example: Mapping[str, Any], class_index: int, explained: Explained) -> dict[str, Any]:
    """How much of a class the network finds in an image, and how much of its heat lies there."""
    here = example["label"] == class_index
    return {
        "id": example["id"],
        "share_of_image": here.mean(),
        "found": explained.answer[here].mean(),
        "heat_on_class": {
            layer: share_inside(map_, here) for layer, map_ in explained.heat.items()
        },
    }
