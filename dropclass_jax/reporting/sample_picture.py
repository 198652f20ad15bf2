"""An image, its label and an answer in one picture that says what they are, for TensorBoard.

Drawn with Pillow rather than matplotlib: training waits for it at every evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from dropclass_jax.reporting import pictures
from dropclass_jax.reporting.legend_overlay import Row, draw_key, font_of, key_width, short
from dropclass_jax.reporting.plot_style import INK

# Of a panel, in pixels: a narrower one is enlarged by a whole number, a larger one is made smaller.
LEAST_WIDTH = 400
MOST_HEIGHT, MOST_WIDTH = 1200, 800
LEAST_COLUMN = 180  # so that a heading can be read
LINE = 22  # height of a line of text
GAP = 6  # between the panels


def sample_picture(
    sample: Mapping[str, Any],
    names: Sequence[str],
    colors: Sequence[Sequence[int]],
    answer_of: str,
    ignore_label: int = 255,
) -> np.ndarray:
    """A title, three panels with a heading each, and the classes that they show.

    The classes are listed with their share of the labelled pixels, the commonest first; at the end
    those that the answer alone has. Ignored pixels of the label are striped.

    Args:
      sample: ``image`` uint8 [H, W, 3], ``label`` and ``prediction`` [H, W], and ``id``.
      names: the K classes.
      colors: K RGB triples, 0..255.
      answer_of: what predicted, as ``drop head``.
      ignore_label: the label of ignored pixels.

    Returns:
      uint8 [H', W', 3], white where nothing is drawn.
    """
    label, prediction = sample["label"], sample["prediction"]
    ignored = label == ignore_label
    stripes = max(label.shape[1] // 32, 3)
    panels = {
        "image": sample["image"],
        "label": pictures.hatch(pictures.colorize(label, colors, ignore_label), ignored, stripes),
        f"answer of the {answer_of}": pictures.colorize(prediction, colors),
    }
    rows = _classes(label[~ignored], prediction, names)
    drawn = {name: _fit(panel, smooth=name == "image") for name, panel in panels.items()}
    height = len(drawn["image"])
    height = max(height, LINE * (len(rows) + 1))  # so that the list of the classes has room
    columns = [_headed(name, panel, LINE + height) for name, panel in drawn.items()]
    key = draw_key(rows, colors, height, key_width(tuple(names), LINE), LINE)
    columns.append(_headed("share of the label", key, LINE + height))
    below = np.concatenate(columns, axis=1)
    title = _text(str(sample["id"]), below.shape[1], bold=True)
    return np.concatenate([title, below])


def _classes(labelled: np.ndarray, prediction: np.ndarray, names: Sequence[str]) -> list[Row]:
    """The classes of the label, the commonest first, and then those of the answer alone."""
    shares = np.bincount(labelled, minlength=len(names)) / max(labelled.size, 1)
    answered = np.bincount(prediction.ravel(), minlength=len(names)) > 0
    order = [k for k in np.argsort(-shares, kind="stable") if shares[k] > 0 or answered[k]]
    return [Row(int(k), short(names[k]), float(shares[k])) for k in order]


def _fit(panel: np.ndarray, smooth: bool) -> np.ndarray:
    """A panel enlarged by repetition, or made smaller: smoothly, or by leaving pixels out."""
    height, width = panel.shape[:2]
    most = min(MOST_HEIGHT / height, MOST_WIDTH / width)
    factor = min(-(-LEAST_WIDTH // width), int(most)) if most >= 1 else most
    size = (max(round(factor * width), 1), max(round(factor * height), 1))
    by_area = smooth and factor < 1
    return cv2.resize(panel, size, interpolation=cv2.INTER_AREA if by_area else cv2.INTER_NEAREST)


def _headed(heading: str, panel: np.ndarray, height: int) -> np.ndarray:
    """A panel under its heading, with white below and on its right."""
    width = max(panel.shape[1], LEAST_COLUMN)
    beside, below = width - panel.shape[1] + GAP, height - LINE - len(panel)
    panel = np.pad(panel, ((0, below), (0, beside), (0, 0)), constant_values=255)
    return np.concatenate([_text(heading, width + GAP), panel])


def _text(words: str, width: int, bold: bool = False) -> np.ndarray:
    """A line of text, uint8 [LINE, width, 3]; of a long one the end, which tells files apart."""
    font = font_of(LINE, bold)
    while len(words) > 1 and font.getlength(words) > width - GAP:
        words = "…" + words.removeprefix("…")[1:]
    canvas = Image.new("RGB", (width, LINE), "white")
    ImageDraw.Draw(canvas).text((GAP // 2, LINE // 2), words, INK, font, anchor="lm")
    return np.asarray(canvas)
