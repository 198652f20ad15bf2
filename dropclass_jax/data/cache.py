"""An in-memory cache of decoded examples, of limited size."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class Source(Protocol):
    """Random access to examples: ``image`` uint8 [H, W, 3], ``label`` uint8 [H, W], ``id`` str.

    Two attributes are optional, and make it unnecessary to read every example for their content:
    ``shapes``, int64 [N, 2], heights and widths; ``class_pixels``, [N, K], pixels of each class.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


class CachedSource:
    """A source that keeps decoded examples in memory until its space is used up.

    Examples are never evicted: an epoch reads every image once, so none is more worth keeping than
    another, and evicting the oldest would evict the one that is needed next. The arrays are
    read-only, as every epoch gets the same ones. Safe to read from several threads.
    """

    def __init__(self, source: Source, max_bytes: int) -> None:
        """Cache at most ``max_bytes`` bytes of arrays of ``source``."""
        self._source = source
        self._room = max_bytes
        self._kept: dict[int, Mapping[str, Any]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        kept = self._kept.get(index)
        return self._keep(index, self._source[index]) if kept is None else kept

    def _keep(self, index: int, example: Mapping[str, Any]) -> Mapping[str, Any]:
        arrays = [value for value in example.values() if isinstance(value, np.ndarray)]
        size = sum(array.nbytes for array in arrays)
        with self._lock:
            if index not in self._kept and size <= self._room:
                for array in arrays:
                    array.setflags(write=False)
                self._kept[index] = example
                self._room -= size
        return example
