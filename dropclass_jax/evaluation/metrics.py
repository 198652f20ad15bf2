"""Segmentation scores from a confusion matrix.

The matrix is counted on the device, batch by batch, and added up on the host in int64, so that
nothing overflows and memory does not grow with the number of images.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dropclass_jax.ops.labels import IGNORE_LABEL


def confusion_matrix(
    labels: jax.Array, predictions: jax.Array, num_classes: int, ignore_label: int = IGNORE_LABEL
) -> jax.Array:
    """Pixels of each true class that were predicted as each class.

    Args:
      labels: integer, any shape, 0 to K - 1 or ``ignore_label``.
      predictions: integer, the labels' shape, 0 to K - 1.
      num_classes: K.
      ignore_label: the value of pixels that do not count.

    Returns:
      ``[K, K]`` int32, ``[true, predicted]``: exact up to 2^31 pixels a call.
    """
    labels = labels.reshape(-1).astype(jnp.int32)
    cell = labels * num_classes + predictions.reshape(-1).astype(jnp.int32)
    # Ignored pixels go to an extra cell, which is then cut off.
    cell = jnp.where(labels == ignore_label, num_classes**2, cell)
    counts = jnp.bincount(cell, length=num_classes**2 + 1)[:-1]
    return counts.reshape(num_classes, num_classes).astype(jnp.int32)


def class_counts(confusion: jax.Array) -> jax.Array:
    """Hits (true positives), labelled and predicted pixels of each class.

    Args:
      confusion: ``[..., K, K]`` integer, ``[true, predicted]``.

    Returns:
      ``[..., K, 3]`` of the same dtype.
    """
    hits = jnp.diagonal(confusion, axis1=-2, axis2=-1)
    return jnp.stack([hits, confusion.sum(axis=-1), confusion.sum(axis=-2)], axis=-1)


def scores(confusion: np.ndarray) -> dict[str, np.ndarray | float]:
    """Every score from a confusion matrix.

    A class that is neither labelled nor predicted has no IoU: it is NaN and left out of the mean.
    (The reference, and ``reference_mean_iou``, count it as 0.) Accuracy is NaN for a class without
    labelled pixels, precision for one that is never predicted.

    Args:
      confusion: ``[K, K]`` integer, ``[true, predicted]``.

    Returns:
      ``iou``, ``accuracy`` (recall), ``precision`` and ``f1`` (their harmonic mean, the Dice
      coefficient; NaN where the IoU is), ``[K]`` float64; ``pixels``, ``[K]`` int64 labelled
      pixels; ``mean_iou``, ``mean_accuracy``, ``mean_f1``, ``pixel_accuracy`` and
      ``frequency_weighted_iou``, floats, NaN when there is nothing to average.
    """
    confusion = np.asarray(confusion, np.int64)
    hits = np.diag(confusion)
    labelled = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = hits / (labelled + predicted - hits)
        accuracy = hits / labelled
        precision = hits / predicted
        f1 = 2 * hits / (labelled + predicted)
        share = labelled / labelled.sum()
    return {
        "iou": iou,
        "accuracy": accuracy,
        "precision": precision,
        "f1": f1,
        "pixels": labelled,
        "mean_iou": mean_of_present(iou),
        "mean_accuracy": mean_of_present(accuracy),
        "mean_f1": mean_of_present(f1),
        "pixel_accuracy": float(np.sum(share * np.where(labelled > 0, accuracy, 0.0))),
        "frequency_weighted_iou": float(np.sum(share * np.where(labelled > 0, iou, 0.0))),
    }


def reference_mean_iou(confusion: np.ndarray) -> float:
    """The mean IoU as Cityscapes tools report it: over all K classes, an absent one counted 0."""
    return float(np.nan_to_num(scores(confusion)["iou"]).mean())


def mean_of_present(values: np.ndarray) -> float:
    """Mean over the values that are not NaN; NaN where there are none."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
