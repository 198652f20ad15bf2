"""Boundary IoU: the IoU near the contours of a class, where most mistakes are made.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021,
section 4: the IoU of two masks of a class, each cut down to the pixels within distance d of its
own contour. Here the class masks of all images count together, as they do in the IoU.

Of a map of classes, one pass serves all of them: a pixel is near the contour of its own class when
the square of side 2 d + 1 around it holds anything else.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dropclass_jax.evaluation import metrics
from dropclass_jax.ops.labels import IGNORE_LABEL

# Of the image's diagonal. (The authors take 2 % as well, but 0.5 % for Cityscapes' large images.)
DISTANCE = 0.02

_OUTSIDE = -1  # beyond the image: no class


def distance(sizes: np.ndarray, share: float = DISTANCE) -> np.ndarray:
    """How many pixels belong to a contour, for images of these sizes: 1 at least.

    Args:
      sizes: integer ``[..., 2]``, height and width.
      share: of the diagonal.

    Returns:
      ``[...]`` int32.
    """
    diagonal = np.sqrt(np.sum(np.square(np.asarray(sizes, np.float64)), axis=-1))
    return np.maximum(np.rint(share * diagonal), 1).astype(np.int32)


def near_contour(classes: jax.Array, distances: jax.Array) -> jax.Array:
    """Pixels within a distance of a pixel of another class.

    Outside of the image there is no class, so pixels at its border count as near a contour.

    Args:
      classes: ``[B, H, W]``, integer, 0 or more.
      distances: ``[B]``, integer, 1 or more: the number of rings of neighbours that are looked at,
        diagonal ones included.

    Returns:
      ``[B, H, W]`` bool.
    """
    padded = jnp.pad(classes.astype(jnp.int32), ((0, 0), (1, 1), (1, 1)), constant_values=_OUTSIDE)
    window = {"window_dimensions": (1, 3, 3), "window_strides": (1, 1, 1), "padding": "VALID"}
    lowest = lax.reduce_window(padded, jnp.iinfo(jnp.int32).max, lax.min, **window)
    highest = lax.reduce_window(padded, jnp.iinfo(jnp.int32).min, lax.max, **window)

    # Squares of one class each that overlap are of the same class: from here on, classes do not
    # matter. The distance is of each image, and the loop as long as the largest needs.
    def erode(ring: jax.Array, inside: jax.Array) -> jax.Array:
        smaller = _and_neighbours(_and_neighbours(inside, 1), 2)
        return jnp.where(ring < distances[:, None, None], smaller, inside)

    return ~lax.fori_loop(1, jnp.max(distances), erode, lowest == highest)


def _and_neighbours(mask: jax.Array, axis: int) -> jax.Array:
    """Where a mask and its two neighbours along an axis are set; nothing is set beyond it."""
    padded = jnp.pad(mask, [(1, 1) if i == axis else (0, 0) for i in range(mask.ndim)])
    length = mask.shape[axis]
    before, after = (lax.slice_in_dim(padded, i, i + length, axis=axis) for i in (0, 2))
    return before & mask & after


def count(
    labels: jax.Array,
    predictions: jax.Array,
    distances: jax.Array,
    num_classes: int,
    ignore_label: int = IGNORE_LABEL,
) -> jax.Array:
    """Intersection and union of each class's labelled and predicted pixels near their contours.

    Ignored pixels are of no class in the labels, and are taken out of the predictions as well:
    both maps end where the labels do, and a perfect prediction scores 1.

    Args:
      labels: ``[B, H, W]``, integer, 0 to K - 1 or ``ignore_label``.
      predictions: ``[B, H, W]``, integer, 0 to K - 1.
      distances: ``[B]``, integer; see ``distance``.
      num_classes: K.
      ignore_label: the value of pixels that do not count; K or more.

    Returns:
      ``[K, 2]`` int32: exact up to 2^31 pixels a call.
    """
    known = labels != ignore_label

    def contours(classes: jax.Array) -> jax.Array:
        classes = jnp.where(known, classes.astype(jnp.int32), ignore_label)
        # K stands for the pixels of any class that are not near its contour.
        return jnp.where(near_contour(classes, distances), classes, num_classes)

    confusion = metrics.confusion_matrix(
        jnp.where(known, contours(labels), ignore_label),
        contours(predictions),
        num_classes + 1,
        ignore_label,
    )
    counts = metrics.class_counts(confusion)[:num_classes]
    hits, labelled, predicted = jnp.moveaxis(counts, -1, 0)
    return jnp.stack([hits, labelled + predicted - hits], axis=-1)


def scores(counts: np.ndarray) -> dict[str, np.ndarray | float]:
    """Boundary IoUs from the counts of ``count``, summed over all images.

    Args:
      counts: ``[K, 2]`` integer.

    Returns:
      ``boundary_iou``, ``[K]`` float64, NaN for a class that is neither labelled nor predicted, and
      ``mean_boundary_iou``, the mean over the others.
    """
    intersection, union = np.asarray(counts, np.int64).T
    with np.errstate(invalid="ignore"):
        iou = intersection / union
    return {"boundary_iou": iou, "mean_boundary_iou": metrics.mean_of_present(iou)}
