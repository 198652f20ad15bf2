"""Anybody's images and masks: the set of a folder, whose classes ``classes.yaml`` names.

``layout`` says how the folder may be arranged, ``classes`` what the masks may hold; ``exports``
reads what an annotation tool left. Images may be PNG, JPEG, TIFF, WebP or BMP; grey, RGB or RGBA
(alpha is dropped); of 8 or 16 bits.

16-bit images become 8-bit ones here, once, by one linear map. What 0 and 255 stand for is the
option ``window``:

- ``set``, the default: all but 0.1 % on either side of the values of all training images together,
  and wider where a class would be cut (see ``windows``). One map for the whole set keeps how bright
  two images are relative to each other, which means something in a CT slice or a radiometric
  satellite band; measuring costs a pass over ``train``.
- ``image``: the same, of each image alone, for scenes whose exposure means nothing.
- ``LOW:HIGH``: fixed, as ``0:4095`` for 12-bit sensors. ``full`` is ``0:65535``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dropclass_jax.data import checksums, codec, exports, headers, images, listing, masks, windows
from dropclass_jax.data.builder import Example
from dropclass_jax.data.files import File
from dropclass_jax.data.ordered import ordered_map, progress
from dropclass_jax.data.pairs import Listing, Pair, PairBuilder
from dropclass_jax.errors import UserError

# Raise it with any change of the pixels that a TIFF is read as: prepared sets are kept by it.
TIFF_VERSION = 2
_TIFF = (".tif", ".tiff")


class Depth(NamedTuple):
    """The depth of the training images.

    Attributes:
      bits: a channel.
      window: of 16-bit images, what becomes 0 and 255; None for each image's own.
      values: of 16-bit images, by class; None where each image has its own window.
    """

    bits: int
    window: tuple[int, int] | None
    values: windows.Values | None = None


class Folder(PairBuilder, skip_registration=True):
    """The splits that the folder has, or ``train`` and ``val`` drawn from it."""

    name = "folder"

    def __init__(
        self,
        *,
        prepared_dir: Path,
        source_dir: Path | None = None,
        classes: str = "",
        val_share: float = 0.2,
        seed: int = 0,
        window: str = "set",
        storage: str = "original",
        skip_bad: bool = False,
        unlabelled: str = "background",
        unannotated: str = "auto",
    ) -> None:
        """List the images and masks; make ``classes.yaml`` if it is missing.

        Args:
          prepared_dir: the folder of all prepared sets.
          source_dir: the folder with the images and masks; or an export, its folder or its zip.
          classes: the file that names the classes; default: ``classes.yaml`` in the folder.
          val_share: of the training images, where the folder has no ``val``.
          seed: of the draw of ``val``.
          window: how 16-bit images become 8-bit ones: ``set``, ``image``, ``full``, ``LOW:HIGH``.
          storage: of the images; see ``images.stored``.
          skip_bad: leave bad pairs out instead of refusing the set.
          unlabelled: of an export, what a pixel without an object is: ``background`` or ``ignore``.
          unannotated: of an export, what an image without an object is: ``auto``, ``background`` or
            ``skip``; see ``exports.Rules``.

        Raises:
          UserError: at a folder of another layout, a bad ``classes.yaml`` or a bad option.
        """
        source_dir = listing.path_of(self.name, source_dir)
        images.check_storage(storage)
        if not 0 < val_share < 1:
            raise UserError(f"val_share {val_share}: want a share between 0 and 1")
        self._storage, self._window_option = storage, windows.parse(window)
        rules = exports.Rules(unlabelled, unannotated)
        source = listing.find(source_dir, classes, rules)
        self._classes, self._listed_in = source.classes, source.listed_in
        self._table = self._classes.table()
        found, notes = source.splits, source.notes
        if "val" not in found:
            memory = checksums.memory_of(prepared_dir, source_dir)
            memory = memory.with_name(f"contents-{memory.name}")
            found, drawn = listing.draw_val(
                source_dir, found, self._classes, memory, val_share, seed
            )
            notes = [*notes, *drawn]
        elif (val_share, seed) != (0.2, 0):
            notes = [*notes, "there is a val: val_share and seed, of its draw, change nothing"]
        options = {"classes": self._classes.recipe(), "window": window, "storage": storage}
        if any(
            pair.image.where.lower().endswith(_TIFF) for f in found.values() for pair in f.pairs
        ):
            options["tiff"] = TIFF_VERSION
        super().__init__(
            self._classes.info(self.name),
            prepared_dir,
            source_dir,
            {split: Listing(f.pairs, f.faults) for split, f in found.items()},
            options,
            skip_bad=skip_bad,
            notes=[*notes, *(note for f in found.values() for note in f.notes)],
        )

    def outcomes(self, split: str) -> Iterator[Example | UserError]:
        _ = self._depth  # measured once, before several threads want to know it
        return super().outcomes(split)

    @functools.cached_property
    def _depth(self) -> Depth:
        """Of the training images; the first that can be read speaks for the bits of all."""
        pairs = self.listings["train"].pairs
        dtype, channels = _first_pixels(pair.image for pair in pairs)
        if channels == 4:
            self.notes.append("the images have a fourth channel (alpha, or a band): it is dropped")
        window = self._window_option
        if dtype == np.uint8:
            if window != "set":
                self.notes.append("the images have 8 bits: window changes nothing")
            return Depth(8, None)
        if window == "image":
            return Depth(16, None)
        counts = windows.total(progress(ordered_map(self._counted, pairs), "values", len(pairs)))
        if window == "set":
            window = windows.choose(counts)
        values = windows.describe(counts, self.facts.num_classes, window)
        low, high = window
        self.notes.append(f"16-bit images: {low}..{high} become 0..255 (window={low}:{high})")
        self.notes += windows.warnings(self.facts.classes, values)
        return Depth(16, window, values)

    def _counted(self, pair: Pair) -> dict[int, np.ndarray]:
        """The histogram of each class in a 16-bit pair; of any other none, as reading will say."""
        try:
            _, image, label = self._read_pair(pair)
        except UserError:
            return {}
        return windows.by_class(image, label) if image.dtype == np.uint16 else {}

    @property
    def window(self) -> str | tuple[int, int] | None:
        depth = self._depth
        return None if depth.bits == 8 else depth.window or "image"

    @property
    def values(self) -> windows.Values | None:
        return self._depth.values

    def read(self, pair: Pair) -> Example:
        encoded, image, label = self._read_pair(pair)
        is_turned = headers.is_turned(encoded)
        encoded, image = self._to_8bit(pair.image, encoded, image)
        return Example(pair.id, images.stored(encoded, image, self._storage), label, is_turned)

    def _read_pair(self, pair: Pair) -> tuple[bytes, np.ndarray, np.ndarray]:
        """The bytes of the image, its pixels at the depth they have, and its label."""
        encoded, image = images.read(pair.image)
        kind, codes = masks.read_codes(pair.label)
        if kind != self._classes.kind:
            raise UserError(
                f"{pair.label.where} is of kind {kind}, but {self._listed_in} says masks: "
                f"{self._classes.kind}: convert it"
            )
        wanted = f"one that {self._listed_in} lists, as a class or under ignore"
        label = masks.translate(codes, self._table, pair.label, wanted)
        images.check_shapes(pair.image, image, pair.label, label)
        return encoded, image, label

    def _to_8bit(self, file: File, encoded: bytes, image: np.ndarray) -> tuple[bytes, np.ndarray]:
        bits, window, _ = self._depth
        if 8 * image.itemsize != bits:
            raise UserError(
                f"{file.where} has {8 * image.itemsize} bits a channel, but the first image of "
                f"train has {bits}: convert it"
            )
        if bits == 8:
            return encoded, image
        window = window or windows.window_of(windows.histogram(image))
        image = windows.to_8bit(image, window)
        return codec.encode_small(image), image


def _first_pixels(files: Iterable[File]) -> tuple[np.dtype, int]:
    """Type and channels of the first image that can be read."""
    for file in files:
        try:
            pixels = images.decode(file, file.read())
        except UserError:
            continue
        return pixels.dtype, pixels.shape[2]
    return np.dtype(np.uint8), 3
