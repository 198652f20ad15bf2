"""The look of every figure: palette, empty figures, titles, axes, and labels beside points.

Colours are from the Okabe-Ito palette, which stays apart under the common colour blindnesses.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import optimize

# One colour for text, axes and neutral marks, so that a page can recolour it for a dark theme.
INK = "#1b1f24"
GRID = "#8a9099"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
OUTPUT_COLORS = {"drop": BLUE, "plain": ORANGE}


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """An empty figure (inches) on its own Agg canvas."""
    figure = Figure(figsize=(width, height), layout=layout, dpi=100)
    FigureCanvasAgg(figure)  # attaches itself
    return figure


def sentence_title(figure: Figure, sentence: str) -> None:
    """Head a figure with a sentence, wrapped to its width."""
    # Bold text of this size has about 12 characters an inch; some room for other fonts in a page.
    lines = textwrap.wrap(sentence, int(11 * figure.get_figwidth()))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11, weight="bold", color=INK)


def legend(owner: Axes | Figure, **options: Any) -> None:
    """A legend without a frame, which would be a white box on a dark page."""
    owner.legend(frameon=False, labelcolor=INK, fontsize=9, **options)


def plain_axes(axes: Axes, grid: str = "y") -> Axes:
    """Axes with two spines and a faint grid along one direction."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.tick_params(which="minor", length=0)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(axis=grid, color=GRID, alpha=0.25, linewidth=0.7)
    axes.set_axisbelow(True)
    return axes


def label_points(
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    names: Sequence[str],
    size: float = 8.5,
    only: Sequence[int] | None = None,
) -> None:
    """Write each name beside its point, at the nearest of a ring of places that is still free.

    Where a crowd leaves no place that is mostly free, the name is left out. ``only`` are the points
    that are named; the others are in the way all the same.
    """
    renderer = axes.figure.canvas.get_renderer()
    centres = axes.transData.transform(np.stack([x, y], 1))  # [N, 2] in canvas pixels
    frame = axes.get_window_extent(renderer)
    taken = [(cx - 5, cy - 5, cx + 5, cy + 5) for cx, cy in centres]
    taken += [
        tuple(text.get_window_extent(renderer).extents)
        for text in axes.texts  # the headings
    ]
    scale = 72 / axes.figure.dpi  # annotations are offset in points
    for k in range(len(names)) if only is None else only:
        centre, point, name = centres[k], (x[k], y[k]), names[k]
        probe = axes.text(*point, name, fontsize=size)
        extent = probe.get_window_extent(renderer)
        probe.remove()
        width, height = extent.width, extent.height
        best = None
        for distance in (8, 18, 30, 44, 60):
            for angle in np.deg2rad([0, 180, 90, -90, 45, -45, 135, -135]):
                dx, dy = distance * np.cos(angle), distance * np.sin(angle)
                dx += np.sign(round(dx)) * width / 2
                cx, cy = centre[0] + dx, centre[1] + dy
                box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
                inside = box[0] > frame.x0 and box[2] < frame.x1
                inside = inside and box[1] > frame.y0 and box[3] < frame.y1
                # Outside the frame is worse than any overlap.
                cost = sum(_overlap(box, other) for other in taken) + (0 if inside else 1e9)
                if best is None or cost < best[0]:
                    best = (cost, dx, dy, distance, box)
            if best[0] == 0:
                break
        cost, dx, dy, distance, box = best
        if cost > width * height / 4:
            continue
        taken.append(box)
        axes.annotate(
            name,
            point,
            (dx * scale, dy * scale),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": GRID, "linewidth": 0.7, "shrinkB": 3}
            if distance > 8
            else None,
        )


def label_below(
    axes: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str], size: float = 8.5
) -> None:
    """Write the names of points in one row under them, upright and side by side in their order.

    The axis is extended downwards to hold them. Of more names than fit, those of the points to the
    right are written.
    """
    renderer = axes.figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    names = [name if len(name) <= 24 else name[:23] + "…" for name in names]
    apart = 1.35 * size * axes.figure.dpi / 72  # pixels
    fit = int(frame.width / apart)
    order = np.argsort(x, kind="stable")[-fit:]
    extents = [
        probe.get_window_extent(renderer)
        for probe in (axes.text(0, 0, names[k], fontsize=size, rotation=90) for k in order)
    ]
    for text in axes.texts[-len(order) :]:
        text.remove()
    drop = 22  # pixels from the lowest point to the names
    share = min((max(extent.height for extent in extents) + drop + 6) / frame.height, 0.6)
    bottom, top = min(y), axes.get_ylim()[1]
    axes.set_ylim(bottom - (top - bottom) * share / (1 - share), top)

    centres = axes.transData.transform(np.stack([x[order], y[order]], 1))  # [N, 2] pixels
    steps = apart * np.arange(len(order))
    places = optimize.isotonic_regression(centres[:, 0] - steps).x + steps
    places += max(frame.x0 + apart / 2 - places[0], 0)
    places -= max(places[-1] - frame.x1 + apart / 2, 0)
    scale = 72 / axes.figure.dpi  # annotations are offset in points
    for k, centre, place in zip(order, centres, places, strict=True):
        axes.annotate(
            names[k],
            (x[k], y[k]),
            ((place - centre[0]) * scale, -(centre[1] - centres[:, 1].min() + drop) * scale),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="top",
            fontsize=size,
            color=INK,
            arrowprops={
                "arrowstyle": "-",
                "color": GRID,
                "linewidth": 0.7,
                "shrinkB": 3,
                "relpos": (0.5, 1),
            },
        )


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Area shared by two `(x0, y0, x1, y1)` boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)
