"""CamVid in the layout of the SegNet tutorial: real road scenes, 11 imbalanced classes.

    train.txt, val.txt, test.txt (optional)     one "image label" pair a line
    train/*.png  trainannot/*.png  val/*.png  ...

The upstream lists contain absolute paths (``/SegNet/CamVid/train/0001.png``), of which only the
last folder and the file name are used. Images may be ``.png``, ``.jpg`` or ``.jpeg``, whichever
suffix the list gives. Labels are single-channel 8-bit PNGs with values 0..10, and 11 for void.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np

from dropclass_jax.data import codec, files, headers, images, masks, transforms
from dropclass_jax.data.builder import Example
from dropclass_jax.data.files import File
from dropclass_jax.data.info import CAMVID
from dropclass_jax.data.pairs import (
    Listing,
    Pair,
    PairBuilder,
    count_notes,
    source_folder,
)
from dropclass_jax.errors import UserError

OFFICIAL = {"train": 367, "val": 101, "test": 233}
VOID = 11
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
TABLE = np.full(256, masks.UNKNOWN, np.uint8)
TABLE[:VOID] = range(VOID)
TABLE[[VOID, CAMVID.ignore_label]] = CAMVID.ignore_label


def read_list(source_dir: Path, split: str) -> Listing:
    """Read the image and label files that ``<split>.txt`` lists.

    Malformed lines are faults of the listing; a missing file is reported when its pair is read.

    Raises:
      UserError: the list is missing, not text, or empty.
    """
    path = source_dir / f"{split}.txt"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: it lists 'image label' pairs, one a line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from error
    pairs: dict[str, Pair] = {}
    faults = []
    for number, line in enumerate(lines, 1):
        names = line.split()
        if not names:
            continue
        where = f"{path}, line {number}"
        if len(names) != 2:
            got = f"got {len(names)} words: {line.strip()!r}"
            faults.append(f"{where}: want 'image label', {got}")
            continue
        name = PurePosixPath(names[0]).stem
        if name in pairs:
            faults.append(f"{where}: image {name!r} is listed twice: remove one")
            continue
        pairs[name] = Pair(
            name,
            _listed(source_dir, names[0], IMAGE_SUFFIXES, f"{where}: no image"),
            _listed(source_dir, names[1], (".png",), f"{where}: no label"),
        )
    if not pairs and not faults:
        raise UserError(f"{path} lists no images: write 'image label' pairs, one a line")
    return Listing(list(pairs.values()), faults)


def _listed(source_dir: Path, name: str, suffixes: tuple[str, ...], complaint: str) -> File:
    listed = source_dir.joinpath(*PurePosixPath(name.lstrip("/")).parts[-2:])
    for path in (listed, *(listed.with_suffix(suffix) for suffix in suffixes)):
        if path.is_file():
            return files.on_disk(path)
    return files.missing(f"{complaint} at {listed}: add the file or remove the line")


def _unlisted(source_dir: Path, listings: dict[str, Listing]) -> list[str]:
    """A note for each split whose folder holds images that its list does not name."""
    notes = []
    for split, listed in listings.items():
        known = {pair.id for pair in listed.pairs}
        there = sorted(p.name for p in (source_dir / split).glob("*") if p.stem not in known)
        if there:
            more = f" and {len(there) - 1} more" if there[1:] else ""
            notes.append(f"left out, as {split}.txt does not list it: {split}/{there[0]}{more}")
    return notes


def resample(
    image: np.ndarray, label: np.ndarray, resolution: Fraction
) -> tuple[np.ndarray, np.ndarray]:
    """Shrink an image by area and its label by nearest neighbour.

    Args:
      image: uint8 [H, W, 3].
      label: uint8 [H, W].
      resolution: the factor, in (0, 1].

    Returns:
      uint8 [h, w, 3] and uint8 [h, w].
    """
    reduced = images.reduce(image, resolution)
    h, w = reduced.shape[:2]
    y = transforms.nearest(label.shape[0], Fraction(h, label.shape[0]), 0, h)
    x = transforms.nearest(label.shape[1], Fraction(w, label.shape[1]), 0, w)
    return reduced, label[y][:, x]


class CamVid(PairBuilder, skip_registration=True):
    """CamVid, with the splits ``train``, ``val`` and, if ``test.txt`` exists, ``test``."""

    name = "camvid"

    def __init__(
        self,
        *,
        prepared_dir: Path,
        source_dir: Path | None = None,
        resolution: float = 1.0,
        skip_bad: bool = False,
    ) -> None:
        """Read the lists and compute the fingerprint of the files they name.

        Args:
          prepared_dir: the folder of all prepared sets.
          source_dir: the folder with ``train.txt`` and ``val.txt``.
          resolution: scale factor to prepare the images with (0.5: half the height and width).
          skip_bad: leave out bad pairs instead of raising an error.

        Raises:
          UserError: a folder or list is missing, or the resolution is outside (0, 1].
        """
        source_dir = source_folder(self.name, source_dir, "the one with train.txt and val.txt")
        if not 0 < resolution <= 1:
            raise UserError(f"resolution {resolution}: want a factor above 0 and at most 1")
        self._resolution = images.exact(resolution)
        splits = ("train", "val", *(["test"] if (source_dir / "test.txt").exists() else []))
        listings = {split: read_list(source_dir, split) for split in splits}
        super().__init__(
            CAMVID,
            prepared_dir,
            source_dir,
            listings,
            {"resolution": str(self._resolution)},
            skip_bad=skip_bad,
            notes=[
                *count_notes(self.name, listings, OFFICIAL),
                *_unlisted(source_dir, listings),
            ],
        )

    def read(self, pair: Pair) -> Example:
        encoded, image = images.read_8bit(pair.image)
        is_turned = headers.is_turned(encoded)
        stored = masks.read_index(pair.label)
        label = masks.translate(
            stored, TABLE, pair.label, f"0..{VOID}, or {CAMVID.ignore_label} to ignore a pixel"
        )
        images.check_shapes(pair.image, image, pair.label, label)
        if self._resolution != 1:
            image, label = resample(image, label, self._resolution)
            encoded = codec.encode_photo(image)
        return Example(pair.id, encoded, label, is_turned)
