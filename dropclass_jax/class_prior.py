"""Logits that know how common each class is, in training alone."""

from __future__ import annotations

import numpy as np


def log_prior(class_pixels: np.ndarray) -> np.ndarray:
    """The logarithm of each class's share of the labelled pixels.

    For logit adjustment (Menon et al., "Long-tail Learning via Logit Adjustment", ICLR 2021,
    equation 10): ``tau`` times this is added to the logits in the training loss. To make up for it
    the network must answer a rare class with larger logits, and nothing is added when it predicts.

    A class without a single pixel gets 0, as if it were everywhere: its own share would be minus
    infinity, and nothing would teach the network not to answer with it. So it learns to.

    Args:
      class_pixels: ``[N, K]``, labelled pixels of each class in each image.

    Returns:
      float64 ``[K]``, 0 or below.

    >>> log_prior(np.array([[3, 1, 0], [3, 1, 0]])).round(4).tolist()
    [-0.2877, -1.3863, 0.0]
    """
    pixels = np.sum(class_pixels, axis=0, dtype=np.int64)
    share = pixels / max(pixels.sum(), 1)
    return np.log(np.where(pixels > 0, share, 1.0))
