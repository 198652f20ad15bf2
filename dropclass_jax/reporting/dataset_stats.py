"""Tables and charts of a data set's class statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dropclass_jax.data.windows import TOLERATED
from dropclass_jax.evaluation import summary
from dropclass_jax.losses import class_weights
from dropclass_jax.reporting.formats import significant
from dropclass_jax.reporting.plot_style import (
    BLUE,
    GREEN,
    GRID,
    INK,
    ORANGE,
    legend,
    new_figure,
    plain_axes,
    sentence_title,
)
from dropclass_jax.reporting.text_table import aligned

GROUP_COLORS = {"head": BLUE, "medium": GREEN, "tail": ORANGE}
RULE_MARKERS = {"inverse": "s", "median_frequency": "o", "effective_number": "^"}


def table(content: Mapping[str, Any]) -> str:
    """``collect``'s numbers for people, the commonest class first."""
    ignored = 1 - content["labelled_pixels"] / max(content["pixels"], 1)
    header = ["class", "pixels", "in images", "group", *class_weights.RULES]
    rows = [
        [
            entry["name"],
            significant(entry["share"]),
            significant(entry["image_share"]),
            entry["group"],
            *(f"{entry['weights'][rule]:.3f}" for rule in class_weights.RULES),
        ]
        for entry in by_share(content)
    ]
    groups = ", ".join(f"{name} {limits}" for name, limits in summary.GROUPS.items())
    lines = [
        f"{content['dataset']}, {content['split']}: {content['images']} images, "
        f"{content['labelled_pixels'] / 1e6:.1f} million labelled pixels "
        f"({ignored:.1%} of all are ignored)",
        "",
        *aligned(header, rows),
        "",
        f"groups: {groups}",
        f"weights: {_spreads(content)}",
    ]
    return "\n".join(lines)


