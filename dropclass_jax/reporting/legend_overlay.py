"""A prediction drawn over its image, with a legend of the classes beside it.

Drawn with Pillow rather than matplotlib: a video leaves 40 ms for a frame.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dropclass_jax.reporting import formats, pictures
from dropclass_jax.reporting.plot_style import GRID, INK

# Smaller pictures are shown enlarged, by a whole number, so that the key beside them is readable;
# strips only as far as they do not get wider than this. Both in pixels.
LEAST_HEIGHT = 360
MOST_WIDTH = 2000
LONGEST_NAME = 28  # characters


class Row(NamedTuple):
    """A line of the legend; the class is None for a line that stands for several."""

    index: int | None
    text: str
    share: float


def legend_overlay(
    image: np.ndarray,
    label: np.ndarray,
    names: Sequence[str],
    colors: Sequence[Sequence[int]],
    *,
    every_class: bool = False,
    opacity: float = 0.5,
) -> np.ndarray:
    """Blend the classes' colours over a picture, and list them with their shares of its pixels.

    The legend lists the classes that occur, the largest first; those that do not fit share one
    line. The result's size depends on the picture's and the names alone.

    Args:
      image: uint8 [H, W, 3].
      label: class indices [H, W].
      names: the K classes.
      colors: K RGB triples, 0..255.
      every_class: list all classes in their own order, if they fit: a class then keeps its place
        from one frame of a video to the next.
      opacity: weight of the class colours, 0..1.

    Returns:
      uint8 [H', W', 3], H' at least ``LEAST_HEIGHT``.
    """
    blend = pictures.overlay(image, label, colors, opacity=opacity)
    height, width = label.shape
    factor = max(min(-(-LEAST_HEIGHT // height), MOST_WIDTH // width), 1)
    size = (factor * width, factor * height)
    blend = cv2.resize(blend, size, interpolation=cv2.INTER_NEAREST)
    below = max(LEAST_HEIGHT - len(blend), 0)
    blend = np.pad(blend, ((0, below), (0, 0), (0, 0)), constant_values=255)
    shares = np.bincount(label.ravel(), minlength=len(names)) / label.size
    line = line_height(len(blend))
    rows = key_rows(shares, names, len(blend) // line - 1, every_class)
    key = draw_key(rows, colors, len(blend), key_width(tuple(names), line), line)
    return np.concatenate([blend, key], axis=1)


def line_height(height: int) -> int:
    """Height of a legend's line beside a picture, in pixels."""
    return int(np.clip(height // 24, 20, 64))


def key_rows(
    shares: np.ndarray, names: Sequence[str], most: int, every_class: bool = False
) -> list[Row]:
    """The lines of a legend, at most ``most``; see ``legend_overlay``."""
    if every_class and len(names) <= most:
        order = range(len(names))
    else:
        order = [k for k in np.argsort(-shares, kind="stable") if shares[k] > 0]
    rows = [Row(int(k), short(names[k]), float(shares[k])) for k in order]
    if len(rows) <= most:
        return rows
    rest = rows[most - 1 :]
    return [*rows[: most - 1], Row(None, f"{len(rest)} others", sum(row.share for row in rest))]


@functools.lru_cache(maxsize=8)
def key_width(names: tuple[str, ...], line: int) -> int:
    """Width of a legend of these names, in pixels, for lines of this height."""
    font = font_of(line)
    longest = max(font.getlength(short(name)) for name in (*names, "999 others"))
    return int(2.5 * line + longest + 1.2 * font.getlength("<0.1 %") + line / 2)


@functools.lru_cache(maxsize=8)
def font_of(line: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """A font of most alphabets, which matplotlib brings, for lines of this height."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", name)
    return ImageFont.truetype(path, round(0.62 * line))


def draw_key(
    rows: Sequence[Row], colors: Sequence[Sequence[int]], height: int, width: int, line: int
) -> np.ndarray:
    """A legend of these lines, uint8 [height, width, 3]."""
    font = font_of(line)
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    for number, row in enumerate(rows):
        middle = line // 2 + number * line + line // 2
        if row.index is not None:
            left, half = line // 2, round(0.36 * line)
            box = (left, middle - half, left + round(1.4 * line), middle + half)
            draw.rectangle(box, fill=tuple(colors[row.index]), outline=GRID)
        ink = INK if row.share > 0 else GRID
        draw.text((2.2 * line, middle), row.text, ink, font, anchor="lm")
        share = formats.two_digits(row.share)
        draw.text((width - line // 2, middle), share, ink, font, anchor="rm")
    return np.asarray(canvas)


def short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
