"""Charts of one run. Every function returns a matplotlib `Figure` and touches no global state.

No chart tells two series apart by colour alone. `entry` and `classes` are as in `summary`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure

from dropclass_jax.evaluation import summary
from dropclass_jax.evaluation.summary import Classes, Entry
from dropclass_jax.reporting.formats import tick
from dropclass_jax.reporting.plot_style import (
    BLUE,
    GREEN,
    GRID,
    INK,
    ORANGE,
    OUTPUT_COLORS,
    label_below,
    label_points,
    legend,
    new_figure,
    plain_axes,
    sentence_title,
)

HEAD_MARKERS = {"drop": "o", "plain": "D"}
LOSS_STYLES = {
    "loss": ("total", INK, "-"),
    "loss_plain": ("plain head", ORANGE, "--"),
    "loss_drop": ("drop head", BLUE, "-."),
    "loss_plain_region": ("plain head, regions", ORANGE, ":"),
    "loss_drop_region": ("drop head, regions", BLUE, ":"),
    "loss_auxiliary": ("auxiliary head", GREEN, ":"),
}
LOW = 0.02  # IoUs below it lie in one row at the foot of a chart
MOST_CONFUSION_CLASSES = 40  # beyond this the names cannot be read on a page

# From nothing to blue, so that an empty cell shows the page behind it.
_BLUES = LinearSegmentedColormap.from_list("blues", [(0, 0.45, 0.7, 0.0), (0, 0.45, 0.7, 1.0)])


def curves(lines: Iterable[Mapping[str, Any]]) -> Figure:
    """Losses, learning rate, lambda and p, and mean IoU over the steps of a run.

    Args:
      lines: the objects of `metrics.jsonl`; panels without data are left out. Where a step was
        logged twice (a resumed run), the later line counts.
    """
    train, evals = {}, {}
    for line in lines:
        if line["kind"] == "train":
            train[line["step"]] = line
        elif line["kind"] == "eval":
            evals.setdefault((line["split"], line["head"]), {})[line["step"]] = line["mean_iou"]
    steps = sorted(train)

    def series(key: str) -> tuple[list[int], list[float]]:
        kept = [step for step in steps if train[step].get(key) is not None]
        return kept, [train[step][key] for step in kept]

    def draw_losses(axes: Axes) -> None:
        terms = {key for key in LOSS_STYLES if series(key)[0]}
        for key, (name, color, style) in LOSS_STYLES.items():
            # Plain training has one loss; drawing it twice under two names would say otherwise.
            if key == "loss_plain" and not (terms - {"loss", "loss_plain"}):
                continue
            if key in terms:
                axes.plot(*series(key), style, color=color, label=name, linewidth=1.4)
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        if len(axes.lines) > 1:
            legend(axes)

    def draw_suppression(axes: Axes) -> None:
        axes.plot(*series("suppression"), color=GREEN)
        axes.set_ylim(bottom=0)

    def draw_lr(axes: Axes) -> None:
        axes.plot(*series("lr"), color=INK)
        axes.set_ylim(bottom=0)

    def draw_schedules(axes: Axes) -> None:
        for key, name, color, style in [
            ("lambda", "lambda: weight of the plain loss", ORANGE, "--"),
            ("p", "p: chance that a drawn class is dropped", BLUE, "-"),
            ("dropped", "dropped: share of positions with a drop", GREEN, ":"),
        ]:
            if series(key)[0]:
                axes.plot(*series(key), style, color=color, label=name)
        axes.set_ylim(-0.03, 1.52)
        axes.set_yticks(np.linspace(0, 1, 6))
        legend(axes, loc="upper center")

    def draw_iou(axes: Axes) -> None:
        splits = list(dict.fromkeys(split for split, _ in evals))
        for (split, head), values in evals.items():
            order = sorted(values)
            axes.plot(
                order,
                [values[step] for step in order],
                color=OUTPUT_COLORS.get(head, GREEN),
                linestyle=("-", "--", ":", "-.")[splits.index(split) % 4],
                marker=HEAD_MARKERS.get(head, "s"),
                markersize=4.5,
                label=f"{split}, {head} head",
            )
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter("{x:.0%}")
        legend(axes)

    panels = [
        ("Loss terms", bool(series("loss")[0]), draw_losses),
        ("Mean IoU at each evaluation", bool(evals), draw_iou),
        ("Probability left on what was dropped", bool(series("suppression")[0]), draw_suppression),
        ("Schedules of DropClass", bool(series("p")[0]), draw_schedules),
        ("Learning rate", bool(series("lr")[0]), draw_lr),
    ]
    panels = [(title, draw) for title, present, draw in panels if present]
    columns = min(2, max(len(panels), 1))
    rows = -(-max(len(panels), 1) // columns)
    figure = new_figure(8.6, 2.9 * rows + 0.5)
    for number, (title, draw) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        plain_axes(axes)
        draw(axes)
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_xlabel("training step")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter("{x:g}")
    sentence_title(figure, "How the run went, from the first step to the last")
    return figure


def iou_bars(entries: Sequence[Entry], classes: Classes) -> Figure:
    """IoU per class, the commonest training class on top; one bar per head.

    Args:
      entries: evaluations of one split, one per head.
    """
    order = summary.by_share(classes)
    figure = new_figure(7.4, 0.17 * len(order) * (len(entries) + 0.9) + 1.3)
    axes = plain_axes(figure.add_subplot(), grid="x")
    thickness = 0.8 / len(entries)
    for number, entry in enumerate(entries):
        places = np.arange(len(order)) + (number - (len(entries) - 1) / 2) * thickness
        values = [entry["iou"][k] for k in order]
        axes.barh(
            places,
            [value or 0 for value in values],
            thickness * 0.92,
            color=OUTPUT_COLORS.get(entry["head"], GREEN),
            alpha=1.0 if number == 0 else 0.6,
            label=f"{entry['head']} head",
        )
        for place, value in zip(places, values, strict=True):
            text = "absent" if value is None else f"{100 * value:.0f}"
            axes.text((value or 0) + 0.008, place, text, va="center", fontsize=7.5, color=INK)
    shares = [classes[k]["train_pixel_share"] for k in order]
    labels = [f"{classes[k]['name']}  {share:.2%}" for k, share in zip(order, shares, strict=True)]
    axes.set_yticks(range(len(order)), labels)
    groups = [summary.group_of(share) for share in shares]
    for place in range(1, len(order)):
        if groups[place] != groups[place - 1]:
            axes.axhline(place - 0.5, color=GRID, linewidth=0.8, linestyle=(0, (4, 3)))
    for group in summary.GROUPS:
        if group in groups:
            axes.text(
                1.01,
                groups.index(group) - 0.42,
                f"{group}\nclasses",
                transform=axes.get_yaxis_transform(),
                va="top",
                fontsize=9,
                color=INK,
            )
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 1.0)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("IoU")
    if len(entries) > 1:
        legend(figure, loc="outside lower center", ncols=2)
    split = entries[0]["split"]
    sentence_title(figure, f"How well each class of {split} is found, commonest in training first")
    return figure


def iou_against_share(entry: Entry, classes: Classes) -> Figure:
    """Scatter of IoU against the share of the training pixels (log axis), with group means."""
    present = [k for k, value in enumerate(entry["iou"]) if value is not None]
    shares = np.array([classes[k]["train_pixel_share"] for k in present])
    floor = shares[shares > 0].min(initial=1e-2) / 3  # where a class never seen in training stands
    shares = np.where(shares > 0, shares, floor)
    values = np.array([entry["iou"][k] for k in present])
    names = [
        classes[k]["name"] + ("" if classes[k]["train_pixel_share"] else " (not in training)")
        for k in present
    ]
    # A fixed layout: labels are placed by their size on the canvas, which must not move later.
    figure = new_figure(7.4, 5.8, layout=None)
    axes = plain_axes(figure.add_axes((0.09, 0.09, 0.88, 0.84)))
    axes.set_xscale("log")
    low, high = shares.min(initial=summary.TAIL_SHARE) / 2, 1.0
    axes.set_xlim(low, high)
    axes.set_ylim(-0.04, 1.13)
    axes.set_yticks(np.linspace(0, 1, 6))
    edges = {
        "tail": (low, summary.TAIL_SHARE),
        "medium": (summary.TAIL_SHARE, summary.HEAD_SHARE),
        "head": (summary.HEAD_SHARE, high),
    }
    for group, (mean, count) in summary.group_means(entry, classes).items():
        left, right = edges[group]
        axes.axvline(left, color=GRID, linewidth=0.8, linestyle=(0, (4, 3)))
        if count:
            style = {"color": GRID, "linewidth": 5, "alpha": 0.4, "solid_capstyle": "butt"}
            axes.plot([left, right], [mean, mean], **style)
            heading = f"{group} classes\nmean {mean:.0%}"
        else:
            heading = f"{group} classes\nnone"
        axes.text(
            np.sqrt(left * right), 1.12, heading, ha="center", va="top", fontsize=9, color=INK
        )
    axes.scatter(shares, values, s=34, color=OUTPUT_COLORS.get(entry["head"], GREEN), zorder=3)
    axes.xaxis.set_major_formatter(tick)
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("share of the training pixels (log scale)")
    axes.set_ylabel("IoU")
    split = entry["split"]
    sentence_title(
        figure, f"Each dot is a class: IoU on {split} against share of the training pixels"
    )
    low = [n for n, value in enumerate(values) if value < LOW]
    if len(low) < 3:
        low = []
    else:  # there is no room beside them
        label_below(axes, shares[low], values[low], [names[n] for n in low])
    label_points(axes, shares, values, names, only=[n for n in range(len(names)) if n not in low])
    return figure


def context_gap(inside: Entry, outside: Entry, classes: Classes) -> Figure:
    """Dumbbell per class: IoU in its usual context and out of it, commonest class on top."""
    order = summary.by_share(classes)
    figure = new_figure(7.4, 0.26 * len(order) + 1.4)
    axes = plain_axes(figure.add_subplot(), grid="x")
    for place, k in enumerate(order):
        a, b = inside["iou"][k], outside["iou"][k]
        if a is not None and b is not None:
            axes.plot([b, a], [place, place], color=GRID, linewidth=2.2, zorder=1)
            text = f"{100 * (b - a):+.0f}".replace("-", "−")
        else:
            missing = inside["split"] if a is None else outside["split"]
            text = f"absent from {missing if a is not b else 'both'}"
        right = max([value for value in (a, b) if value is not None], default=0)
        axes.text(right + 0.02, place, text, va="center", fontsize=8, color=INK)
    for entry, name, style in [
        (inside, "in its usual context", {"color": BLUE, "marker": "o"}),
        (outside, "out of context", {"facecolor": "none", "edgecolor": ORANGE, "marker": "D"}),
    ]:
        points = [(entry["iou"][k], p) for p, k in enumerate(order) if entry["iou"][k] is not None]
        x, y = zip(*points, strict=True) if points else ((), ())
        label = f"{name} ({entry['split']})"
        axes.scatter(x, y, s=38, linewidth=1.6, zorder=2, label=label, **style)
    axes.set_yticks(range(len(order)), [classes[k]["name"] for k in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.06)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("IoU (the number beside each pair: points gained or lost out of context)")
    legend(figure, loc="outside lower center", ncols=2)
    sentence_title(
        figure, "What each class loses when it stands where the network does not expect it"
    )
    return figure


def confusion(entry: Entry, classes: Classes) -> Figure:
    """Confusion matrix, each row divided by its sum; classes by training share, absent ones out."""
    counts = np.asarray(entry["confusion"], np.float64)  # [K, K], label x prediction
    order = [k for k in summary.by_share(classes) if counts[k].any() or counts[:, k].any()]
    cut = len(order) > MOST_CONFUSION_CLASSES
    order = order[:MOST_CONFUSION_CLASSES]
    totals = counts.sum(1)[order, None]
    rates = counts[np.ix_(order, order)] / np.where(totals > 0, totals, np.nan)
    size = len(order)
    side = 0.36 * size
    figure = new_figure(side + 2.2, side + 2.1)
    axes = figure.add_subplot()
    lines = {"edgecolor": to_rgba(GRID, 0.4), "linewidth": 0.4}
    axes.pcolormesh(np.ma.masked_invalid(rates), cmap=_BLUES, vmin=0, vmax=1, **lines)
    for row, column in np.argwhere(rates >= 0.005):
        rate = rates[row, column]
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{100 * rate:.0f}",
            ha="center",
            va="center",
            fontsize=7.5,
            color="#ffffff" if rate > 0.55 else INK,
        )
    for row in np.flatnonzero(totals[:, 0] == 0):
        text = f"predicted, but no pixel of this split is {classes[order[row]]['name']}"
        axes.text(0.3, row + 0.5, text, va="center", fontsize=7.5, style="italic", color=INK)
    names = [classes[k]["name"] for k in order]
    axes.set_xticks(np.arange(size) + 0.5, names, rotation=55, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(size) + 0.5, names)
    axes.set_xlim(0, size)
    axes.set_ylim(size, 0)
    axes.set_aspect("equal")
    axes.set_xlabel("predicted as", color=INK)
    axes.set_ylabel("labelled", color=INK)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)
    head = f" (the {size} commonest classes)" if cut else ""
    sentence_title(
        figure, f"Where the pixels of each class of {entry['split']} go, in % of its pixels{head}"
    )
    return figure
