"""Streets: a synthetic data set of drawn road scenes, which needs no download.

In ``train`` and ``val`` rare classes appear in their usual context with probability ``rho``, in
``val_out`` never. A model that has learnt the context instead of the class scores lower there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dropclass_jax.data import codec, scenes
from dropclass_jax.data.builder import Example, SegmentationBuilder
from dropclass_jax.data.info import STREETS
from dropclass_jax.errors import UserError

# Increase it with every change to what a scene looks like: it is part of the fingerprint by which
# prepared sets are found.
DRAWING_VERSION = 1
SPLITS = ("train", "val", "val_out")


class Streets(SegmentationBuilder, skip_registration=True):
    """Synthetic scenes in the splits ``train``, ``val`` and ``val_out``."""

    name = "streets"

    def __init__(
        self,
        *,
        prepared_dir: Path,
        source_dir: Path | None = None,
        train: int = 800,
        val: int = 100,
        val_out: int = 100,
        seed: int = 0,
        rho: float = 0.95,
        height: int = 128,
        width: int = 256,
    ) -> None:
        """Set the number, size and statistics of the scenes.

        Scene i of a split depends on ``(seed, split, i)`` alone: a longer split begins with the
        scenes of a shorter one.

        Args:
          prepared_dir: the folder of all prepared sets.
          source_dir: must be None.
          train: number of scenes in ``train``.
          val: number of scenes in ``val``.
          val_out: number of scenes in ``val_out``.
          seed: seed of the scenes, 0 or above.
          rho: probability that a rare object of ``train`` and ``val`` is in its usual context.
          height: height of a scene in pixels, at least 16.
          width: width of a scene in pixels, at least 16.

        Raises:
          UserError: ``source_dir`` is given, or a size, seed or probability is out of its range.
        """
        if source_dir is not None:
            raise UserError(
                f"streets is drawn, not read: leave out the folder {source_dir} (--config.data.dir)"
            )
        sizes = {"train": train, "val": val, "val_out": val_out, "height": height, "width": width}
        for name, size in sizes.items():
            least = 16 if name in ("height", "width") else 1
            if size < least:
                raise UserError(f"streets: {name} is {size}: want at least {least}")
        if seed < 0:
            raise UserError(f"streets: seed is {seed}: want 0 or above")
        if not 0 <= rho <= 1:
            raise UserError(f"streets: rho is {rho}: want a probability, 0..1")
        self._sizes, self._seed, self._shape = sizes, seed, (height, width)
        self._in_context = {"train": rho, "val": rho, "val_out": 0.0}
        recipe = {**sizes, "seed": seed, "rho": float(rho), "drawing": DRAWING_VERSION}
        super().__init__(STREETS, prepared_dir, SPLITS, recipe)

    def examples(self, split: str) -> Iterator[Example]:
        height, width = self._shape
        for i in range(self._sizes[split]):
            rng = np.random.default_rng([self._seed, SPLITS.index(split), i])
            image, label = scenes.draw_scene(
                rng, in_context=self._in_context[split], height=height, width=width
            )
            yield Example(f"{split}_{i:05d}", codec.encode_exact(image), label)
