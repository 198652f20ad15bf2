"""Charts of an analysis, several networks side by side.

As in `figures`, functions are pure, and no two series differ by colour alone.

`runs` are the `runs` of `analysis.json`; unknown numbers are None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm, LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.figure import Figure

from dropclass_jax.evaluation import summary
from dropclass_jax.evaluation.summary import Classes
from dropclass_jax.reporting.formats import tick
from dropclass_jax.reporting.plot_style import (
    BLUE,
    GREEN,
    GRID,
    INK,
    ORANGE,
    label_points,
    legend,
    new_figure,
    plain_axes,
    sentence_title,
)

Runs = Sequence[Mapping[str, Any]]

# As everywhere in the reports: blue for DropClass, orange for plain training.
_DROPCLASS = [(BLUE, "o"), ("#56b4e9", "s"), (GREEN, "^"), (INK, "P"), (BLUE, "v"), (GREEN, "X")]
_PLAIN = [(ORANGE, "D"), ("#e69f00", "v"), ("#cc79a7", "X"), (GRID, "p"), (ORANGE, "<"), (INK, ">")]
MOST_CLASSES = 40  # beyond this the names cannot be read on a page

# From orange over nothing to blue, so that 0 shows the page behind it.
_DIVERGING = LinearSegmentedColormap.from_list(
    "diverging",
    [(0, to_rgba(ORANGE)), (0.5, to_rgba(ORANGE, 0)), (0.5, to_rgba(BLUE, 0)), (1, to_rgba(BLUE))],
)


class Panel(NamedTuple):
    """One heat map.

    Attributes:
      heading: above it.
      values: `[K, K]` from row to column, NaN or None for none.
      shown: `[K, K]` bool, the cells that are not left blank; all by default.
    """

    heading: str
    values: Any
    shown: Any = True


def styles(runs: Runs) -> dict[str, tuple[str, str]]:
    """A colour and a marker for every run, by its label."""
    dropclass, plain = iter(_DROPCLASS), iter(_PLAIN)
    return {run["label"]: next(dropclass if run["dropclass"] else plain) for run in runs}


def root_norm(limit: float) -> Normalize:
    """Colours by the root of a value's size, so that beside large ones small ones are seen."""
    return FuncNorm(
        (lambda x: np.sign(x) * np.sqrt(np.abs(x)), lambda y: np.sign(y) * np.square(y)),
        -limit,
        limit,
    )


