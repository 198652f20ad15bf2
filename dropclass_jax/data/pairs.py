"""Data sets made of pairs of an image file and a label file: list, read, check and fingerprint.

``check`` and ``prepare`` both read a source through ``outcomes``, so that they find the same faults
and report them with the same messages.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dropclass_jax.data import checksums
from dropclass_jax.data.builder import Example, SegmentationBuilder
from dropclass_jax.data.files import File
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.data.ordered import ordered_map, progress
from dropclass_jax.errors import UserError


class Pair(NamedTuple):
    """An image file and its label file; None as the label where it is not published."""

    id: str
    image: File
    label: File | None


class Listing(NamedTuple):
    """The files of a split, before any of them is read.

    Attributes:
      pairs: the pairs in order; can be iterated several times.
      faults: one line for each fault of the list itself.
      recipe: JSON that changes with the content of the files; None to derive it from the pairs.
    """

    pairs: Iterable[Pair]
    faults: Sequence[str] = ()
    recipe: Any = None

    @property
    def total(self) -> int | None:
        """The number of pairs; None if it is known only after reading them."""
        return len(self.pairs) if isinstance(self.pairs, Sequence) else None


def source_folder(name: str, source_dir: Path | None, meaning: str) -> Path:
    """Check that the folder of a set's source is given and exists, and return it.

    Raises:
      UserError: it is None or not a folder.
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


def shared_notes(listings: Mapping[str, Listing], sums: Mapping[str, Sequence[Any]]) -> list[str]:
    """A warning for each other split that holds images of ``train``: its scores mean little.

    Images are the same by their content, whatever they are called.

    Args:
      listings: of every split.
      sums: a checksum of each image of a split, None of one that cannot be read; splits whose
        images have none are passed over.
    """

    def contents(split: str) -> Iterator[tuple[tuple[int, Any], Pair]]:
        for pair, checksum in zip(listings[split].pairs, sums[split], strict=True):
            if checksum is not None:
                yield (pair.image.size, checksum), pair

    train, notes = dict(contents("train")) if "train" in sums else {}, []
    for split in sums:
        both = [(pair, train[content]) for content, pair in contents(split) if content in train]
        if not both or split.startswith("train"):
            continue
        pair, other = both[0]
        there = "" if pair.id == other.id else f" ({other.id} in train)"
        notes.append(
            f"warning: {len(both)} images of {split} are in train, too, the first is "
            f"{pair.id}{there}: its scores mean little; remove them from one of the two"
        )
    return notes


def count_notes(
    name: str, listings: Mapping[str, Listing], official: Mapping[str, int]
) -> list[str]:
    """A note for each split whose number of images differs from the official release."""
    return [
        f"{name}: {split} has {listed.total} images, the official release {official[split]}"
        for split, listed in listings.items()
        if listed.total not in (None, official[split])
    ]


class PairBuilder(SegmentationBuilder, skip_registration=True):
    """A builder of a data set that is stored as pairs of files.

    Attributes:
      listings: the pairs of each split.
      skip_bad: whether bad pairs are left out; otherwise the first one raises an error.
    """

    def __init__(
        self,
        facts: DatasetInfo,
        prepared_dir: Path,
        source_dir: Path,
        listings: Mapping[str, Listing],
        options: Mapping[str, Any],
        *,
        skip_bad: bool,
        notes: Sequence[str] = (),
    ) -> None:
        """Compute the fingerprint of the listed files.

        Args:
          facts: names, colours and the ignore label.
          prepared_dir: the folder of all prepared sets.
          source_dir: the folder with the files.
          listings: the pairs of each split, in the order in which splits are written.
          options: all other settings that determine the result, as JSON.
          skip_bad: leave out bad pairs instead of raising an error.
          notes: lines to show to the user once.
        """
        self.listings = dict(listings)
        self.skip_bad = skip_bad
        memory = checksums.memory_of(prepared_dir, source_dir)
        recipes, images = {}, {}
        for split, listed in listings.items():
            recipes[split] = listed.recipe
            if listed.recipe is None:
                recipes[split], images[split] = _recipe(listed.pairs, memory)
        recipe = {"splits": recipes, "skip_bad": skip_bad, **options}
        notes = [*notes, *shared_notes(listings, images)]
        super().__init__(facts, prepared_dir, tuple(listings), recipe, notes)

    @abc.abstractmethod
    def read(self, pair: Pair) -> Example:
        """Read and check one pair; a ``UserError`` names the file, the fault and how to mend it."""

    def outcomes(self, split: str) -> Iterator[Example | UserError]:
        """The faults of a split's list, then each example in order, or the error in its place."""
        listing = self.listings[split]
        yield from map(UserError, listing.faults)
        turned = 0
        for outcome in progress(ordered_map(self._outcome, listing.pairs), split, listing.total):
            turned += isinstance(outcome, Example) and outcome.is_turned
            yield outcome
        if turned:
            self.notes.append(
                f"warning: {turned} images of {split} have an EXIF orientation, which is not "
                "applied: labels that were drawn on the turned image lie wrong; turn the pixels "
                "themselves (mogrify -auto-orient), or remove the tag where labels fit without it"
            )

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
            self.notes.append(f"bad and left out of {split}: {len(bad)}, the first: {bad[0]}")


def _recipe(pairs: Iterable[Pair], memory: Path) -> tuple[Any, list[int | None]]:
    """The ids of pairs with the checksums of their image files, and of their label files.

    Returns:
      All of that as JSON, and the images' checksums by themselves.
    """
    images = checksums.checksums([pair.image for pair in pairs], memory)
    labelled = [pair for pair in pairs if pair.label]
    labels = checksums.checksums([pair.label for pair in labelled], memory)
    recipe = [
        list(zip((pair.id for pair in pairs), images, strict=True)),
        list(zip((pair.id for pair in labelled), labels, strict=True)),
    ]
    return recipe, images
