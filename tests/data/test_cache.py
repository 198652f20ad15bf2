"""The cache: each example is decoded once while there is room, and never more is kept."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest

from dropclass_jax.data.cache import CachedSource


class Counting:
    """Four examples of 40 bytes that count how often they are read."""

    def __init__(self):
        self.reads = Counter()

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        self.reads[index] += 1
        image = np.full((2, 5, 3), index, np.uint8)
        return {"image": image, "label": image[..., 0].copy(), "id": str(index)}


@pytest.mark.parametrize(("room", "kept"), [(0, 0), (39, 0), (40, 1), (119, 2), (10**6, 4)])
def test_it_keeps_what_fits_and_reads_the_rest_again(room, kept):
    source = Counting()
    cached = CachedSource(source, room)
    assert len(cached) == 4
    for _ in range(3):
        for i in range(4):
            example = cached[i]
            assert example["id"] == str(i)
            assert np.all(example["image"] == i)
            assert np.all(example["label"] == i)
    assert sorted(source.reads.values()) == [1] * kept + [3] * (4 - kept)


def test_what_it_keeps_cannot_be_changed():
    cached = CachedSource(Counting(), 1000)
    cached[0]
    with pytest.raises(ValueError, match="read-only"):
        cached[0]["image"][:] = 7


def test_threads_that_read_at_once_take_no_more_room():
    barrier = threading.Barrier(4)

    class Slow(Counting):
        def __getitem__(self, index: int) -> dict:
            barrier.wait()  # all four decode example 0 before any of them keeps it
            return super().__getitem__(index)

    source = Slow()
    cached = CachedSource(source, 80)
    threads = [threading.Thread(target=lambda: cached[0]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.reads == {0: 4}
    cached._source = Counting()
    for _ in range(2):
        cached[0], cached[1], cached[2]
    assert cached._source.reads == {1: 1, 2: 2}  # there was room for one more, not for two
