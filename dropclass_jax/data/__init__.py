"""Data sets: ``load`` prepares one when it must and returns it as a frozen value."""

from __future__ import annotations

import dataclasses
import inspect
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dropclass_jax.data import splits
from dropclass_jax.data.builder import SegmentationBuilder
from dropclass_jax.data.camvid import CamVid
from dropclass_jax.data.cityscapes import Cityscapes
from dropclass_jax.data.folder import Folder
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.data.source import PreparedSource
from dropclass_jax.data.streets import Streets
from dropclass_jax.data.voc import Voc
from dropclass_jax.data.windows import Values
from dropclass_jax.errors import UserError, unknown

__all__ = ["Dataset", "create_builder", "load"]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared set.

    Attributes:
      info: its facts: names, colours, ignore label.
      splits: random access to each split: ``len()`` and ``[i]``, a dict of ``image`` uint8
        [H, W, 3], ``label`` uint8 [H, W] and ``id`` str.
      class_pixels: labelled pixels of each class in each split, int64 [K].
      fingerprint: a hash of the source files and the options that the set was prepared from.
      values: of 16-bit training images, by class, before and after they became 8-bit ones.
    """

    info: DatasetInfo
    splits: Mapping[str, PreparedSource]
    class_pixels: Mapping[str, np.ndarray]
    fingerprint: str
    values: Values | None = None

    @property
    def counted_info(self) -> DatasetInfo:
        """The facts with the pixels of each class as counted in ``train``."""
        counts = tuple(int(pixels) for pixels in self.class_pixels["train"])
        return dataclasses.replace(self.info, train_pixels=counts)

    def trained_on(self, split: str) -> Dataset:
        """The same set with another of its splits as ``train``.

        Raises:
          UserError: it has no such split.
        """
        if split not in self.splits:
            raise UserError(
                f"data set {self.info.name} has no split {split!r} to train on; it has "
                f"{', '.join(self.splits)}"
            )
        return dataclasses.replace(
            self,
            splits={**self.splits, "train": self.splits[split]},
            class_pixels={**self.class_pixels, "train": self.class_pixels[split]},
        )

    def check_split(self, split: str) -> None:
        """Refuse a split that the set does not have, or has no labels of.

        Raises:
          UserError: lists the splits that there are, or says which has no labels.
        """
        if split not in self.splits:
            raise UserError(
                f"data set {self.info.name} has no split {split!r}; it has {', '.join(self.splits)}"
            )
        if not self.class_pixels[split].any():
            raise UserError(
                f"split {split!r} of data set {self.info.name} has no labelled pixel: "
                "choose another"
            )


def load(
    name: str,
    source_dir: str | os.PathLike | None = None,
    prepared_dir: str | os.PathLike | None = None,
    **options: Any,
) -> Dataset:
    """Open a data set, preparing it first if its source or options are new.

    A set is written once per fingerprint of its source files and options and kept; nothing is
    deleted. It is safe to call this from several processes at once.

    Args:
      name: ``"camvid"``, ``"cityscapes"``, ``"folder"``, ``"streets"`` or ``"voc"``.
      source_dir: the folder with the set as it was downloaded; ``streets`` is drawn and has none.
      prepared_dir: the folder of all prepared sets; default: ``$DROPCLASS_DATA`` or
        ``~/.cache/dropclass_jax/data``.
      **options: of the set's builder: see its class.

    Raises:
      UserError: at an unknown name or option, or anything wrong with the source.
    """
    builder = create_builder(name, source_dir, prepared_dir, **options)
    if not builder.is_prepared():
        _prepare(builder)
    return Dataset(
        info=builder.prepared_facts(),
        splits={split: builder.source(split) for split in builder.split_names},
        class_pixels=builder.class_pixels(),
        fingerprint=builder.fingerprint,
        values=builder.prepared_values(),
    )


def _prepare(builder: SegmentationBuilder) -> None:
    told = list(builder.notes)
    for note in told:
        print(note)
    print(f"preparing {builder.name} in {builder.data_dir} (once) ...", flush=True)
    start = time.monotonic()
    builder.prepare()
    pixels = {split: builder.source(split).class_pixels for split in builder.split_names}
    images = {split: (counts > 0).sum(axis=0) for split, counts in pixels.items()}
    for note in (*builder.notes[len(told) :], *splits.gaps(builder.facts.classes, images)):
        print(note)
    counts = ", ".join(f"{split} {len(builder.source(split))}" for split in builder.split_names)
    seconds = time.monotonic() - start
    print(f"prepared {builder.name}: {counts} images in {seconds:.1f} s", flush=True)


def create_builder(
    name: str,
    source_dir: str | os.PathLike | None = None,
    prepared_dir: str | os.PathLike | None = None,
    **options: Any,
) -> SegmentationBuilder:
    """The builder of a data set, with its source listed and nothing prepared; as ``load``."""
    builders = {builder.name: builder for builder in (CamVid, Cityscapes, Folder, Streets, Voc)}
    _check_known("data set", [name], builders)
    builder = builders[name]
    parameters = dict(inspect.signature(builder).parameters)
    known = {key: p for key, p in parameters.items() if key not in ("prepared_dir", "source_dir")}
    _check_known(f"option of {name}", options, known)
    for key, value in options.items():
        _check_type(f"option {key} of {name}", value, known[key].default)
    if prepared_dir is None:
        prepared_dir = os.environ.get("DROPCLASS_DATA") or "~/.cache/dropclass_jax/data"
    return builder(
        prepared_dir=Path(prepared_dir).expanduser(),
        source_dir=None if source_dir is None else Path(source_dir).expanduser(),
        **options,
    )


def _check_type(what: str, value: Any, default: Any) -> None:
    """Refuse an option of another type than its default; a whole number will do for a float."""
    allowed = (int, float) if isinstance(default, float) else (type(default),)
    if type(value) not in allowed:
        wanted = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
        raise UserError(f"{what} is {value!r}: want {wanted[type(default)]}")


def _check_known(what: str, names, known) -> None:
    for name in names:
        if name not in known:
            raise UserError(unknown(what, name, sorted(known)))
