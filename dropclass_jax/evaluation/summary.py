"""Summaries of an evaluation: class groups, absent classes, trivial baselines.

Everything here is a pure function of the `results` and `classes` lists of `metrics.json`. An
`entry` is one element of `results` (one split, one head); IoU values are fractions in 0..1, `None`
for a class that has neither a labelled nor a predicted pixel in the split. Confusion matrices are
`[K, K]` pixel counts with the label along the rows and the prediction along the columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Entry = Mapping[str, Any]
Classes = Sequence[Mapping[str, Any]]

# How an entry's images were shown to the network, where it does not say otherwise.
WHOLE = "whole"

# A class belongs to the head of the distribution from this share of the labelled training pixels
# on, to the tail below the second one, and to the medium group in between.
HEAD_SHARE = 0.10
TAIL_SHARE = 0.01
GROUPS = {
    "head": f"at least {HEAD_SHARE:.0%} of the training pixels",
    "medium": f"{TAIL_SHARE:.0%} to {HEAD_SHARE:.0%}",
    "tail": f"under {TAIL_SHARE:.0%}",
}


def group_of(train_share: float) -> str:
    """The group of a class with this share (0..1) of the training pixels: a key of `GROUPS`."""
    if train_share >= HEAD_SHARE:
        return "head"
    return "medium" if train_share >= TAIL_SHARE else "tail"


def by_share(classes: Classes) -> list[int]:
    """Class indices, the commonest in training first; ties keep the data set's order."""
    return sorted(range(len(classes)), key=lambda k: -classes[k]["train_pixel_share"])


def mean_present(values: Sequence[float | None]) -> float | None:
    """Mean over the values that are not None; None where there are none."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def group_means(entry: Entry, classes: Classes) -> dict[str, tuple[float | None, int]]:
    """`{group: (mean IoU, classes counted)}`; absent classes are left out."""
    ious: dict[str, list[float]] = {group: [] for group in GROUPS}
    for value, facts in zip(entry["iou"], classes, strict=True):
        if value is not None:
            ious[group_of(facts["train_pixel_share"])].append(value)
    return {group: (mean_present(values), len(values)) for group, values in ious.items()}


def group_masks(classes: Classes) -> dict[str, np.ndarray]:
    """`{group: [K] bool}`, those groups that have classes."""
    of_class = np.array([group_of(facts["train_pixel_share"]) for facts in classes])
    masks = {group: of_class == group for group in GROUPS}
    return {group: mask for group, mask in masks.items() if mask.any()}


def absent(entry: Entry) -> list[int]:
    """Classes with neither a labelled nor a predicted pixel in the split."""
    return [k for k, value in enumerate(entry["iou"]) if value is None]


def split_shares(entry: Entry) -> np.ndarray:
    """Share of the split's labelled pixels per class, float64 `[K]`."""
    pixels = np.asarray(entry["pixels"], np.float64)
    return pixels / max(pixels.sum(), 1.0)


def constant_answer(entry: Entry) -> tuple[int, float]:
    """`(class, mean IoU)` of always predicting the split's commonest class.

    That class's IoU is its share of the labelled pixels; every other labelled class scores 0.
    """
    shares = split_shares(entry)
    best = int(shares.argmax())
    return best, float(shares[best] / max(np.count_nonzero(shares), 1))


def never_predicted(entry: Entry) -> list[int]:
    """Classes that are labelled in the split and never predicted."""
    confusion = np.asarray(entry["confusion"])
    return np.flatnonzero((confusion.sum(1) > 0) & (confusion.sum(0) == 0)).tolist()


def never_right(entry: Entry) -> list[int]:
    """Classes that are predicted, but never where they are the label."""
    confusion = np.asarray(entry["confusion"])
    return np.flatnonzero((confusion.sum(0) > 0) & (confusion.diagonal() == 0)).tolist()


def top_confusions(entry: Entry, count: int) -> list[tuple[int, int, float]]:
    """The `count` largest `(label, prediction, share of the label's pixels)` off the diagonal."""
    confusion = np.asarray(entry["confusion"], np.float64)
    rates = confusion / np.maximum(confusion.sum(1, keepdims=True), 1.0)
    np.fill_diagonal(rates, 0.0)
    order = np.argsort(-rates, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, rates.shape), strict=True)
    return [(int(row), int(column), float(rates[row, column])) for row, column in pairs]


def context_gaps(inside: Entry, outside: Entry) -> list[float | None]:
    """IoU in context minus IoU out of context per class.

    None where either split lacks the class, and where it scores 0 in both: a network that never
    finds a class cannot lose it, which would pass for robustness in the mean.
    """
    pairs = zip(inside["iou"], outside["iou"], strict=True)
    return [None if a is None or b is None or a == b == 0 else a - b for a, b in pairs]


# Where a data set has both, the second shows the classes of the first out of their usual context.
CONTEXT_SPLITS = ("val", "val_out")


def headline(metrics: Mapping[str, Any]) -> list[Entry]:
    """The evaluations of the main split, the output that predicts first.

    The split is `val` if there is one, else the first; the drop head predicts if there is one.
    """
    splits = _by_split(metrics)
    return splits.get(CONTEXT_SPLITS[0]) or next(iter(splits.values()))


def _by_split(metrics: Mapping[str, Any]) -> dict[str, list[Entry]]:
    splits: dict[str, list[Entry]] = {}
    for entry in metrics["results"]:
        splits.setdefault(entry["split"], []).append(entry)
    return {
        split: sorted(entries, key=lambda entry: entry["head"] != "drop")
        for split, entries in splits.items()
    }


def _context_pair(metrics: Mapping[str, Any]) -> tuple[Entry, Entry] | None:
    """The predicting head's evaluations in and out of context."""
    splits = _by_split(metrics)
    if not all(split in splits for split in CONTEXT_SPLITS):
        return None
    inside, outside = (splits[split][0] for split in CONTEXT_SPLITS)
    return (inside, outside) if inside["head"] == outside["head"] else None
