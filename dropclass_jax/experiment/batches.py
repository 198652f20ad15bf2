"""The data set and the training batches that a config names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from dropclass_jax import data
from dropclass_jax.data import crops, pipeline, sampling, transforms
from dropclass_jax.data.augment import Augmentation
from dropclass_jax.data.crops import CropRule
from dropclass_jax.data.photometric import JitterRange
from dropclass_jax.experiment.network import normalized


def load_data(config: ConfigDict, source_dir: str | None = None) -> data.Dataset:
    """The data set of a config, prepared if it was not.

    Its ``train`` is ``data.train_split``, and its mean and deviation are those of the config's
    network, where that has its own: so a run keeps those that it was trained with.

    Args:
      config: see ``defaults``.
      source_dir: in place of ``config.data.dir``, where that has moved.
    """
    dataset = data.load(
        config.data.name,
        source_dir=source_dir or config.data.dir or None,
        prepared_dir=config.data.prepared_dir or None,
        **config.data.options.to_dict(),
    )
    dataset = dataset.trained_on(config.data.train_split)
    return dataclasses.replace(dataset, info=normalized(config, dataset.info))


def train_batches(
    config: ConfigDict,
    dataset: data.Dataset,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """The config's training batches, one process's part: see ``pipeline.train_iterator``.

    Raises:
      UserError: a value of ``augment`` or ``data`` that is out of range.
    """
    source, settings = dataset.splits["train"], config.augment
    return pipeline.train_iterator(
        source,
        seed=config.seed,
        batch_size=config.batch_size,
        augmentation=Augmentation(
            crop=tuple(settings.crop),
            scales=transforms.scales(settings.scale, settings.scale_step),
            flip=settings.flip,
            jitter=JitterRange(**settings.jitter),
            crop_rule=CropRule(
                settings.rare_crop,
                crops.inverse_odds(dataset.class_pixels["train"]),
                settings.cat_max_ratio,
            ),
        ),
        sampler=sampling.class_uniform(
            source.class_pixels, config.data.sampling.class_uniform, config.data.sampling.class_crop
        ),
        start_step=start_step,
        process_index=process_index,
        process_count=process_count,
        num_threads=config.data.num_threads,
        cache_bytes=int(config.data.cache_gib * 2**30),
    )