def heat_maps(
    panels: Sequence[Panel],
    classes: Classes,
    title: str,
    *,
    limit: float = 1.0,
    ends: tuple[str, str],
    labels: tuple[str, str] = ("", ""),
    scale: float | None = None,
    norm: Normalize | None = None,
    marks: Mapping[float, str] | None = None,
) -> Figure:
    """Heat maps of classes by classes, the commonest in training first, two a row.

    Args:
      panels: one or more.
      classes: `classes` of `analysis.json`; those without any value are left out, and of very many
        the rarest.
      title: a sentence that says what is seen.
      limit: the size of a value in full colour.
      ends: what values of `-limit` and `limit` are, for the scale beside the maps.
      labels: of rows and columns.
      scale: write `scale * value` into the cells, where it does not round to 0.
      norm: from values to colours; straight by default.
      marks: more ticks for the scale, `{value: words}`.
    """
    arrays = [np.array(panel.values, np.float64) for panel in panels]
    known = np.any([np.isfinite(array) for array in arrays], axis=0)
    order = summary.by_share(classes)
    rows = [k for k in order if known[k].any()][:MOST_CLASSES]
    columns = [k for k in order if known[:, k].any()][:MOST_CLASSES]
    cell = 0.36 if scale else 0.25
    across = min(len(panels), 2)
    down = -(-len(panels) // 2)
    width = across * (cell * len(columns) + 0.15) + 2.3
    height = down * (cell * len(rows) + 1.3) + 0.45 + (0.3 if labels[1] else 0)
    figure = new_figure(width, height, layout="compressed")
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    norm = norm or Normalize(-limit, limit)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for n, (axes, panel, array) in enumerate(zip(grid.flat, panels, arrays, strict=False)):
        shown = np.where(panel.shown, array, np.nan)[np.ix_(rows, columns)]
        mesh = axes.pcolormesh(
            np.ma.masked_invalid(shown),
            cmap=_DIVERGING,
            norm=norm,
            edgecolor=to_rgba(GRID, 0.4),
            linewidth=0.4,
        )
        if scale:
            strength = np.abs(2 * np.asarray(norm(np.nan_to_num(shown))) - 1)
            _write_cells(axes, scale * shown, strength)
        axes.set_title(panel.heading, loc="left", fontsize=10, color=INK)
        _name_axes(axes, rows, columns, classes)
        axes.set_xlabel(labels[1], color=INK)
        if n % 2 == 0:
            axes.set_ylabel(labels[0], color=INK)
    low = -limit if any((np.nan_to_num(array) < 0).any() for array in arrays) else 0.0
    bar = figure.colorbar(mesh, ax=grid, shrink=0.5, aspect=28, pad=0.015)
    bar.solids.set_rasterized(True)
    bar.ax.set_ylim(low, limit)
    ticks = {-limit: ends[0], 0.0: "0", limit: ends[1]} | (marks or {})
    ticks = {value: words for value, words in ticks.items() if value >= low}
    bar.set_ticks(list(ticks), labels=list(ticks.values()))
    bar.ax.minorticks_off()
    bar.ax.tick_params(length=0, colors=INK, labelsize=8.5)
    bar.outline.set_edgecolor(GRID)
    sentence_title(figure, title)
    return figure


def _write_cells(axes: Axes, values: np.ndarray, strength: np.ndarray) -> None:
    """Numbers into the cells, light on those of strong colour (0 to 1)."""
    for row, column in np.argwhere(np.abs(np.nan_to_num(values)) >= 0.05):
        value = values[row, column]
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{value:.{0 if abs(value) >= 0.95 else 1}f}".replace("-", "−"),
            ha="center",
            va="center",
            fontsize=7.5,
            color="#ffffff" if strength[row, column] > 0.6 else INK,
        )


def _name_axes(axes: Axes, rows: Sequence[int], columns: Sequence[int], classes: Classes) -> None:
    names = [classes[k]["name"] for k in columns]
    turned = {"rotation": 55, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(np.arange(len(columns)) + 0.5, names, **turned)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [classes[k]["name"] for k in rows])
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(rows), 0)
    axes.set_aspect("equal")
    axes.tick_params(length=0, colors=INK, labelsize=8.5)
    axes.spines[:].set_visible(False)


def similarity_by_share(runs: Runs, classes: Classes) -> Figure:
    """Each class's mean similarity to the others against its pixel share, a panel a run."""
    across, down = min(len(runs), 2), -(-len(runs) // 2)
    figure = new_figure(5.6 * across + 0.4, 4.6 * down + 0.6, layout=None)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.75 / figure.get_figwidth(),
        right=0.99,
        bottom=0.6 / height,
        top=1 - 0.85 / height,
        wspace=0.07,
        hspace=0.25,
    )
    everything = np.array([run["classifier"]["mean_similarity"] for run in runs], np.float64)
    shares = np.array([entry["train_pixel_share"] for entry in classes])
    known = (shares > 0) & np.isfinite(everything).all(axis=0)
    low, high = everything[:, known].min(), everything[:, known].max()
    margin = 0.12 * max(high - low, 0.02)
    for axes in grid.flat[len(runs) :]:
        axes.set_axis_off()
    for axes, run, values in zip(grid.flat, runs, everything, strict=False):
        plain_axes(axes)
        axes.set_xscale("log")
        axes.set_xlim(shares[known].min() / 1.8, min(shares.max() * 2.5, 1.5))
        axes.set_ylim(low - margin, high + margin)
        color, marker = styles(runs)[run["label"]]
        axes.scatter(shares[known], values[known], s=30, color=color, marker=marker, zorder=3)
        axes.xaxis.set_major_formatter(tick)
        axes.xaxis.set_minor_formatter("")
        axes.yaxis.set_major_formatter(lambda value, _: f"{round(value, 6):g}".replace("-", "−"))
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("share of the training pixels (log scale)")
        rank = run["classifier"]["rank_correlation_with_pixels"]
        correlation = (
            "" if rank is None else f": rank correlation {signed(rank['rho'])}, n = {rank['n']}"
        )
        axes.set_title(run["label"] + correlation, loc="left", fontsize=10, color=INK)
    for axes in grid[:, 0]:
        axes.set_ylabel("mean cosine similarity to the other classes")
    sentence_title(
        figure, "Each dot is a class: how alike its weight vector is to the others', by pixel share"
    )
    names = [entry["name"] for entry, here in zip(classes, known, strict=True) if here]
    for axes, values in zip(grid.flat, everything, strict=False):
        label_points(axes, shares[known], values[known], names, size=8)
    return figure


