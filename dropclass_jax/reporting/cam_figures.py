"""Seg-Grad-CAM pictures: heat maps over images, one network below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from dropclass_jax.analysis.explain import Explained
from dropclass_jax.reporting.plot_style import INK, new_figure, sentence_title

WIDTH = 420  # pixels of a picture: enough for a page, little to keep
MOST_WIDTH, MOST_COLUMN = 10.2, 3.4  # inches: a page, and a third of it
_HEAT = matplotlib.colormaps["inferno"]  # grows in brightness alone, for any eye


class Row(NamedTuple):
    """One network and image, as small as it is shown.

    Attributes:
      label: the run's.
      image_id: of the image.
      image: uint8 `[h, w, 3]`.
      region: bool `[h, w]`, where the class is.
      answer: bool `[h, w]`, where the network says it is.
      recall: share of the class's pixels that the network predicts as such, 0 to 1.
      heat: `{layer, with its stride: [h, w]}`, 0 to 1 where its largest value is.
    """

    label: str
    image_id: str
    image: np.ndarray
    region: np.ndarray
    answer: np.ndarray
    recall: float
    heat: dict[str, np.ndarray]


def row(label: str, example: Mapping[str, Any], class_index: int, explained: Explained) -> Row:
    """A row of a figure, from an example at its own size."""
    height, width = example["label"].shape
    size = (min(WIDTH, width), max(round(height * min(WIDTH / width, 1)), 1))

    def small(array: np.ndarray) -> np.ndarray:
        return cv2.resize(array, size, interpolation=cv2.INTER_AREA)

    here = example["label"] == class_index
    heat = {}
    for layer, array in explained.heat.items():
        stride = explained.strides[layer]
        heat[f"{layer}, stride {stride}"] = small(array / max(array.max(), np.finfo(float).tiny))
    return Row(
        label=label,
        image_id=example["id"],
        image=small(example["image"]),
        region=small(np.float32(here)) > 0.5,
        answer=small(np.float32(explained.answer)) > 0.5,
        recall=float(explained.answer[here].mean()) if here.any() else 0.0,
        heat=heat,
    )


def blend(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Heat `[h, w]` in 0..1 over a dimmed grey image: the hotter, the less of the image is seen."""
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2) * 0.55
    weight = 0.25 + 0.6 * np.clip(heat, 0, 1)[..., None]
    painted = 255 * _HEAT(heat)[..., :3]
    return np.rint((1 - weight) * grey + weight * painted).astype(np.uint8)


def tint(image: np.ndarray, mask: np.ndarray, color: Sequence[int]) -> np.ndarray:
    """The image with a colour over the pixels of a mask."""
    mixed = 0.4 * image + 0.6 * np.asarray(color, np.float64)
    return np.where(mask[..., None], np.rint(mixed), image).astype(np.uint8)


def layers(rows: Sequence[Row]) -> list[str]:
    """The layers that have any heat in any row, in their order: others are not read."""
    most = max((row.heat for row in rows), key=len)  # those of a network with all of them
    names = dict.fromkeys([*most, *(name for row in rows for name in row.heat)])
    return [n for n in names if any(n in row.heat and row.heat[n].max() > 0 for row in rows)]


def read_by_classifier(name: str) -> bool:
    """Whether a classifier reads this layer: the others are maps inside the backbone."""
    return name.startswith("features")


def grid(
    rows: Sequence[Row], names: Sequence[str], name: str, color: Sequence[int], what: str = ""
) -> Figure:
    """Image and heat maps of some layers, a row each; rows of one image stand together.

    Args:
      rows: of one class, at least one.
      names: of the layers, at least one.
      name: the class.
      color: of its predicted pixels, RGB.
      what: goes into the title.
    """
    # Grouped by image: the networks under each other.
    order = list(dict.fromkeys(row.image_id for row in rows))
    rows = sorted(rows, key=lambda row: order.index(row.image_id))
    columns = 1 + len(names)
    width = min(MOST_COLUMN * columns, MOST_WIDTH)
    ratios = [row.image.shape[0] / row.image.shape[1] for row in rows]
    height = sum(ratio * width / columns + 0.22 for ratio in ratios) + 0.6
    figure = new_figure(width, height)
    axes_grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=ratios)
    for number, (line, row) in enumerate(zip(axes_grid, rows, strict=True)):
        line[0].imshow(tint(row.image, row.answer, color))
        line[0].set_title(
            f"{row.label}: finds {row.recall:.0%}", loc="left", fontsize=8.5, color=INK, pad=3
        )
        for axes, layer in zip(line[1:], names, strict=True):
            if layer in row.heat:
                axes.imshow(blend(row.image, row.heat[layer]))
                if not row.heat[layer].max() > 0:
                    _say(axes, "nothing here speaks for it")
            else:
                axes.imshow(np.full_like(row.image, 255))
                _say(axes, "it has no such layer", INK)
            if number == 0:
                axes.set_title(layer, loc="left", fontsize=8.5, color=INK, pad=3)
        for axes in line:
            axes.set_axis_off()
        for axes, layer in zip(line, [None, *names], strict=True):
            if row.region.any() and (layer is None or layer in row.heat):
                axes.contour(row.region, [0.5], colors="black", linewidths=1.4)
                axes.contour(row.region, [0.5], colors="white", linewidths=0.6)
    sentence_title(figure, f"Where the networks look for “{name}”{what}")
    return figure


def _say(axes: Any, words: str, color: str = "white") -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", fontsize=8, color=color)
