"""Pascal VOC 2012 (Everingham et al., IJCV 2010): photographs, 20 kinds of objects and background.

Read from the downloaded archive or from the unpacked files, in one folder:

    VOCtrainval_11-May-2012.tar     VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets}

and, for the customary augmented training set of 10,582 images, one of

    benchmark.tgz                   SBD (Hariharan et al., ICCV 2011): labels as MATLAB files
    SegmentationClassAug/           the same labels as PNGs

``train_aug`` is ``train`` with VOC's own labels, followed by the images outside ``train`` and
``val`` that the second source labels. SBD marks no borders; those of VOC, 255, are ignored.
"""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import scipy.io

from dropclass_jax.data import files, headers, images, masks
from dropclass_jax.data.builder import Example
from dropclass_jax.data.files import File
from dropclass_jax.data.info import VOC
from dropclass_jax.data.pairs import (
    Listing,
    Pair,
    PairBuilder,
    count_notes,
    source_folder,
)
from dropclass_jax.errors import UserError

ARCHIVE = "VOCtrainval_11-May-2012.tar"
OFFICIAL = {"train": 1464, "val": 1449, "train_aug": 10_582}
TABLE = np.full(256, masks.UNKNOWN, np.uint8)
TABLE[: VOC.num_classes] = range(VOC.num_classes)
TABLE[VOC.ignore_label] = VOC.ignore_label
WANTED = f"0..{VOC.num_classes - 1}, or {VOC.ignore_label} for a border"


class Voc(PairBuilder, skip_registration=True):
    """Pascal VOC 2012: splits ``train``, ``val`` and, with SBD or its PNGs, ``train_aug``."""

    name = "voc"

    def __init__(
        self, *, prepared_dir: Path, source_dir: Path | None = None, skip_bad: bool = False
    ) -> None:
        """List the archives or folders.

        Args:
          prepared_dir: the folder of all prepared sets.
          source_dir: the folder with ``VOCtrainval_11-May-2012.tar`` or ``VOCdevkit``.
          skip_bad: leave out bad pairs instead of raising an error.

        Raises:
          UserError: a folder, archive or list is missing or damaged.
        """
        source_dir = source_folder(self.name, source_dir, f"the one with {ARCHIVE} or VOCdevkit/")
        tree = _tree(source_dir)
        names = {split: _names(source_dir, tree, split) for split in ("train", "val")}
        listings = {
            split: Listing(
                [_pair(tree, name) for name in dict.fromkeys(listed)],
                [
                    f"VOC2012/{_list(split)} lists {name} {number} times: remove all but one"
                    for name, number in Counter(listed).items()
                    if number > 1
                ],
            )
            for split, listed in names.items()
        }
        train = listings["train"].pairs
        besides = _Besides(tree, frozenset(names["train"] + names["val"]))
        aug, benchmark = _aug_folder(source_dir), source_dir / "benchmark.tgz"
        if aug is not None:
            listings["train_aug"] = Listing(train + besides.in_folder(aug))
        elif benchmark.is_file():
            listings["train_aug"] = Listing(
                _Chain(train, besides, benchmark), recipe=files.gzip_checksum(benchmark)
            )
        notes = count_notes(self.name, listings, OFFICIAL)
        super().__init__(
            VOC, prepared_dir, source_dir, listings, {}, skip_bad=skip_bad, notes=notes
        )

    def read(self, pair: Pair) -> Example:
        encoded, image = images.read_8bit(pair.image)
        is_matlab = pair.label.where.endswith(".mat")
        stored = _read_matlab(pair.label) if is_matlab else masks.read_index(pair.label)
        label = masks.translate(stored, TABLE, pair.label, WANTED)
        images.check_shapes(pair.image, image, pair.label, label)
        return Example(pair.id, encoded, label, headers.is_turned(encoded))


