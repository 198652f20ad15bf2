"""Polygons to pixels, by one rule.

**Pixel centres**: the pixel in row ``r`` and column ``c`` covers ``[c, c + 1) x [r, r + 1)``, and
belongs to a polygon if its centre ``(c + 0.5, r + 0.5)`` lies inside, by the even-odd rule; on an
edge, to what is right of it or below. So every edge is met to half a pixel, polygons that share an
edge share no pixel and leave no gap between them, and a polygon around whole pixels holds those.
It is the convention of COCO's boxes and masks, in which ``[x, y, 1, 1]`` is one pixel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# So many crossings of an edge and a row of pixels are held at once: 32 MB.
MOST_CROSSINGS = 1 << 20
# Coordinates beyond are no slip of the mouse, and would not survive the arithmetic.
FARTHEST = 1e9


def points_of(numbers: Any) -> np.ndarray:
    """A ring's points, from pairs ``[[x, y], ...]`` or flat ``[x, y, x, y, ...]``.

    Returns:
      float64 [P, 2].

    Raises:
      ValueError: what is there is no list of points in the plane, with what is wrong with it.
    """
    try:
        points = np.asarray(numbers, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("its points are not numbers") from None
    if points.ndim == 1 and points.size % 2:
        raise ValueError(f"has {points.size} coordinates, one too many or too few")
    if points.size and (points.ndim > 2 or (points.ndim == 2 and points.shape[1] != 2)):
        raise ValueError("its points are not pairs of x and y")
    points = points.reshape(-1, 2)
    if not (np.abs(points) <= FARTHEST).all():
        raise ValueError("has a point that is no number or lies nowhere near the image")
    return points


def paint(label: np.ndarray, points: np.ndarray, value: int) -> None:
    """Give the pixels of a polygon a value, in place; what lies outside of the label is cut off.

    Args:
      label: uint8 [H, W].
      points: [P, 2], x and y of its corners; the last joins the first. Fewer than three hold none.
      value: of the pixels whose centres are inside.
    """
    if len(points) < 3:
        return
    height, width = label.shape
    # Of a row, what is between its first and its second crossing is inside, and so on. Row r is
    # crossed by an edge from y to y' where y <= r + 0.5 < y', so that a corner counts once.
    starts, ends = points, np.roll(points, -1, axis=0)
    down = starts[:, 1] <= ends[:, 1]
    upper = np.where(down[:, None], starts, ends)
    lower = np.where(down[:, None], ends, starts)
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64)
    if first.min() >= last.max():
        return
    top, bottom = int(first.min()), int(last.max())
    left = math.floor(np.clip(points[:, 0].min(), 0, width))
    right = math.ceil(np.clip(points[:, 0].max(), 0, width))
    columns = right - left + 1
    flips = np.zeros((bottom - top) * columns, np.uint8)
    for edges in _parts(last - first):
        rows, edge = _rows(first[edges], (last - first)[edges])
        (x0, y0), (x1, y1) = upper[edges][edge].T, lower[edges][edge].T
        x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        column = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
        places, number = np.unique((rows - top) * columns + column - left, return_counts=True)
        flips[places] ^= (number & 1).astype(np.uint8)
    inside = np.bitwise_xor.accumulate(flips.reshape(-1, columns), axis=1)[:, :-1] > 0
    label[top:bottom, left:right][inside] = value


def _parts(counts: np.ndarray) -> list[slice]:
    """Slices of the edges with no more crossings each than are held at once, or a single edge."""
    cuts, total = [0], 0
    for position, count in enumerate(counts.tolist()):
        if total and total + count > MOST_CROSSINGS:
            cuts.append(position)
            total = 0
        total += count
    return [slice(a, b) for a, b in zip(cuts, [*cuts[1:], len(counts)], strict=True)]


def _rows(first: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All rows that the edges cross, one after the other, and the edge of each."""
    edge = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    return first[edge] + within, edge


def box(x: float, y: float, width: float, height: float, degrees: float = 0) -> np.ndarray:
    """The corners of a rectangle, turned clockwise about its top left corner, float64 [4, 2]."""
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    return np.array((x, y), np.float64) + corners @ _turn(degrees)


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0) -> np.ndarray:
    """An ellipse about ``(x, y)``, turned clockwise, as a polygon within a hundredth of a pixel."""
    largest = max(abs(rx), abs(ry), 1.0)
    steps = int(np.clip(math.ceil(math.pi / math.acos(1 - 0.01 / largest)), 16, 100_000))
    angles = np.arange(steps) * (2 * math.pi / steps)
    ring = np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=1)
    return np.array((x, y), np.float64) + ring @ _turn(degrees)


def _turn(degrees: float) -> np.ndarray:
    """What turns row vectors clockwise on a screen, where y grows downwards."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([(cosine, sine), (-sine, cosine)])
