"""What a run's scores of a split rest on, and whether that is the same for others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dropclass_jax.errors import UserError

MEND = "evaluate both on the same data"


class Scored(NamedTuple):
    """The images of a split and what their labels say; empty as far as it is not known.

    Attributes:
      ids: ``[N]``, the images.
      counts: ``{head: [N, K, 3]}`` hits, labelled and predicted pixels of each image.
      pixels: labelled ones of each class, ``[K]`` of each result.
    """

    ids: np.ndarray | None
    counts: Mapping[str, np.ndarray]
    pixels: Sequence[Sequence[int]]


def pixels_of(entries: Iterable[Mapping[str, Any]], split: str) -> list[list[int]]:
    """The labelled pixels of a split by each of its results in ``metrics.json``."""
    return [entry["pixels"] for entry in entries if entry["split"] == split and "pixels" in entry]


def difference(a: Scored, b: Scored) -> str | None:
    """How two were scored, ``on different images`` or ``by different labels``; None if alike."""
    if a.ids is not None and b.ids is not None and not np.array_equal(a.ids, b.ids):
        return "on different images"
    labels = [counts[..., 1] for side in (a, b) for counts in side.counts.values()]
    for known in (labels, [*a.pixels, *b.pixels]):
        if not all(itertools.starmap(np.array_equal, itertools.pairwise(known))):
            return "by different labels"
    return None


def check_same(names: tuple[Any, Any], split: str, a: Scored, b: Scored) -> None:
    """Refuse two runs that were not scored on the same images and by the same labels.

    Args:
      names: of the two, for the message.
      split: that they were scored on.
      a: what the first was scored on.
      b: likewise.

    Raises:
      UserError: names the two, and what differs.
    """
    if how := difference(a, b):
        raise UserError(f"{names[0]} and {names[1]} were scored {how} of {split}; {MEND}")
