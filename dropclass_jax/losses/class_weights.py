"""How to weight rare classes in the loss, from the pixels of a training split.

Three rules, each a function of counts. All are normalised in one way: the weights of the classes
that the split holds have a mean of 1, and a class that it does not hold, which no pixel asks for,
weighs 1. (``losses.cross_entropy`` divides by the sum of the weights it used, so that only the
ratios of the weights matter.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dropclass_jax.errors import UserError
from dropclass_jax.files import write_json


def inverse(class_pixels: np.ndarray) -> np.ndarray:
    """1 / the share of the class: every class counts the same over the split, however rare.

    The strongest rule: a class with a ten-thousandth of the pixels of another weighs ten thousand
    times as much.

    Args:
      class_pixels: [N, K], labelled pixels of each class in each image.

    Returns:
      float64 [K].

    >>> inverse(np.array([[3, 1], [3, 1]])).tolist()
    [0.5, 1.5]
    """
    pixels = np.sum(class_pixels, axis=0)
    return _normalized(pixels, pixels)


def median_frequency(class_pixels: np.ndarray) -> np.ndarray:
    """The median of all classes' frequencies / the frequency of the class.

    A class's frequency is its share of the labelled pixels *of the images that hold it*: milder
    than ``inverse`` for a class that is in few images but large there. From Eigen and Fergus,
    "Predicting Depth, Surface Normals and Semantic Labels", ICCV 2015; SegNet weights CamVid so.
    (The median is gone once the weights are normalised.)

    Args:
      class_pixels: [N, K], labelled pixels of each class in each image.

    Returns:
      float64 [K].

    >>> median_frequency(np.array([[2, 2, 0], [2, 0, 2]])).tolist()  # of 8, 4 and 4 pixels
    [1.0, 1.0, 1.0]
    """
    pixels = np.asarray(class_pixels, np.int64)
    around = (pixels > 0).T @ pixels.sum(axis=1)  # [K]: pixels of the images that hold each class
    return _normalized(np.divide(pixels.sum(axis=0), np.maximum(around, 1)), pixels.sum(axis=0))


def effective_number(class_pixels: np.ndarray, beta: float | None = None) -> np.ndarray:
    """1 / the effective number of pixels, (1 - beta^n) / (1 - beta) for n pixels.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, section 3:
    the n-th sample adds less than the first, so that a class with far more than N = 1 / (1 - beta)
    of them counts as if it had N. The rarest classes are weighted as by ``inverse``, and all
    common ones alike.

    Args:
      class_pixels: [N, K], labelled pixels of each class in each image.
      beta: in [0, 1); the default makes N the pixels of the average class.

    Returns:
      float64 [K].

    Raises:
      UserError: beta is out of its range.
    """
    pixels = np.sum(class_pixels, axis=0, dtype=np.int64)
    if beta is None:
        beta = 1 - 1 / max(pixels.sum() / max(np.count_nonzero(pixels), 1), 1)
    if not 0 <= beta < 1:
        raise UserError(f"beta {beta}: want at least 0 and below 1, like 0.9999")
    # 1 - beta^n would lose every digit for a beta this close to 1.
    log = np.log1p(beta - 1) if beta > 0 else -np.inf
    return _normalized(np.expm1(np.where(pixels > 0, pixels, 1) * log) / (beta - 1), pixels)


RULES = {
    "inverse": inverse,
    "median_frequency": median_frequency,
    "effective_number": effective_number,
}


def _normalized(frequency: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """1 / frequency, with a mean of 1 over the classes that have pixels, and 1 for the others."""
    present = pixels > 0
    weights = np.divide(1.0, frequency, out=np.ones(len(pixels)), where=present)
    if present.any():
        weights[present] /= weights[present].mean()
    return weights


def write(path: Path, classes: Sequence[str], weights: np.ndarray) -> None:
    """Write weights as a JSON object, class name to weight, for people to read and edit."""
    content = {name: float(f"{w:.6g}") for name, w in zip(classes, weights, strict=True)}
    write_json(path, content)


def read(path: Path, classes: Sequence[str]) -> np.ndarray:
    """Weights that ``write`` wrote or somebody edited, float64 [K].

    Raises:
      UserError: names the file and what is wrong with it.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: want one JSON object, class name to weight")
    for what, names in (
        ("has no weight for", set(classes) - content.keys()),
        ("weights an unknown class,", content.keys() - set(classes)),
    ):
        if names:
            raise UserError(f"{path} {what} {min(names)!r}; the classes are {', '.join(classes)}")
    for name, weight in content.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 <= weight < float("inf"):
            raise UserError(f"{path}: the weight of {name!r} is {weight!r}: want a number, 0 or up")
    weights = np.array([content[name] for name in classes], float)
    if not weights.any():
        raise UserError(f"{path}: all weights are 0: give one class at least a weight above 0")
    return weights