def signed(value: float) -> str:
    """Two decimals with a sign, the minus as −."""
    return f"{value:+.2f}".replace("-", "−")


def dots_by_class(
    values: Mapping[str, Any],
    runs: Runs,
    classes: Classes,
    title: str,
    x_label: str,
    *,
    percent: bool = True,
    intervals: Mapping[str, tuple[Any, Any]] | None = None,
) -> Figure:
    """One row a class, the commonest on top, and in it one mark a run.

    Args:
      values: `{run's label: [K]}`, NaN or None for none; classes without any are left out.
      runs: for their colours.
      classes: `classes` of `analysis.json`.
      title: a sentence that says what is seen.
      x_label: what the values are.
      percent: the values are fractions and are shown as percentages.
      intervals: `{run's label: ([K], [K])}`, the ends of the values' intervals, where they are
        known; the runs' marks then stand one below the other.
    """
    arrays = {label: np.array(array, np.float64) for label, array in values.items()}
    known = np.any([np.isfinite(array) for array in arrays.values()], axis=0)
    order = [k for k in summary.by_share(classes) if known[k]]
    step = 0.7 / len(arrays) if intervals else 0.0  # of a row
    inches = max(0.24, 0.13 * len(arrays)) if intervals else 0.24
    figure = new_figure(7.4, inches * len(order) + 1.5)
    axes = plain_axes(figure.add_subplot(), grid="x")
    stacked = np.stack([array[order] for array in arrays.values()])  # [runs, rows]
    if not intervals:
        for place, column in enumerate(stacked.T):
            if np.isfinite(column).any():
                ends = [np.nanmin(column), np.nanmax(column)]
                axes.plot(ends, [place, place], color=GRID, linewidth=2, alpha=0.6, zorder=1)
    for n, (label, row) in enumerate(zip(arrays, stacked, strict=True)):
        color, marker = styles(runs)[label]
        places = np.arange(len(order)) + step * (n - (len(arrays) - 1) / 2)
        if intervals:
            low, high = (np.array(end, np.float64)[order] for end in intervals[label])
            axes.hlines(places, low, high, color=color, linewidth=1.4)
        axes.scatter(
            row, places, s=20 if intervals else 34, color=color, marker=marker, label=label
        )
    if np.nanmin(stacked) < 0:
        axes.axvline(0, color=INK, linewidth=0.9)
    else:
        axes.set_xlim(left=0)
    axes.set_yticks(range(len(order)), [classes[k]["name"] for k in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(
        lambda value, _: (f"{100 * value:g}%" if percent else f"{value:g}").replace("-", "−")
    )
    axes.set_xlabel(x_label)
    if len(arrays) > 1:
        legend(figure, loc="outside lower center", ncols=min(len(arrays), 3))
    sentence_title(figure, title)
    return figure


def feature_sharing(runs: Runs, num_classes: int) -> Figure:
    """How many classes select a feature: the share of the features by that number, a line a run."""
    figure = new_figure(7.4, 3.4)
    axes = plain_axes(figure.add_subplot())
    for n, run in enumerate(runs):
        counts = np.bincount(run["selection"]["classes_per_feature"], minlength=num_classes + 1)
        color, marker = styles(runs)[run["label"]]
        axes.plot(
            counts / counts.sum(),
            color=color,
            marker=marker,
            markersize=4.5,
            linestyle=("-", "--", "-.", ":")[n % 4],
            label=run["label"],
        )
    axes.set_ylim(bottom=0)
    axes.set_xlim(-0.5, num_classes + 0.5)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(f"by how many of the {num_classes} classes a feature is selected")
    axes.set_ylabel("share of the features")
    if len(runs) > 1:
        legend(axes)
    sentence_title(figure, "How many classes share a feature")
    return figure
