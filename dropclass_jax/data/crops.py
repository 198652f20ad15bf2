"""Crop positions that show rare classes and avoid crops filled by a single class.

``transforms.draw_view`` places its window uniformly. Two rules may move the window; its size, scale
and flip stay as they are:

- *over a class*: draw a class, then one of its pixels, then one of the windows that contain the
  pixel (class-uniform sampling crops around a class's centroids: see ``sampling``);
- *not too full*: while one class fills more than ``cat_max_ratio`` of the labelled pixels, try
  another window (the rule of mmsegmentation's ``RandomCrop``).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from dropclass_jax.data import transforms
from dropclass_jax.data.transforms import View
from dropclass_jax.errors import UserError
from dropclass_jax.ops.labels import IGNORE_LABEL

ATTEMPTS = 10  # how many further windows are tried; the last one is used in any case


class CropRule(NamedTuple):
    """When to move a window; the default never does.

    Attributes:
      rare: probability that the window is placed over a class drawn by ``odds``, 0..1.
      odds: K unnormalised probabilities, to draw one of the classes that the image contains.
      cat_max_ratio: the largest share of a crop's labelled pixels that one class may fill; 1 is no
        limit.
    """

    rare: float = 0.0
    odds: tuple[float, ...] = ()
    cat_max_ratio: float = 1.0


class CropDraws(NamedTuple):
    """The random numbers of one example, all uniform in [0, 1).

    Attributes:
      coin: decides whether to place the window over a class.
      which: selects the class.
      pixels: [1 + ATTEMPTS], selects one of its pixels in each attempt.
      down: [1 + ATTEMPTS], selects the window's top among the possible ones.
      right: [1 + ATTEMPTS], selects the window's left edge.
    """

    coin: float
    which: float
    pixels: np.ndarray
    down: np.ndarray
    right: np.ndarray


def check(rule: CropRule) -> None:
    """Check that a rule's values are in their ranges.

    Raises:
      UserError: one is not; the message names it.
    """
    if not 0 <= rule.rare <= 1:
        raise UserError(f"rare_crop {rule.rare}: want a probability, 0 (off) to 1")
    if not 0 < rule.cat_max_ratio <= 1:
        raise UserError(f"cat_max_ratio {rule.cat_max_ratio}: want above 0 and at most 1 (off)")


def inverse_odds(class_pixels: np.ndarray) -> tuple[float, ...]:
    """Odds for ``CropRule``: 1 / the pixel count of each class, [K]; 0 where it is 0."""
    pixels = np.asarray(class_pixels, float)
    return tuple(np.divide(1.0, pixels, out=np.zeros_like(pixels), where=pixels > 0).tolist())


def draw(rng: np.random.Generator) -> CropDraws:
    """Draw the random numbers; always as many, so that no option changes what another draws."""
    coin, which = rng.random(2)
    return CropDraws(coin, which, *rng.random((3, 1 + ATTEMPTS)))


def count_classes(label: np.ndarray) -> np.ndarray:
    """Count the pixels of each value in a label, uint8 [H, W] to int64 [256]."""
    # calcHist is four times as fast as bincount, which first converts the label to 8-byte integers.
    # It counts in float32, exact up to 2**24: count few enough rows at a time to stay below that.
    rows = max(1, 2**24 // max(label.shape[1], 1))
    total = np.zeros(256, np.int64)
    for start in range(0, label.shape[0], rows):
        part = np.ascontiguousarray(label[start : start + rows])
        total += cv2.calcHist([part], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return total


def choose(
    view: View,
    label: np.ndarray,
    rule: CropRule,
    draws: CropDraws,
    focus: int | None = None,
    ignore_label: int = IGNORE_LABEL,
) -> View:
    """Apply a crop rule to a view.

    Args:
      view: from ``transforms.draw_view``.
      label: uint8 [H, W], of the whole image.
      rule: when to move the window.
      draws: from ``draw``.
      focus: a class to place the window over if the image contains it, whatever ``rule`` says.
      ignore_label: value of pixels that do not count.

    Returns:
      The view, its window moved where the rule asks for it.
    """
    if focus is None and draws.coin < rule.rare:
        focus = _draw_class(label, rule.odds, draws.which)
    points = None if focus is None else _find(label, focus, view)
    if points is not None and len(points):
        view = _over(points, view, label.shape, draws, 0)
    else:
        points = None
    for attempt in range(1, 1 + ATTEMPTS):
        if rule.cat_max_ratio >= 1 or _balanced(label, view, rule.cat_max_ratio, ignore_label):
            break
        if points is None:
            view = _anywhere(view, label.shape, draws, attempt)
        else:
            view = _over(points, view, label.shape, draws, attempt)
    return view


def _draw_class(label: np.ndarray, odds: tuple[float, ...], which: float) -> int | None:
    """Draw one of the classes in a label by ``odds``; None if all of those have odds 0."""
    present = np.where(count_classes(label)[: len(odds)] > 0, odds, 0.0)
    total = np.cumsum(present)
    if not len(total) or total[-1] <= 0:
        return None
    return int(np.searchsorted(total, which * total[-1], side="right"))


def _find(label: np.ndarray, focus: int, view: View) -> np.ndarray:
    """Rows and columns of the pixels of class ``focus`` in the scaled label, int64 [N, 2].

    If the image is enlarged, each source pixel gives one pixel, the one under its centre; if it is
    shrunk, the result is all pixels of the class that remain in the shrunken label.
    """
    scale = view.scale
    if scale < 1:
        height, width = (transforms.scaled_length(n, scale) for n in label.shape)
        label = transforms.resample_label(label, View(scale, 0, 0, height, width, False))
    found = cv2.findNonZero((label == focus).view(np.uint8))  # columns and rows
    if found is None:
        return np.zeros((0, 2), np.int64)
    points = found.reshape(-1, 2)[:, ::-1].astype(np.int64)  # OpenCV 4 gives [N, 1, 2]
    if scale > 1:
        points = (2 * points + 1) * scale.numerator // (2 * scale.denominator)
    return points


def _over(
    points: np.ndarray, view: View, shape: tuple[int, int], draws: CropDraws, attempt: int
) -> View:
    """Move the window to a random place where it contains a random one of the points, [N, 2]."""
    point = points[int(draws.pixels[attempt] * len(points))]
    corner = []
    for at, length, size, u in zip(
        point,
        (transforms.scaled_length(n, view.scale) for n in shape),
        (view.height, view.width),
        (draws.down[attempt], draws.right[attempt]),
        strict=True,
    ):
        low, high = max(0, int(at) - size + 1), max(0, min(int(at), length - size))
        corner.append(low + int(u * (high - low + 1)))
    return view._replace(top=corner[0], left=corner[1])


def _anywhere(view: View, shape: tuple[int, int], draws: CropDraws, attempt: int) -> View:
    """Move the window to a uniformly random place."""
    spare = (
        max(transforms.scaled_length(n, view.scale) - size, 0)
        for n, size in zip(shape, (view.height, view.width), strict=True)
    )
    where = (draws.down[attempt], draws.right[attempt])
    top, left = (int(u * (n + 1)) for u, n in zip(where, spare, strict=True))
    return view._replace(top=top, left=left)


def _balanced(label: np.ndarray, view: View, most: float, ignore_label: int) -> bool:
    """Whether a view shows two classes or more, each below ``most`` of its labelled pixels."""
    pixels = count_classes(transforms.resample_label(label, view))
    pixels[ignore_label] = 0
    return np.count_nonzero(pixels) > 1 and pixels.max() < most * pixels.sum()
