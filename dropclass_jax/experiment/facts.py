"""The values of a config that are needed to use a finished run."""

from __future__ import annotations

from typing import NamedTuple

from ml_collections import ConfigDict


class Facts(NamedTuple):
    """Plain values of a run's config.

    Attributes:
      model: the network's name; see ``dropclass_jax.models``.
      dropclass: whether it has the DropClass path.
      seed: of initialisation, data order and draws.
      batch_size: training examples a step, over all devices.
      crop: ``(height, width)`` of the training crops.
      eval_batch_size: images a step in evaluation, over all devices.
      eval_splits: the splits that are evaluated, the main one first.
      resolution: the factor, in (0, 1], that the images of the data set were resized by when it was
        prepared (``data.options.resolution``).
    """

    model: str
    dropclass: bool
    seed: int
    batch_size: int
    crop: tuple[int, int]
    eval_batch_size: int
    eval_splits: tuple[str, ...]
    resolution: float


def of(config: ConfigDict) -> Facts:
    """The facts of a config."""
    return Facts(
        model=config.model.name,
        dropclass=bool(config.dropclass.enabled),
        seed=config.seed,
        batch_size=config.batch_size,
        crop=tuple(config.augment.crop),
        eval_batch_size=config.eval.batch_size,
        eval_splits=tuple(config.eval.splits),
        resolution=config.data.options.get("resolution", 1.0),
    )
