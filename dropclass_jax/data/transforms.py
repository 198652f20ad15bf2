"""Random scale, crop and flip, drawn first and applied to image and label by one geometry.

A training example shows a *view* of its image: a window of the scaled, perhaps mirrored image.
``draw_view`` draws one from an explicit generator; ``view_image`` and ``view_label`` are its two
deterministic halves, which resample nothing but the window. Both use half-pixel centres: pixel d
of an image scaled by s has its centre at ``(d + 1/2) / s`` in the source. (OpenCV's
``INTER_NEAREST`` does not, and would move labels by half an output pixel against the image.)

Scales are exact fractions, so that the geometry has no rounding in it. The recipe, scales 0.5 to
2.1 in steps of 0.1, crop, flip, is that of HRNet's segmentation code, which DropClass follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import cv2
import numpy as np

from dropclass_jax.errors import UserError
from dropclass_jax.ops.labels import IGNORE_LABEL

VIEW_VARIATES = 4


class View(NamedTuple):
    """A window of a scaled image, in pixels of the scaled image, mirrored last if ``flip``.

    Where the window reaches past the scaled image, on the right and below, there is padding.
    """

    scale: Fraction
    top: int
    left: int
    height: int
    width: int
    flip: bool


def scales(scale_range: tuple[float, float], scale_step: float) -> tuple[Fraction, ...]:
    """The scales ``low, low + step, ...`` up to and with ``high``.

    >>> [float(s) for s in scales((0.5, 0.8), 0.1)]
    [0.5, 0.6, 0.7, 0.8]

    Raises:
      UserError: unless ``0 < low <= high`` and ``0 < step``.
    """
    # 0.1 is no binary fraction: a thousandth is the finest scale that anyone writes down.
    low, high, step = (Fraction(x).limit_denominator(1000) for x in (*scale_range, scale_step))
    if not 0 < low <= high or step <= 0:
        raise UserError(
            f"scale_range {tuple(scale_range)} in steps of {scale_step}: "
            "give 0 < low <= high and a step above 0 (thousandths are the finest)"
        )
    return tuple(low + i * step for i in range((high - low) // step + 1))


def scaled_length(length: int, scale: Fraction) -> int:
    """How many pixels of the scaled axis have their centre inside the source; at least 1."""
    p, q = scale.denominator, scale.numerator
    return max(1, -((p - 2 * length * q) // (2 * p)))


def nearest(length: int, scale: Fraction, start: int, stop: int) -> np.ndarray:
    """The source pixel under the centre of each scaled pixel in ``start..stop``, int64."""
    p, q = scale.denominator, scale.numerator
    centres = ((2 * np.arange(start, stop) + 1) * p) // (2 * q)
    return np.minimum(centres, length - 1)


def draw_view(rng: np.random.Generator, shape: tuple[int, int], **options: Any) -> View:
    """Draw a scale, then a window uniformly inside it, then a flip.

    Args:
      rng: the only source of randomness.
      shape: height and width of the source image.
      **options: of ``view_of``.
    """
    return view_of(rng.random(VIEW_VARIATES), shape, **options)


def view_of(
    variates: Sequence[float],
    shape: tuple[int, int],
    *,
    crop: tuple[int, int],
    scales: tuple[Fraction, ...],
    flip: bool = True,
) -> View:
    """The view that four uniform variates stand for; no option changes what another makes of them.

    Args:
      variates: of the scale, the top, the left and the flip, each in [0, 1).
      shape: height and width of the source image.
      crop: height and width of the window; larger than the scaled image means padding.
      scales: the scales to draw from.
      flip: mirror half of the views.
    """
    which, down, right, mirror = variates
    scale = scales[int(which * len(scales))]
    height, width = (scaled_length(n, scale) for n in shape)
    top = int(down * (max(height - crop[0], 0) + 1))
    left = int(right * (max(width - crop[1], 0) + 1))
    return View(scale, top, left, *crop, flip and bool(mirror < 0.5))


def visible(view: View, shape: tuple[int, int]) -> tuple[int, int]:
    """How many rows and columns of a view show an image of ``shape``; the others are padding."""
    height, width = (scaled_length(n, view.scale) for n in shape)
    return min(view.height, height - view.top), min(view.width, width - view.left)


def _source_span(start: int, stop: int, length: int, scale: Fraction) -> tuple[int, int, int]:
    """The source pixels ``a..b`` that scaled pixels ``start..stop`` need, and ``start`` among them.

    p source pixels make q scaled ones and then the pattern of interpolation weights repeats, so a
    span that begins at a multiple of p is resampled exactly as the whole image is. One period on
    either side is spare, for the neighbour that bilinear interpolation reads.
    """
    p, q = scale.denominator, scale.numerator
    first = max(start // q - 1, 0)
    last = -(-stop // q) + 1
    return first * p, min(last * p, length), start - first * q


def resample_image(image: np.ndarray, view: View) -> np.ndarray:
    """The part of one view that shows the image, bilinearly, without antialiasing or mirroring.

    Args:
      image: uint8 [H, W, 3].
      view: what to show.

    Returns:
      uint8 [h, w, 3], at most the view's height and width; perhaps a slice of ``image``.
    """
    height, width = image.shape[:2]
    rows, cols = visible(view, (height, width))
    y0, y1, top = _source_span(view.top, view.top + rows, height, view.scale)
    x0, x1, left = _source_span(view.left, view.left + cols, width, view.scale)
    factor = float(view.scale)
    window = image[y0:y1, x0:x1]
    if factor != 1:
        window = cv2.resize(window, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    return window[top : top + rows, left : left + cols]


def resample_label(label: np.ndarray, view: View) -> np.ndarray:
    """The part of one view that shows the label, by nearest neighbour, without mirroring.

    Args:
      label: uint8 [H, W].
      view: what to show.

    Returns:
      uint8 [h, w], at most the view's height and width.
    """
    height, width = label.shape
    rows, cols = visible(view, (height, width))
    y = nearest(height, view.scale, view.top, view.top + rows)
    x = nearest(width, view.scale, view.left, view.left + cols)
    # Rows, then columns: a fifth of the time of one index of both.
    return label[y].take(x, axis=1)


def frame(window: np.ndarray, view: View, fill: int) -> np.ndarray:
    """Pad what a view shows to the view's size, on the right and below, and mirror it.

    Args:
      window: uint8 [h, w] or [h, w, 3], from ``resample_image`` or ``resample_label``.
      view: gives the size.
      fill: the value of padding.

    Returns:
      uint8 [view.height, view.width] or [view.height, view.width, 3].
    """
    down, right = view.height - window.shape[0], view.width - window.shape[1]
    if down or right:
        color = (fill,) * 3
        window = cv2.copyMakeBorder(window, 0, down, 0, right, cv2.BORDER_CONSTANT, value=color)
    return cv2.flip(window, 1) if view.flip else window


def view_image(image: np.ndarray, view: View) -> np.ndarray:
    """One view of an image, uint8 [H, W, 3] to [view.height, view.width, 3]; padding is 0."""
    return frame(resample_image(image, view), view, 0)


def view_label(label: np.ndarray, view: View, ignore_label: int = IGNORE_LABEL) -> np.ndarray:
    """One view of a label, uint8 [H, W] to [view.height, view.width]; padding is ignored."""
    return frame(resample_label(label, view), view, ignore_label)
