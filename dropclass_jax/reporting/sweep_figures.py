"""The figures of a sweep: its arms side by side, and scores over the length of training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dropclass_jax.reporting.formats import tick
from dropclass_jax.reporting.plot_style import (
    BLUE,
    GREEN,
    GRID,
    INK,
    ORANGE,
    OUTPUT_COLORS,
    legend,
    new_figure,
    plain_axes,
    sentence_title,
)
from dropclass_jax.reporting.sweep_summary import Row

MARKERS = {"drop": "o", "plain": "D"}
PANELS = {
    "mean_iou": "mean IoU",
    "tail": "mean IoU of tail classes",
    "out_of_context": "mean IoU out of context",
}


def arms(rows: Sequence[Row], question: str, split: str) -> Figure:
    """Arms with their intervals, and single seeds as dots; a panel a score."""
    panels = [name for name in PANELS if any(name in row.scores for row in rows)]
    chart = new_figure(3.4 + 2.6 * len(panels), 0.34 * len(rows) + 1.9)
    first = None
    for n, name in enumerate(panels):
        axes = plain_axes(chart.add_subplot(1, len(panels), n + 1, sharey=first), grid="x")
        first = first or axes
        _panel(axes, rows, name)
        axes.tick_params(labelleft=n == 0)
        axes.set_title(PANELS[name], loc="left", fontsize=10, color=INK)
    first.set_yticks(range(len(rows)), [row.label for row in rows])
    first.set_ylim(len(rows) - 0.4, -0.6)
    heads = {row.head for row in rows}
    handles = [
        first.plot(
            [], [], MARKERS.get(head, "s"), color=OUTPUT_COLORS.get(head, GRID), label=label
        )[0]
        for head, label in {"drop": "drop head", "plain": "plain head"}.items()
        if head in heads
    ]
    handles += first.plot([], [], ".", color=GRID, label="one seed")
    handles += first.plot([], [], color=INK, linewidth=1.2, label="95 % interval of the mean")
    handles += first.plot([], [], ":", color=INK, label=f"mean of {rows[0].label}")
    legend(chart, loc="outside lower center", ncols=len(handles), handles=handles)
    sentence_title(chart, f"{question} ({split})")
    return chart


def _panel(axes: Axes, rows: Sequence[Row], name: str) -> None:
    scores = [(place, row.scores[name]) for place, row in enumerate(rows) if name in row.scores]
    if name in rows[0].scores:
        axes.axvline(rows[0].scores[name].mean.value, color=INK, linestyle=":", linewidth=1)
    for place, score in scores:
        head = rows[place].head
        color = OUTPUT_COLORS.get(head, GRID)
        axes.plot(score.mean[1:], [place, place], color=INK, linewidth=1.2, zorder=2)
        axes.plot(
            score.mean.value, place, MARKERS.get(head, "s"), color=color, markersize=7, zorder=3
        )
        below = [place + 0.24] * len(score.seeds)
        axes.plot(score.seeds, below, ".", color=GRID, markersize=6, zorder=4)
    # By the seeds: the interval of two of them may be many times wider than the picture.
    values = [value for _, score in scores for value in score.seeds]
    room = 0.35 * (max(values) - min(values)) + 0.005
    axes.set_xlim(max(min(values) - room, -0.005), max(values) + room)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(tick)


def courses(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Arms that differ in the length of training alone, by what their names share, in order.

    Returns:
      `{label: rows}`, shortest training first, each of one head and of two lengths or more.
    """
    families: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        families.setdefault((row.family, row.head), []).append(row)
    by_family = {}
    for members in families.values():
        if len({row.steps for row in members}) > 1:
            shared = os.path.commonprefix([row.arm for row in members])  # noqa: RUF071
            name = shared.rstrip("_- ") or members[0].arm
            label = name if members[0].heads == 1 else f"{name}, {members[0].head} head"
            by_family[label] = sorted(members, key=lambda row: row.steps)
    return by_family


def steps(courses: Mapping[str, Sequence[Row]], split: str) -> Figure:
    """Scores over the steps of training: where one method overtakes another, lines cross."""
    every = [row for members in courses.values() for row in members]
    panels = [name for name in PANELS if any(name in row.scores for row in every)]
    chart = new_figure(1.2 + 3.2 * len(panels), 3.9)
    looks = [(ORANGE, "D", "-"), (BLUE, "o", "-"), (GREEN, "s", "--"), (INK, "^", ":")]
    handles = []
    lengths = sorted({row.steps for row in every})
    apart = (lengths[-1] / lengths[0]) ** 0.025  # or intervals of equal lengths hide each other
    for n, name in enumerate(panels):
        axes = plain_axes(chart.add_subplot(1, len(panels), n + 1))
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        values = []
        for place, ((label, members), (color, marker, line)) in enumerate(
            zip(courses.items(), looks * len(courses), strict=False), -(len(courses) // 2)
        ):
            known = [row for row in members if name in row.scores]
            at = [row.steps * apart**place for row in known]
            means = [row.scores[name].mean for row in known]
            axes.vlines(at, [m.low for m in means], [m.high for m in means], color=color)
            (handle,) = axes.plot(
                at, [m.value for m in means], line, marker=marker, color=color, label=label
            )
            values += [value for row in known for value in row.scores[name].seeds]
            if n == 0:
                handles.append(handle)
        room = 0.35 * (max(values) - min(values)) + 0.005
        axes.set_ylim(max(min(values) - room, -0.005), max(values) + room)
        axes.yaxis.set_major_formatter(tick)
        axes.set_xlabel("steps of training, in all (log scale)")
        axes.set_title(PANELS[name], loc="left", fontsize=10, color=INK)
    legend(chart, loc="outside lower center", ncols=len(handles), handles=handles)
    sentence_title(
        chart, f"Scores on {split} over the length of training (bars, side by side: 95 % intervals)"
    )
    return chart
