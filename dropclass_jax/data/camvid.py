"""CamVid in the layout of the SegNet tutorial: real road scenes, 11 imbalanced classes.

    train.txt, val.txt, test.txt (optional)     one "image label" pair a line
    train/*.png  trainannot/*.png  val/*.png  ...

The upstream lists name files of somebody's root folder (``/SegNet/CamVid/train/0001.png``): the
last folder and the file name of each path count, whatever comes before. Images may be ``.png``,
``.jpg`` or ``.jpeg``, whichever of them the list names. Labels are single-channel 8-bit PNGs with
values 0..10 and 11 for void.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np

from dropclass_jax.data import codec, transforms
from dropclass_jax.data.builder import Example, SegmentationBuilder
from dropclass_jax.data.info import CAMVID
from dropclass_jax.errors import UserError

VOID = 11
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class Pair(NamedTuple):
    """An image file and its label file."""

    image: Path
    label: Path

    @property
    def id(self) -> str:
        """The image's name without its suffix."""
        return self.image.stem


def read_list(source_dir: Path, split: str) -> list[Pair]:
    """The image and label files that ``<split>.txt`` names, all of which exist.

    Raises:
      UserError: names the list, the line and the mend.
    """
    path = source_dir / f"{split}.txt"
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: it lists 'image label' pairs, one a line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from error
    pairs: dict[str, Pair] = {}
    for number, line in enumerate(lines, 1):
        names = line.split()
        if not names:
            continue
        where = f"{path}, line {number}"
        if len(names) != 2:
            raise UserError(
                f"{where}: want 'image label', got {len(names)} words: {line.strip()!r}"
            )
        pair = Pair(
            _existing(source_dir, names[0], IMAGE_SUFFIXES, f"{where}: no image"),
            _existing(source_dir, names[1], (".png",), f"{where}: no label"),
        )
        if pair.id in pairs:
            raise UserError(f"{where}: image {pair.id!r} is listed twice: remove one")
        pairs[pair.id] = pair
    if not pairs:
        raise UserError(f"{path} lists no images: write 'image label' pairs, one a line")
    return list(pairs.values())


def _existing(source_dir: Path, name: str, suffixes: tuple[str, ...], complaint: str) -> Path:
    listed = source_dir.joinpath(*PurePosixPath(name.lstrip("/")).parts[-2:])
    for path in (listed, *(listed.with_suffix(suffix) for suffix in suffixes)):
        if path.is_file():
            return path
    raise UserError(f"{complaint} at {listed}: add the file or remove the line")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _checksum(path: Path) -> int:
    return zlib.crc32(_read_bytes(path))


def read_image(path: Path) -> tuple[bytes, np.ndarray]:
    """The file's bytes and its pixels, RGB uint8 [H, W, 3]; a ``UserError`` if unreadable."""
    encoded = _read_bytes(path)
    image = codec.decode_image(encoded)
    if image is None:
        raise UserError(f"{path} is not a readable image: replace it or remove its line")
    return encoded, image


def read_label(path: Path) -> np.ndarray:
    """A label map, uint8 [H, W], values 0..10 and 255 for void.

    Raises:
      UserError: names the file and what is wrong with it.
    """
    label = codec.decode_label(_read_bytes(path))
    if label is None:
        raise UserError(f"{path} is not a readable image: replace it or remove its line")
    if label.dtype != np.uint8:
        raise UserError(f"{path} has {8 * label.itemsize} bits a pixel: want an 8-bit label")
    if label.ndim != 2:
        raise UserError(
            f"{path} has {label.shape[2]} channels (a colour or palette image): "
            f"want one channel with the class in it, 0..{VOID}"
        )
    wrong = (label > VOID) & (label != CAMVID.ignore_label)
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise UserError(
            f"{path} holds the value {label[y, x]} at row {y}, column {x}: "
            f"want 0..{VOID}, or {CAMVID.ignore_label} to ignore a pixel"
        )
    return np.where(label == VOID, np.uint8(CAMVID.ignore_label), label)


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
    h, w = (max(1, round(n * resolution)) for n in label.shape)
    y = transforms.nearest(label.shape[0], Fraction(h, label.shape[0]), 0, h)
    x = transforms.nearest(label.shape[1], Fraction(w, label.shape[1]), 0, w)
    return cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA), label[y][:, x]


class CamVid(SegmentationBuilder, skip_registration=True):
    """CamVid's splits ``train``, ``val`` and, where it is there, ``test``."""

    name = "camvid"
    facts = CAMVID

    def __init__(
        self, *, prepared_dir: Path, source_dir: Path | None = None, resolution: float = 1.0
    ) -> None:
        """Read the lists and take the fingerprint of the files they name.

        Args:
          prepared_dir: the folder of all prepared sets.
          source_dir: the folder with ``train.txt`` and ``val.txt``.
          resolution: shrink by this factor while preparing (0.5 = half the height and width).

        Raises:
          UserError: at a missing folder, list or file, or a resolution outside (0, 1].
        """
        if source_dir is None:
            raise UserError(
                "camvid needs its folder, the one with train.txt and val.txt: give it as "
                "--config.data.dir (source_dir)"
            )
        if not source_dir.is_dir():
            raise UserError(
                f"{source_dir} is not a folder: give CamVid's as --config.data.dir (source_dir)"
            )
        if not 0 < resolution <= 1:
            raise UserError(f"resolution {resolution}: want a factor above 0 and at most 1")
        self._resolution = Fraction(resolution).limit_denominator(1000)
        splits = ("train", "val", *(["test"] if (source_dir / "test.txt").exists() else []))
        self._pairs = {split: read_list(source_dir, split) for split in splits}
        # Not the times of the files: a copy on another machine is the same set. Labels are small
        # enough to read, and what an editor changes without changing a file's size.
        stats = {
            split: [
                (str(image.relative_to(source_dir)), image.stat().st_size, _checksum(label))
                for image, label in pairs
            ]
            for split, pairs in self._pairs.items()
        }
        recipe = {"files": stats, "resolution": str(self._resolution)}
        super().__init__(prepared_dir, splits, recipe)

    def examples(self, split: str) -> Iterator[Example]:
        for pair in self._pairs[split]:
            encoded, image = read_image(pair.image)
            label = read_label(pair.label)
            if image.shape[:2] != label.shape:
                raise UserError(
                    f"{pair.image} is {image.shape[0]}x{image.shape[1]} but its label "
                    f"{pair.label} is {label.shape[0]}x{label.shape[1]}: they must agree"
                )
            if self._resolution != 1:
                image, label = resample(image, label, self._resolution)
                encoded = codec.encode_photo(image)
            yield Example(pair.id, encoded, label)
