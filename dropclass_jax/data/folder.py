"""Anybody's images and masks: the set of a folder, whose classes ``classes.yaml`` names.

``layout`` says how the folder may be arranged, ``classes`` what the masks may hold; ``exports``
reads what an annotation tool left. Images may be PNG, JPEG, TIFF, WebP or BMP; grey, RGB or RGBA
(alpha is dropped); of 8 or 16 bits.

16-bit images become 8-bit ones here, once, by one linear map. What 0 and 255 stand for is the
option ``window``:

- ``set``, the default: all but 0.1 % on either side of the values of all training images together.
  One map for the whole set keeps how bright two images are relative to each other, as it means
  something in a CT slice or a radiometric satellite band; measuring costs a pass over ``train``.
- ``image``: the same, of each image alone, for scenes whose exposure means nothing.
- ``LOW:HIGH``: fixed, as ``0:4095`` for 12-bit sensors. ``full`` is ``0:65535``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dropclass_jax.data import checksums, codec, exports, headers, images, listing, masks
from dropclass_jax.data.builder import Example
from dropclass_jax.data.files import File
from dropclass_jax.data.pairs import Listing, Pair, PairBuilder
from dropclass_jax.errors import UserError


class Depth(NamedTuple):
    """Bits a channel and, of 16-bit images, what becomes 0 and 255; None for each image's own."""

    bits: int
    window: tuple[int, int] | None


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
        self._storage, self._window_option = storage, images.parse_window(window)
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
        options = {"classes": self._classes.recipe(), "window": window, "storage": storage}
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
        files = [pair.image for pair in self.listings["train"].pairs]
        dtype, channels = _first_pixels(files)
        if channels == 4:
            self.notes.append("the images have a fourth channel (alpha, or a band): it is dropped")
        if dtype == np.uint8:
            return Depth(8, None)
        window = self._window_option
        if window == "set":
            window = images.measure_window(files)
            low, high = window
            self.notes.append(f"16-bit images: {low}..{high} become 0..255 (window={low}:{high})")
        return Depth(16, None if window == "image" else window)

    @property
    def window(self) -> str | tuple[int, int] | None:
        bits, window = self._depth
        return None if bits == 8 else window or "image"

    def read(self, pair: Pair) -> Example:
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
        is_turned = headers.is_turned(encoded)
        encoded, image = self._to_8bit(pair.image, encoded, image)
        return Example(pair.id, images.stored(encoded, image, self._storage), label, is_turned)

    def _to_8bit(self, file: File, encoded: bytes, image: np.ndarray) -> tuple[bytes, np.ndarray]:
        bits, window = self._depth
        if 8 * image.itemsize != bits:
            raise UserError(
                f"{file.where} has {8 * image.itemsize} bits a channel, but the first image of "
                f"train has {bits}: convert it"
            )
        if bits == 8:
            return encoded, image
        image = images.to_8bit(image, window or images.window_of(images.histogram(image)))
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
