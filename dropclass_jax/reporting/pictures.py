"""Label maps as colours: on their own, over the image, and as a grid of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dropclass_jax.evaluation.summary import Classes
from dropclass_jax.reporting.plot_style import GRID, INK, legend, new_figure, sentence_title


def colorize(
    label: np.ndarray, colors: Sequence[Sequence[int]], ignore_label: int = 255
) -> np.ndarray:
    """Paint a label map in the data set's colours, ignored pixels black.

    Args:
      label: integers `[..., H, W]` in 0..K-1 or `ignore_label`.
      colors: K RGB triples in 0..255.
      ignore_label: the value that marks pixels without a label.

    Returns:
      uint8 `[..., H, W, 3]`.

    Raises:
      ValueError: a value is neither a class nor `ignore_label`.
    """
    label = np.asarray(label)
    ignored = label == ignore_label
    index = np.where(ignored, len(colors), label)
    if index.min(initial=0) < 0 or (np.where(ignored, 0, label) >= len(colors)).any():
        raise ValueError(
            f"label values must be in 0..{len(colors) - 1} or {ignore_label}, "
            f"got {label.min()}..{label.max()}"
        )
    return np.array([*colors, (0, 0, 0)], np.uint8)[index]


def overlay(
    image: np.ndarray,
    label: np.ndarray,
    colors: Sequence[Sequence[int]],
    ignore_label: int = 255,
    opacity: float = 0.5,
) -> np.ndarray:
    """Blend a label map's colours over its image; ignored pixels keep the image as it is.

    Args:
      image: uint8 `[..., H, W, 3]`.
      label: as for `colorize`.
      opacity: weight of the class colours, 0..1.

    Returns:
      uint8 `[..., H, W, 3]`.
    """
    painted = colorize(label, colors, ignore_label)
    blend = (1 - opacity) * image.astype(np.float32) + opacity * painted
    ignored = (np.asarray(label) == ignore_label)[..., None]
    return np.where(ignored, image, np.rint(blend).astype(np.uint8))


def hatch(picture: np.ndarray, mask: np.ndarray, period: int) -> np.ndarray:
    """Draw grey stripes on black where `mask [H, W]` is true, in a uint8 `[H, W, 3]` picture."""
    y, x = np.indices(mask.shape)
    stripes = ((x + y) % period < max(period // 3, 1)) * np.uint8(110)
    return np.where(mask[..., None], stripes[..., None], picture).astype(np.uint8)


def legend_entries(values: np.ndarray, classes: Classes, ignore_label: int = 255) -> list[Patch]:
    """A legend's patches for some label values, in their order, the ignored one last."""
    entries = [
        Patch(facecolor=np.array(entry["color"]) / 255, edgecolor=GRID, label=entry["name"])
        for entry in (classes[k] for k in values if k != ignore_label)
    ]
    if ignore_label in values:
        entries.append(
            Patch(facecolor="black", edgecolor="#9a9a9a", hatch="////", label="ignored (no label)")
        )
    return entries


def sample_grid(
    samples: Sequence[Mapping[str, Any]], classes: Classes, title: str, ignore_label: int = 255
) -> Figure:
    """Input, label and prediction side by side, one sample a row, with a legend of the classes.

    Args:
      samples: mappings with `image` uint8 `[H, W, 3]`, `label` and `prediction` `[H, W]` and
        `id`; at least one.
      classes: `classes` of `metrics.json`.
      title: a sentence that says what is shown.
    """
    colors = [entry["color"] for entry in classes]
    ratios = [sample["image"].shape[0] / sample["image"].shape[1] for sample in samples]
    shown = np.unique(
        np.concatenate([np.unique(s[key]) for s in samples for key in ("label", "prediction")])
    )
    entries = legend_entries(shown, classes, ignore_label)
    columns = 6
    width = 10.4
    legend_height = 0.24 * -(-len(entries) // columns) + 0.2
    figure = new_figure(width, width / 3 * sum(ratios) + 0.24 * len(samples) + legend_height + 0.4)
    grid = figure.subplots(len(samples), 3, squeeze=False, height_ratios=ratios)
    for row, sample in zip(grid, samples, strict=True):
        ignored = sample["label"] == ignore_label
        period = max(sample["label"].shape[1] // 32, 3)
        pictures = {
            sample["id"]: sample["image"],
            "label": hatch(colorize(sample["label"], colors, ignore_label), ignored, period),
            "prediction": colorize(sample["prediction"], colors, ignore_label),
        }
        for axes, (name, picture) in zip(row, pictures.items(), strict=True):
            axes.imshow(picture, interpolation="antialiased")
            axes.set_title(_short(name), fontsize=9, loc="left", color=INK, pad=3)
            axes.set_axis_off()
    figure.legend(
        handles=entries,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    sentence_title(figure, title)
    return figure


def _short(name: str, limit: int = 44) -> str:
    """The end of a long name: what tells two file names apart."""
    return name if len(name) <= limit else "…" + name[1 - limit :]


WIDTH = 10.4  # inches


def contact_sheet(
    samples: Sequence[Mapping[str, Any]], classes: Classes, title: str, ignore_label: int = 255
) -> Figure:
    """Each sample above the same with its label drawn over it; ignored pixels are striped.

    Args:
      samples: mappings with ``image`` uint8 [H, W, 3], ``label`` uint8 [H, W], all of one size,
        and ``id``; at least one.
      classes: a ``name`` and a ``color`` (RGB, 0..255) each.
      title: a sentence that says what is shown.
      ignore_label: the label of ignored pixels.
    """
    height, width = samples[0]["label"].shape
    # As many columns as make the sheet about as high as it is wide, or wider.
    columns = min(int(np.ceil((2 * len(samples) * height / width) ** 0.5)), len(samples))
    rows = -(-len(samples) // columns)
    columns = -(-len(samples) // rows)  # no more than it takes
    shown = np.unique(np.stack([s["label"] for s in samples]))
    entries = legend_entries(shown, classes, ignore_label)
    tile = WIDTH / columns
    inches = rows * (1.93 * tile * height / width + 0.22)  # the gaps between tiles are not high
    figure = new_figure(WIDTH, inches + 0.24 * -(-len(entries) // 6) + 0.7)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    colors = [entry["color"] for entry in classes]
    for axes, sample in zip(grid.flat, samples, strict=False):
        over = overlay(sample["image"], sample["label"], colors, ignore_label, 0.6)
        over = hatch(over, sample["label"] == ignore_label, max(width // 32, 3))
        line = np.full((max(height // 100, 1), width, 3), 255, np.uint8)
        axes.imshow(np.concatenate([sample["image"], line, over]), interpolation="antialiased")
        axes.set_title(_fit(sample["id"], tile), fontsize=8, loc="left", color=INK, pad=2)
    legend(figure, handles=entries, loc="outside lower center", ncols=6)
    sentence_title(figure, title)
    return figure


def _fit(name: str, inches: float) -> str:
    """The end of a name that is too long for its tile: what tells two file names apart."""
    most = max(int(13 * inches), 6)
    return name if len(name) <= most else "…" + name[1 - most :]
