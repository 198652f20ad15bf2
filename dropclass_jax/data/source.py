"""Random access to one split of a prepared set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dropclass_jax.data import codec


@dataclasses.dataclass(frozen=True)
class PreparedSource:
    """One split of a prepared set, a sequence of examples; safe to read from several threads.

    Attributes:
      records: encoded ``image``, ``label`` and ``id`` of each example, as bytes.
      shapes: int64 [N, 2], height and width of each example, available without decoding.
      class_pixels: int32 [N, K], labelled pixels of each class in each example, likewise.
    """

    records: Sequence[Mapping[str, bytes]]
    shapes: np.ndarray = dataclasses.field(repr=False)
    class_pixels: np.ndarray = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image`` RGB uint8 [H, W, 3], ``label`` uint8 [H, W] and ``id`` str of example i."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of a split of {len(self)}")
        record = self.records[index % len(self)]
        return {
            "image": codec.decode_image(record["image"]),
            "label": codec.decode_label(record["label"]),
            "id": record["id"].decode(),
        }
