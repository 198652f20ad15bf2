"""Photometric jitter: brightness, contrast, saturation and hue, drawn first and then applied.

The method is that of SSD (Liu et al., ECCV 2016, section 2.2) as mmsegmentation's
``PhotoMetricDistortion`` has it, whose values are ``USUAL``. Brightness and contrast are lookup
tables of 256 values, combined into one where they follow each other; saturation and hue are lookup
tables in OpenCV's 8-bit HSV. Every stage is rounded and clipped to 8 bits.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from dropclass_jax.errors import UserError

VARIATES = 9
HUES = 180  # OpenCV's 8-bit hue: the circle in steps of 2 degrees


class JitterRange(NamedTuple):
    """The range of each quantity; 0 leaves it unchanged.

    Attributes:
      brightness: b, to add -b to b grey levels (of 255) to every channel.
      contrast: c, to multiply every channel by 1 - c to 1 + c.
      saturation: s, to multiply the saturation by 1 - s to 1 + s.
      hue: h, to rotate the hue by -h to h steps of 2 degrees; a whole number.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: int = 0


USUAL = JitterRange(brightness=32.0, contrast=0.5, saturation=0.5, hue=18)


class Jitter(NamedTuple):
    """One jitter drawn from a ``JitterRange``; the default changes nothing."""

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: int = 0
    contrast_last: bool = False


def check(ranges: JitterRange) -> None:
    """Check that the ranges are possible ones.

    Raises:
      UserError: one is not; the message names the first.
    """
    limits = JitterRange(255.0, 1.0, 1.0, HUES // 2)
    for name, value, most in zip(ranges._fields, ranges, limits, strict=True):
        if not 0 <= value <= most or (name == "hue" and value != int(value)):
            kind = "a whole number" if name == "hue" else "a number"
            raise UserError(f"jitter {name} {value}: want {kind} from 0 (off) to {most:g}")


def draw_jitter(rng: np.random.Generator, ranges: JitterRange) -> Jitter:
    """Draw one jitter, in which each of the four quantities changes with probability 1/2.

    Contrast is applied before or after saturation and hue, with equal probability. Always draws
    ``VARIATES`` random numbers, so that no option changes what another draws.

    Args:
      rng: the only source of randomness.
      ranges: the range of each quantity.
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
      jitter: from ``draw_jitter``.

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
