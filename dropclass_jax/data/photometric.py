"""Photometric jitter: brightness, contrast, saturation and hue, drawn first and then applied.

The usual one, from SSD (Liu et al., ECCV 2016, section 2.2) by way of mmsegmentation's
``PhotoMetricDistortion``, whose values are ``USUAL``. Brightness, contrast and one order of both
are a table of 256 values; saturation and hue are two tables in OpenCV's 8-bit HSV. Every stage is
rounded and clipped to 8 bits.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from dropclass_jax.errors import UserError

VARIATES = 9
HUES = 180  # OpenCV's 8-bit hue: the circle in steps of 2 degrees


class JitterRange(NamedTuple):
    """How far each quantity may go; 0 leaves it alone.

    Attributes:
      brightness: added to every channel: -b to b grey levels of 255.
      contrast: factor of every channel, 1 - c to 1 + c.
      saturation: factor of the saturation, 1 - s to 1 + s.
      hue: turn of the hue, -h to h steps of 2 degrees, whole.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: int = 0


USUAL = JitterRange(brightness=32.0, contrast=0.5, saturation=0.5, hue=18)


class Jitter(NamedTuple):
    """One draw of it; the default changes nothing."""

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: int = 0
    contrast_last: bool = False


def check(ranges: JitterRange) -> None:
    """Refuse ranges that make no sense.

    Raises:
      UserError: names the first of them.
    """
    limits = JitterRange(255.0, 1.0, 1.0, HUES // 2)
    for name, value, most in zip(ranges._fields, ranges, limits, strict=True):
        if not 0 <= value <= most or (name == "hue" and value != int(value)):
            kind = "a whole number" if name == "hue" else "a number"
            raise UserError(f"jitter {name} {value}: want {kind} from 0 (off) to {most:g}")


def draw_jitter(rng: np.random.Generator, ranges: JitterRange) -> Jitter:
    """Draw one jitter: each of the four is left alone half of the time.

    Contrast comes before saturation and hue or after them, equally often. Takes ``VARIATES``
    variates whatever it is asked for, so that no option changes what another draws.

    Args:
      rng: the only source of randomness.
      ranges: how far each may go.
    """
    *coins, order, u, v, w, x = rng.random(VARIATES)
    b, c, s, h = (on < 0.5 for on in coins)
    return Jitter(
        brightness=b * ranges.brightness * (2 * u - 1),
        contrast=1 + c * ranges.contrast * (2 * v - 1),
        saturation=1 + s * ranges.saturation * (2 * w - 1),
        hue=int(h) * (int(x * (2 * ranges.hue + 1)) - ranges.hue),
        contrast_last=bool(order < 0.5),
    )


def jitter_image(image: np.ndarray, jitter: Jitter) -> np.ndarray:
    """Apply one jitter.

    Args:
      image: RGB uint8 [H, W, 3].
      jitter: what to do.

    Returns:
      RGB uint8 [H, W, 3]; ``image`` itself where there is nothing to do.
    """
    recolors = jitter.saturation != 1 or jitter.hue != 0
    levels = np.arange(256.0)
    before = _to_8_bits(levels + jitter.brightness)
    contrast = _to_8_bits(levels * jitter.contrast)
    contrast_last = jitter.contrast_last and recolors
    if not contrast_last:
        before = contrast[before]
    if jitter.brightness != 0 or (jitter.contrast != 1 and not contrast_last):
        image = cv2.LUT(image, before)
    if recolors:
        image = _recolor(image, jitter.saturation, jitter.hue)
    if contrast_last and jitter.contrast != 1:
        image = cv2.LUT(image, contrast)
    return image


def _recolor(image: np.ndarray, saturation: float, hue: int) -> np.ndarray:
    levels = np.arange(256)
    tables = (levels + hue) % HUES, _to_8_bits(levels * saturation), levels
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv = cv2.LUT(hsv, np.stack(tables, axis=-1).astype(np.uint8)[None])  # [1, 256, 3]
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _to_8_bits(levels: np.ndarray) -> np.ndarray:
    return np.rint(levels).clip(0, 255).astype(np.uint8)
