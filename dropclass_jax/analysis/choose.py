"""Which images of a split are looked at, and which classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dropclass_jax.data.cache import Source

# A class is looked for where it holds at least this share of an image: less is a few pixels.
LARGE_ENOUGH = 1e-3


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some of a source's examples: ``len()`` and ``[i]``, as a source.

    Attributes:
      source: of all.
      indices: which of them, in this order.
    """

    source: Source
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.source[int(self.indices[index])]

    @property
    def shapes(self) -> np.ndarray:
        """int64 [n, 2], height and width of each example."""
        return self.source.shapes[np.asarray(self.indices)]


def spread(source: Source, images: int | None) -> Source:
    """Picks images spread evenly over a source, as neighbours are often alike; all by default."""
    if images is None or images >= len(source):
        return source
    return Subset(source, np.linspace(0, len(source) - 1, images).round().astype(int))


def images_of(source: Source, class_index: int, number: int) -> list[int]:
    """The images in which a class is largest by its share of the image, largest first.

    Args:
      source: of a split.
      class_index: the class.
      number: how many at most. Images in which it is not ``LARGE_ENOUGH`` are left out.
    """
    shares = source.class_pixels[:, class_index] / np.prod(source.shapes, axis=1)
    largest = np.argsort(-shares, kind="stable")[:number]
    return [int(i) for i in largest if shares[i] >= LARGE_ENOUGH]


def rare_classes(shares: Sequence[float], present: Sequence[bool], tail_share: float) -> list[int]:
    """The classes under ``tail_share`` of the training pixels, or else the three rarest.

    Args:
      shares: of the training pixels, K.
      present: whether a class occurs where it would be looked for, K; one that does not is left
        out.
      tail_share: what is rare.

    Returns:
      Class indices, the rarest last.
    """
    order = [k for k in np.argsort(-np.asarray(shares), kind="stable") if present[k]]
    return [int(k) for k in order if shares[k] < tail_share] or [int(k) for k in order[-3:]]