def _tree(source_dir: Path) -> dict[str, File]:
    """The files of VOC2012, by their paths relative to that folder."""
    if (source_dir / ARCHIVE).is_file():
        found = files.tar_archive(source_dir / ARCHIVE)
        inside = "VOCdevkit/VOC2012/"
        tree = {n.removeprefix(inside): f for n, f in found.items() if n.startswith(inside)}
        if not tree:
            raise UserError(f"{source_dir / ARCHIVE} holds no {inside}: download it again")
        return tree
    for root in (source_dir / "VOCdevkit" / "VOC2012", source_dir / "VOC2012", source_dir):
        if (root / "JPEGImages").is_dir():
            return {
                name: file
                for inside in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
                for name, file in files.folder(root, inside).items()
            }
    raise UserError(
        f"{source_dir} holds neither {ARCHIVE} nor VOCdevkit/VOC2012/JPEGImages: download the "
        "first from host.robots.ox.ac.uk/pascal/VOC"
    )


def _list(split: str) -> str:
    return f"ImageSets/Segmentation/{split}.txt"


def _names(source_dir: Path, tree: dict[str, File], split: str) -> list[str]:
    path = _list(split)
    if path not in tree:
        raise UserError(f"{source_dir}: VOC2012/{path} is missing: unpack or download VOC again")
    return tree[path].read().decode("utf-8-sig", "replace").split()


def _pair(tree: dict[str, File], name: str) -> Pair:
    label = _member(tree, f"SegmentationClass/{name}.png", "label")
    return Pair(name, _image(tree, name), label)


def _member(tree: dict[str, File], name: str, kind: str) -> File:
    complaint = f"the {kind} VOC2012/{name} is missing: unpack or download VOC again"
    return tree.get(name) or files.missing(complaint)


def _image(tree: dict[str, File], name: str) -> File:
    return _member(tree, f"JPEGImages/{name}.jpg", "image")


def _aug_folder(source_dir: Path) -> Path | None:
    """The folder ``SegmentationClassAug``, beside the archive or in VOC2012; None without one."""
    for root in (source_dir, source_dir / "VOCdevkit" / "VOC2012", source_dir / "VOC2012"):
        if (root / "SegmentationClassAug").is_dir():
            return root / "SegmentationClassAug"
    return None


class _Besides(NamedTuple):
    """Pairs of VOC's images and SBD's labels, except for ``own``: VOC's train and val."""

    tree: dict[str, File]
    own: frozenset[str]

    def in_folder(self, folder: Path) -> list[Pair]:
        return [
            Pair(PurePosixPath(name).stem, _image(self.tree, PurePosixPath(name).stem), file)
            for name, file in files.folder(folder).items()
            if name.endswith(".png") and PurePosixPath(name).stem not in self.own
        ]

    def in_benchmark(self, path: Path) -> Iterator[Pair]:
        """The pairs in the archive's order: without an index, it is streamed, and nothing kept."""
        found = 0
        for name, content in files.tar_stream(path):
            member = PurePosixPath(name)
            if member.parent.name != "cls" or member.suffix != ".mat":
                continue
            found += 1
            if member.stem not in self.own:
                label = File(f"{path}/{name}", len(content), lambda content=content: content)
                yield Pair(member.stem, _image(self.tree, member.stem), label)
        if not found:
            raise UserError(f"{path} holds no labels dataset/cls/*.mat: download it again")


@dataclasses.dataclass(frozen=True)
class _Chain:
    """The pairs of ``train``, then those that SBD adds; can be iterated several times."""

    train: list[Pair]
    besides: _Besides
    benchmark: Path

    def __iter__(self) -> Iterator[Pair]:
        yield from self.train
        yield from self.besides.in_benchmark(self.benchmark)


def _read_matlab(file: File) -> np.ndarray:
    """Read ``GTcls.Segmentation`` of one of SBD's files, uint8 [H, W]."""
    try:
        content = scipy.io.loadmat(io.BytesIO(file.read()), squeeze_me=True)
        label = content["GTcls"]["Segmentation"].item()
    # scipy raises all kinds of exceptions for a damaged file.
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{file.where} is no label of SBD (a MATLAB file with GTcls.Segmentation): download "
            "the archive again"
        ) from error
    if label.dtype != np.uint8 or label.ndim != 2:
        raise UserError(f"{file.where} is {label.dtype} {label.shape}: want uint8 [H, W]")
    return label
