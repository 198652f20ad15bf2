"""16-bit images to 8 bits: which values become 0 and 255, and what that costs each class.

A window (low, high) maps ``low`` and below to 0, ``high`` and above to 255, and what is between
linearly. The window of a set holds all but 0.1 % of its values on either side, so that hot and dead
pixels do not decide. A rare class may lie in that 0.1 %: the window is widened for it, unless the
other classes would then keep less than a quarter of their grey levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dropclass_jax.errors import UserError
from dropclass_jax.ops.labels import IGNORE_LABEL

CUT = 0.001  # of all values, on either side
CLASS_CUT = 0.01  # of the values of a class, likewise
WIDEST = 4  # times the window of all values
TOLERATED = 0.05  # of the values of a class that may be cut without a warning
BINS = 256


class Values(NamedTuple):
    """The values of the 16-bit training images by class, before and after a window.

    Attributes:
      window: what becomes 0 and 255.
      span: the first and the last value of the bins of ``before``; values beyond are in the ends.
      before: [K, 256], the share of each class's values in each bin of the span.
      after: [K, 256], the share of each class's values that each 8-bit value has.
      cut: [K, 2], the share of each class's values below and above the window.
    """

    window: tuple[int, int]
    span: tuple[int, int]
    before: list[list[float]]
    after: list[list[float]]
    cut: list[list[float]]


def parse(text: str) -> str | tuple[int, int]:
    """The option that says how 16-bit images become 8-bit ones.

    >>> parse("0:4095")
    (0, 4095)

    Args:
      text: ``set``, ``image``, ``full`` or ``LOW:HIGH``.

    Raises:
      UserError: it is none of them.
    """
    if text in ("set", "image"):
        return text
    if text == "full":
        return 0, 65535
    low, _, high = text.partition(":")
    if low.isdecimal() and high.isdecimal() and int(low) < int(high) <= 65535:
        return int(low), int(high)
    raise UserError(
        f"window is 'set', 'image', 'full' or LOW:HIGH with 0 <= LOW < HIGH <= 65535, not {text!r}"
    )


def to_8bit(image: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """Map 16-bit values linearly: ``low`` and below to 0, ``high`` and above to 255.

    Args:
      image: uint16 [H, W, C].
      window: (low, high).

    Returns:
      uint8 [H, W, C], rounded half up.
    """
    return _table(window)[image]


def _table(window: tuple[int, int]) -> np.ndarray:
    """The 8-bit value of every 16-bit one, uint8 [65536]."""
    low, high = window
    values = np.clip(np.arange(65536), low, high) - low
    return ((2 * 255 * values + (high - low)) // (2 * (high - low))).astype(np.uint8)


def histogram(values: np.ndarray) -> np.ndarray:
    """How often each 16-bit value occurs, int64 [65536]."""
    return np.bincount(values.ravel(), minlength=65536)


def by_class(image: np.ndarray, label: np.ndarray) -> dict[int, np.ndarray]:
    """The histogram of each class in an image, and of what is ignored.

    Args:
      image: uint16 [H, W, C].
      label: uint8 [H, W].
    """
    return {int(c): histogram(image[label == c]) for c in np.unique(label)}


def total(histograms: Iterable[Mapping[int, np.ndarray]]) -> dict[int, np.ndarray]:
    """The sums of the histograms of many images."""
    counts: dict[int, np.ndarray] = {}
    for found in histograms:
        for c, values in found.items():
            counts[c] = counts[c] + values if c in counts else values
    return counts


def window_of(counts: np.ndarray, cut: float = CUT) -> tuple[int, int]:
    """The values between which all but ``cut`` of them on either side lie, low below high."""
    shares = np.cumsum(counts) / max(counts.sum(), 1)
    low = int(np.searchsorted(shares, cut, side="right"))
    high = int(np.searchsorted(shares, 1 - cut))
    low = min(low, 65534)
    return low, max(high, low + 1)


def choose(counts: Mapping[int, np.ndarray]) -> tuple[int, int]:
    """The window of a set: that of all values, widened for its classes where that is cheap.

    Args:
      counts: the histogram of each class, and of what is ignored.
    """
    low, high = window_of(sum(counts.values(), np.zeros(65536, np.int64)))
    widest = max(WIDEST * (high - low), 255)  # 256 values lose nothing
    own = [window_of(values, CLASS_CUT) for c, values in counts.items() if c != IGNORE_LABEL]
    # Those that need the least first.
    for below, above in sorted(own, key=lambda window: max(low - window[0], window[1] - high)):
        below, above = min(low, below), max(high, above)
        if above - below <= widest:
            low, high = below, above
    return low, high


def describe(counts: Mapping[int, np.ndarray], num_classes: int, window: tuple[int, int]) -> Values:
    """What a window does to the values of each class."""
    none = np.zeros(65536, np.int64)
    table = np.array([counts.get(c, none) for c in range(num_classes)])  # [K, 65536]
    number = np.maximum(table.sum(axis=1), 1)
    low, high = window
    own = [window_of(values, CUT) for values in table if values.any()]
    first = min([low, *(below for below, _ in own)])
    last = max([high, *(above for _, above in own)])
    bins = np.clip((np.arange(65536) - first) * BINS // (last - first + 1), 0, BINS - 1)
    eight = _table(window)
    before = [np.bincount(bins, values, BINS) / n for values, n in zip(table, number, strict=True)]
    after = [np.bincount(eight, values, BINS) / n for values, n in zip(table, number, strict=True)]
    cut = np.stack([table[:, :low].sum(axis=1), table[:, high + 1 :].sum(axis=1)], axis=1)
    return Values(
        (low, high),
        (first, last),
        [values.round(7).tolist() for values in before],
        [values.round(7).tolist() for values in after],
        (cut / number[:, None]).round(7).tolist(),
    )


def warnings(names: Sequence[str], values: Values) -> list[str]:
    """A line for every class of which too much is cut, with a window that keeps it."""
    low, high = values.window
    lines = []
    for name, before, (below, above) in zip(names, values.before, values.cut, strict=True):
        if max(below, above) <= TOLERATED:
            continue
        first, last = _span(values.span, np.array(before))
        wide = min(low, first), max(high, last)
        levels = 256 * (high - low) // (wide[1] - wide[0])
        where = f"{above:.0%} of the values of {name} lie above the window and become 255"
        if below > above:
            where = f"{below:.0%} of the values of {name} lie below the window and become 0"
        lines.append(
            f"warning: {where}: window={wide[0]}:{wide[1]} keeps them, and {levels} grey levels of "
            "256 for what the window holds now"
        )
    return lines


def _span(span: tuple[int, int], shares: np.ndarray) -> tuple[int, int]:
    """The values between which all but ``CLASS_CUT`` of a class on either side lie, to a bin."""
    first, last = span
    width = (last - first + 1) / BINS
    running = np.cumsum(shares)
    low = int(np.searchsorted(running, CLASS_CUT, side="right"))
    high = min(int(np.searchsorted(running, 1 - CLASS_CUT)), BINS - 1)
    return int(first + low * width), min(int(np.ceil(first + (high + 1) * width)), 65535)


def from_json(content: Mapping[str, Any] | None) -> Values | None:
    """``Values`` as ``_asdict`` and JSON left them."""
    if content is None:
        return None
    return Values(**{**content, "window": tuple(content["window"]), "span": tuple(content["span"])})
