"""Cityscapes (Cordts et al., CVPR 2016): street scenes of 2048 x 1024 pixels, 19 of 34 classes.

Read from the downloaded archives or from the unpacked files, in one folder:

    leftImg8bit_trainvaltest.zip    leftImg8bit/<split>/<city>/<id>_leftImg8bit.png
    gtFine_trainvaltest.zip         gtFine/<split>/<city>/<id>_gtFine_labelIds.png
    leftImg8bit_trainextra.zip      leftImg8bit/train_extra/...                     for train_extra
    gtCoarse.zip                    gtCoarse/train_extra/.../<id>_gtCoarse_labelIds.png

The labels of ``test`` are withheld by the benchmark: the published ones mark only the ego
vehicle. Every pixel of that split is ignored; it is for prediction, not for evaluation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dropclass_jax.data import files, images, masks
from dropclass_jax.data.builder import Example
from dropclass_jax.data.files import File
from dropclass_jax.data.info import CITYSCAPES
from dropclass_jax.data.pairs import Listing, Pair, PairBuilder, count_notes, source_folder
from dropclass_jax.errors import UserError

# This one of train_extra's 19,998 images is known to be damaged: it is all black.
DAMAGED = "troisdorf_000000_000073"
# The number of images in the official release, without the damaged one.
OFFICIAL = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19_997}

# The label ids that are evaluated, in the order of their classes; all others are ignored.
EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
NUM_IDS = 34
TABLE = np.full(256, masks.UNKNOWN, np.uint8)
TABLE[:NUM_IDS] = CITYSCAPES.ignore_label
TABLE[list(EVALUATED)] = range(len(EVALUATED))


class Cityscapes(PairBuilder, skip_registration=True):
    """Cityscapes: splits ``train``, ``val``, ``test`` if present, ``train_extra`` on request."""

    name = "cityscapes"

    def __init__(
        self,
        *,
        prepared_dir: Path,
        source_dir: Path | None = None,
        train_extra: bool = False,
        storage: str = "original",
        skip_bad: bool = False,
    ) -> None:
        """List the archives or folders.

        Args:
          prepared_dir: the folder of all prepared sets.
          source_dir: the folder with the zips, or with ``leftImg8bit`` and ``gtFine``.
          train_extra: whether to add the split of that name, with its coarse labels.
          storage: how the images are stored; see ``images.stored``.
          skip_bad: leave out bad pairs instead of raising an error.

        Raises:
          UserError: a folder or archive is missing or damaged, or the storage is unknown.
        """
        source_dir = source_folder(
            self.name, source_dir, "the one with leftImg8bit_trainvaltest.zip or leftImg8bit/"
        )
        images.check_storage(storage)
        self._storage = storage
        fine = _tree(source_dir, "leftImg8bit", "leftImg8bit_trainvaltest.zip")
        labels = _tree(source_dir, "gtFine", "gtFine_trainvaltest.zip")
        listings = {split: _listing(fine, labels, split, "gtFine") for split in ("train", "val")}
        if any(name.startswith("leftImg8bit/test/") for name in fine):
            listings["test"] = _listing(fine, labels, "test", "gtFine")
        if train_extra:
            listings["train_extra"] = _listing(
                _tree(source_dir, "leftImg8bit/train_extra", "leftImg8bit_trainextra.zip"),
                _tree(source_dir, "gtCoarse", "gtCoarse.zip"),
                "train_extra",
                "gtCoarse",
            )
        notes = count_notes(self.name, listings, OFFICIAL)
        if train_extra:
            notes.append(f"cityscapes: {DAMAGED} of train_extra is known to be damaged: left out")
        super().__init__(
            CITYSCAPES,
            prepared_dir,
            source_dir,
            listings,
            {"storage": storage},
            skip_bad=skip_bad,
            notes=notes,
        )

    def read(self, pair: Pair) -> Example:
        encoded, image = images.read_8bit(pair.image)
        if pair.label is None:
            label = np.full(image.shape[:2], CITYSCAPES.ignore_label, np.uint8)
        else:
            stored = masks.read_index(pair.label)
            label = masks.translate(stored, TABLE, pair.label, f"a label id, 0..{NUM_IDS - 1}")
            images.check_shapes(pair.image, image, pair.label, label)
        return Example(pair.id, images.stored(encoded, image, self._storage), label)


def _tree(source_dir: Path, inside: str, archive: str) -> dict[str, File]:
    """The files of an archive or, if there is none, of the folder that it unpacks to."""
    if (source_dir / archive).is_file():
        return files.zip_archive(source_dir / archive)
    if (source_dir / inside).is_dir():
        return files.folder(source_dir, inside)
    raise UserError(
        f"{source_dir} holds neither {archive} nor the folder {inside}: download the first from "
        "cityscapes-dataset.com"
    )


def _listing(
    image_files: dict[str, File], label_files: dict[str, File], split: str, annotation: str
) -> Listing:
    """The pairs of a split, sorted by name; labels without an image are faults."""
    ending, label_ending = "_leftImg8bit.png", f"_{annotation}_labelIds.png"
    image_files = _by_id(image_files, f"leftImg8bit/{split}/", ending)
    label_files = _by_id(label_files, f"{annotation}/{split}/", label_ending)
    pairs = []
    for name, image in image_files.items():
        label = label_files.pop(name, None)
        if label is None and split != "test":
            label = files.missing(
                f"{image.where} has no label {annotation}/{split}/{name}{label_ending}: add it or "
                "remove the image"
            )
        pairs.append(Pair(name.rpartition("/")[2], image, label))
    if not pairs:
        raise UserError(
            f"cityscapes: no images leftImg8bit/{split}/<city>/*{ending} are there: unpack or "
            "download leftImg8bit again"
        )
    faults = [
        f"{file.where} has no image: add it or remove the label" for file in label_files.values()
    ]
    return Listing(pairs, faults)


def _by_id(tree: dict[str, File], folder: str, ending: str) -> dict[str, File]:
    """The files of a folder by ``<city>/<id>``, sorted."""
    return {
        name.removeprefix(folder).removesuffix(ending): file
        for name, file in sorted(tree.items())
        if name.startswith(folder) and name.endswith(ending) and DAMAGED not in name
    }
