"""Which features the importance of each class selects, and which features classes share.

What DropClass leaves of the features for class c is ``relu(S_c * A)``: of features that are never
negative, those with a positive importance.
"""

from __future__ import annotations

import numpy as np


def selected(importance: np.ndarray) -> np.ndarray:
    """Whether a class selects a feature, ``[K, C]`` bool: its importance ``[K, C]`` is positive."""
    return np.asarray(importance) > 0


def top_overlap(importance: np.ndarray, top: int) -> np.ndarray:
    """How many of their most important features two classes have in common.

    Args:
      importance: ``[K, C]``.
      top: how many features of each class are compared, 1 to C.

    Returns:
      ``[K, K]`` float64, as a share of ``top``: 1 on the diagonal; ``top / C`` is what random
      choices have in common.
    """
    importance = np.asarray(importance)
    best = np.argsort(-importance, axis=1, kind="stable")[:, :top]
    chosen = np.zeros(importance.shape, np.float64)
    np.put_along_axis(chosen, best, 1.0, axis=1)
    return chosen @ chosen.T / top