def by_share(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes, the commonest first; ties keep the set's order."""
    return sorted(content["classes"], key=lambda entry: -entry["pixels"])


def _spreads(content: Mapping[str, Any]) -> str:
    """How far apart each rule sets the heaviest and the lightest class."""
    present = [entry["weights"] for entry in content["classes"] if entry["pixels"]]
    spreads = []
    for rule in class_weights.RULES:
        weights = [entry[rule] for entry in present] or [1.0]
        spreads.append(f"{rule} {max(weights) / min(weights):.3g}")
    return "heaviest / lightest class: " + ", ".join(spreads)


def chart(content: Mapping[str, Any]) -> Figure:
    """Pixels, images and weights of each class, side by side, the commonest class on top.

    Both shares are on a logarithmic axis where a linear one would show the tail as nothing.
    """
    classes = by_share(content)
    present = [entry for entry in classes if entry["pixels"]]
    rows = np.arange(len(classes))
    figure = new_figure(10.4, 0.235 * len(classes) + 1.9)
    pixels, images, weights = figure.subplots(1, 3, sharey=True, width_ratios=(4, 2.2, 3.2))
    colors = [GROUP_COLORS.get(entry["group"], GRID) for entry in classes]
    least = min((entry["share"] for entry in present), default=1.0)
    left = 10.0 ** np.floor(np.log10(least) - 0.3)  # the rarest class has a bar, too

    plain_axes(pixels, grid="x")
    pixels.barh(rows, [max(entry["share"] - left, 0) for entry in classes], left=left, color=colors)
    pixels.set_xscale("log")
    pixels.set_xlim(left, 3)
    decades = np.arange(np.log10(left), 1)
    pixels.set_xticks(10.0 ** decades[:: 1 + len(decades) // 6])
    pixels.xaxis.set_major_formatter(lambda value, _: f"{_plain(100 * value)}%")
    for row, entry in zip(rows, classes, strict=True):
        at = max(entry["share"], left)
        _note(pixels, at, row, significant(entry["share"]) if entry["pixels"] else "absent")
    pixels.set_yticks(rows, [entry["name"] for entry in classes])
    pixels.set_ylim(len(classes) - 0.4, -0.6)
    pixels.set_title("Share of the labelled pixels (log)", loc="left", fontsize=10, color=INK)

    plain_axes(images, grid="x")
    images.barh(rows, [entry["image_share"] for entry in classes], color=colors)
    for row, entry in zip(rows, classes, strict=True):
        _note(images, entry["image_share"], row, f"{entry['images']}")
    images.set_xlim(0, 1.25)
    images.set_xticks([0, 0.5, 1])
    images.xaxis.set_major_formatter("{x:.0%}")
    images.set_title("Images that hold it", loc="left", fontsize=10, color=INK)

    plain_axes(weights, grid="both")
    for rule, marker in RULE_MARKERS.items():
        weights.plot(
            [entry["weights"][rule] for entry in classes],
            rows,
            marker,
            color=INK,
            markerfacecolor="none",
            markersize=5.5,
            label=rule,
        )
    weights.set_xscale("log")
    weights.xaxis.set_major_formatter("{x:g}")
    weights.set_title("Weight in the loss (log)", loc="left", fontsize=10, color=INK)
    for axes in (images, weights):
        axes.tick_params(axis="y", length=0)
    groups = [
        Patch(color=color, label=f"{group}: {summary.GROUPS[group]}")
        for group, color in GROUP_COLORS.items()
    ]
    # Columns are filled one after the other: the groups in the first row, the rules in the second.
    handles = [h for pair in zip(groups, weights.lines, strict=True) for h in pair]
    legend(figure, handles=handles, loc="outside lower left", ncols=3)
    sentence_title(figure, _headline(content))
    return figure


def values_chart(content: Mapping[str, Any]) -> Figure:
    """The values of each class as 16 and as 8 bits, a row a class, the commonest class on top.

    The darker, the more of the class's own values; on the left, lines mark the window.
    """
    classes = by_share(content)
    order = [content["classes"].index(entry) for entry in classes]
    values = content["values"]
    figure = new_figure(10.4, 0.235 * len(classes) + 1.9)
    before, after = figure.subplots(1, 2, sharey=True)
    first, last = values["span"]
    panels = (
        (before, "before", (first, last + 1), "16-bit values, and the window"),
        (after, "after", (0, 256), "8-bit values, and what the window cuts"),
    )
    for axes, name, (left, right), title in panels:
        shares = np.array(values[name])[order]
        shares /= np.maximum(shares.max(axis=1, keepdims=True), 1e-12)
        axes.imshow(
            np.sqrt(shares),  # so that thin tails are seen
            cmap=LinearSegmentedColormap.from_list("values", ["#ffffff", BLUE]),
            aspect="auto",
            interpolation="nearest",
            extent=(left, right, len(classes) - 0.5, -0.5),
        )
        plain_axes(axes).grid(False)
        axes.hlines(np.arange(len(classes) - 1) + 0.5, left, right, color=GRID, linewidth=0.4)
        axes.set_title(title, loc="left", fontsize=10, color=INK)
    for limit in values["window"]:
        before.axvline(limit, color=ORANGE, linewidth=1.2)
    before.set_yticks(range(len(classes)), [entry["name"] for entry in classes])
    after.set_xticks([0, 64, 128, 192, 255])
    after.tick_params(axis="y", length=0)
    for row, k in enumerate(order):
        if (lost := sum(values["cut"][k])) >= 0.001:
            _note(after, 256, row, f"{significant(lost)} cut")
    after.set_xlim(0, 300)
    low, high = values["window"]
    cut = [content["classes"][k]["name"] for k in order if max(values["cut"][k]) > TOLERATED]
    lost = f"more than {TOLERATED:.0%} of the values"
    said = f"{lost} of {', '.join(cut)} are cut" if cut else f"no class loses {lost}"
    title = f"{low} to {high} become 0 to 255, and {said} ({content['dataset']}, train)"
    sentence_title(figure, title)
    return figure


def _plain(value: float) -> str:
    """A power of ten without an exponent: 0.00001, not 1e-05."""
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")


def _note(axes: Axes, x: float, y: float, text: str) -> None:
    axes.annotate(
        text, (x, y), (3, 0), textcoords="offset points", va="center", fontsize=8, color=INK
    )


def _headline(content: Mapping[str, Any]) -> str:
    tail = [entry for entry in content["classes"] if entry["group"] == "tail"]
    share = sum(entry["share"] for entry in tail)
    return (
        f"{len(tail)} of the {len(content['classes'])} classes of {content['dataset']} hold under "
        f"{summary.TAIL_SHARE:.0%} of the labelled pixels each, {share:.1%} together "
        f"({content['split']}, {content['images']} images)"
    )
