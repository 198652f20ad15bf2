"""Sets that are read from pairs of an image and a label file: listed, read, checked, fingerprinted.

``check`` and ``prepare`` see a source through the same ``outcomes``: what one calls bad the other
refuses, in the same words.
"""

from __future__ import annotations

import abc
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tqdm import tqdm

from dropclass_jax.data.builder import Example, SegmentationBuilder
from dropclass_jax.data.files import File
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.errors import UserError

THREADS = min(len(os.sched_getaffinity(0)), 16)

T, R = TypeVar("T"), TypeVar("R")


class Pair(NamedTuple):
    """An image file and its label file; no label where the set has been published without."""

    id: str
    image: File
    label: File | None


class Listing(NamedTuple):
    """What a split consists of, before any of it is read.

    Attributes:
      pairs: can be iterated again and again.
      total: how many they are; None where only reading them tells.
      recipe: JSON that changes with the content of the files.
      faults: what is wrong with the list itself, a line each.
    """

    pairs: Iterable[Pair]
    total: int | None
    recipe: Any
    faults: Sequence[str] = ()


def listing(pairs: Sequence[Pair], faults: Sequence[str] = ()) -> Listing:
    """The listing of pairs that are all known beforehand.

    Its recipe is the name and size of every image and the checksum of every label. Not the times
    of the files: a copy on another machine, or in an archive, is the same set. Labels are small
    enough to read, and what an editor changes without changing a file's size.
    """
    labels = ordered_map(lambda pair: pair.label and pair.label.checksum(), pairs)
    labels = progress(labels, "checksums", len(pairs))
    recipe = [(pair.id, pair.image.size, label) for pair, label in zip(pairs, labels, strict=True)]
    return Listing(pairs, len(pairs), recipe, tuple(faults))


def ordered_map(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``map`` on several threads, in order, with no more than a few results waiting."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def source_folder(name: str, source_dir: Path | None, meaning: str) -> Path:
    """The folder of a set's source.

    Raises:
      UserError: it was not given, or is no folder.
    """
    if source_dir is None:
        raise UserError(
            f"{name} needs its folder, {meaning}: give it as --config.data.dir, or --dir of "
            "dropclass_jax.data"
        )
    if not source_dir.is_dir():
        raise UserError(
            f"{source_dir} is not a folder: give {name}'s, {meaning}, as --config.data.dir, or "
            "--dir of dropclass_jax.data"
        )
    return source_dir


def progress(items: Iterable[T], what: str, total: int | None) -> Iterable[T]:
    """The items, with a bar on a terminal if they take longer than two seconds."""
    return tqdm(items, what, total, leave=False, disable=None, delay=2)


class PairBuilder(SegmentationBuilder, skip_registration=True):
    """A builder of a set that lies somewhere as pairs of files.

    Attributes:
      listings: the pairs of each split.
      skip_bad: whether bad pairs are left out; else the first is an error.
    """

    def __init__(
        self,
        facts: DatasetInfo,
        prepared_dir: Path,
        listings: Mapping[str, Listing],
        options: Mapping[str, Any],
        *,
        skip_bad: bool,
        notes: Sequence[str] = (),
    ) -> None:
        """Take the listings' fingerprint.

        Args:
          facts: names, colours and the ignore label.
          prepared_dir: the folder of all prepared sets.
          listings: the pairs of each split, in the order in which splits are written.
          options: what else decides the result, as JSON.
          skip_bad: leave bad pairs out instead of refusing the set.
          notes: lines to tell the user once.
        """
        self.listings = dict(listings)
        self.skip_bad = skip_bad
        recipe = {
            "splits": {split: listing.recipe for split, listing in listings.items()},
            "skip_bad": skip_bad,
            **options,
        }
        super().__init__(facts, prepared_dir, tuple(listings), recipe, notes)

    @abc.abstractmethod
    def read(self, pair: Pair) -> Example:
        """Read and check one pair; a ``UserError`` names the file, its fault and the mend."""

    def outcomes(self, split: str) -> Iterator[Example | UserError]:
        """Every example of a split in order, or what is wrong with it; first the list's faults."""
        listing = self.listings[split]
        yield from map(UserError, listing.faults)
        yield from progress(ordered_map(self._outcome, listing.pairs), split, listing.total)

    def _outcome(self, pair: Pair) -> Example | UserError:
        try:
            return self.read(pair)
        except UserError as error:
            return error

    def examples(self, split: str) -> Iterator[Example]:
        good, bad = 0, []
        for outcome in self.outcomes(split):
            if isinstance(outcome, Example):
                good += 1
                yield outcome
            elif self.skip_bad:
                bad.append(str(outcome))
            else:
                raise UserError(f"{outcome}; `python -m dropclass_jax.data check` lists all faults")
        if not good:
            raise UserError(f"{self.name}: {split} holds no good example: check the source folder")
        if bad:
            self.notes.append(f"left out {len(bad)} bad examples of {split}, the first: {bad[0]}")
