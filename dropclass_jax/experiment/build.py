"""From a config to the values that the rest of the house takes.

Nothing below this file and the commands reads a config object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from dropclass_jax import data, models, objective, schedules
from dropclass_jax.data import crops, pipeline, sampling, transforms
from dropclass_jax.data.augment import Augmentation
from dropclass_jax.data.crops import CropRule
from dropclass_jax.data.photometric import JitterRange
from dropclass_jax.errors import UserError
from dropclass_jax.losses import class_prior, class_weights
from dropclass_jax.models import patterns
from dropclass_jax.parallel import pmap
from dropclass_jax.training import guard, optimizers, state, step

REMAT = ("none", "blocks")


class Experiment(NamedTuple):
    """What a config stands for.

    Attributes:
      model: the network.
      optimizer: with its learning rate.
      train_step: ``(state, batch) -> (state, scalars)``, one device's part.
      eval_step: ``(variables, batch) -> (totals, examples)``, one device's part.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    train_step: Any
    eval_step: Any


def load_data(config: ConfigDict) -> data.Dataset:
    """The config's data set, prepared if it was not; its ``train`` is ``data.train_split``."""
    dataset = data.load(
        config.data.name,
        source_dir=config.data.dir or None,
        prepared_dir=config.data.prepared_dir or None,
        **config.data.options.to_dict(),
    )
    return dataset.trained_on(config.data.get("train_split", "train"))  # older runs have none


def build(config: ConfigDict, dataset: data.Dataset) -> Experiment:
    """The model, the optimizer and the two steps of a config.

    Raises:
      UserError: a value that is out of range or does not fit the data set.
    """
    check(config)
    num_classes = dataset.info.num_classes
    network = model(config, num_classes)
    learning_rate = schedules.poly(
        config.optim.lr,
        config.total_steps,
        power=config.optim.power,
        warmup_steps=config.optim.warmup_steps,
        lag=config.optim.lag,
    )
    optimizer = optimizers.create(
        config.optim.name,
        learning_rate,
        momentum=config.optim.momentum,
        weight_decay=config.optim.weight_decay,
        freeze=config.optim.freeze,
    )
    _check_patterns(config, network)
    images = {
        "image_mean": jnp.asarray(dataset.info.mean),
        "image_std": jnp.asarray(dataset.info.std),
    }
    train_step = partial(
        step.train_step,
        model=network,
        optimizer=optimizer,
        learning_rate=learning_rate,
        seed=config.seed,
        dropclass=_dropclass(config, dataset) if config.dropclass.enabled else None,
        loss=_loss(config, dataset),
        auxiliary=config.loss.auxiliary,
        class_weights=_class_weights(config, dataset),
        accumulate_steps=config.accumulate_steps,
        ema_decay=config.optim.ema,
        axis_name=pmap.AXIS,
        **images,
    )
    if config.on_nonfinite == "skip":
        train_step = guard.skip_nonfinite(train_step)
    eval_step = partial(
        step.eval_step, model=network, num_classes=num_classes, axis_name=pmap.AXIS, **images
    )
    return Experiment(network, optimizer, train_step, eval_step)


def model(config: ConfigDict, num_classes: int) -> nn.Module:
    """The network of a config, for K classes.

    Raises:
      UserError: an unknown name, or settings that the network does not take.
    """
    return models.create(
        config.model.name,
        num_classes,
        dropclass=config.dropclass.enabled,
        output_stride=config.model.output_stride,
        auxiliary=config.model.auxiliary,
        head=_head_options(config),
        init=config.model.init,
        bn_momentum=config.model.bn_momentum,
        dtype=_dtype(config.model.dtype),
        freeze_bn=config.model.freeze_bn,
        remat=config.model.remat == "blocks",
        axis_name=pmap.AXIS,
        importance=config.dropclass.importance,
        stop_importance_gradient=config.dropclass.stop_importance_gradient,
        refine=config.dropclass.refine,
        refine_init=config.dropclass.refine_init,
    )


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
    if config.data.cache_gib < 0:
        raise UserError(f"config.data.cache_gib is 0 or more, not {config.data.cache_gib!r}")
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


def check(config: ConfigDict) -> None:
    """Refuse values that cannot work, before any work is done.

    Raises:
      UserError: names the first such key, its value and what it may be.
    """
    devices = jax.device_count()
    parts = config.accumulate_steps
    each = f"the {devices} devices" + (f" x {parts} accumulate_steps" if parts > 1 else "")
    rules = [
        ("total_steps", config.total_steps, config.total_steps >= 1, "1 or more"),
        (
            "on_nonfinite",
            config.on_nonfinite,
            config.on_nonfinite in guard.ON_NONFINITE,
            _one_of(guard.ON_NONFINITE),
        ),
        ("log_every", config.log_every, config.log_every >= 1, "1 or more"),
        ("accumulate_steps", parts, parts >= 1, "1 or more"),
        *(
            (key, size, size >= 1 and size % divisor == 0, f"a multiple of {whom}")
            for key, size, divisor, whom in (
                ("batch_size", config.batch_size, devices * max(parts, 1), each),
                (
                    "eval.batch_size",
                    config.eval.batch_size,
                    devices,
                    f"the {devices} devices",
                ),
            )
        ),
        *(
            (f"{section}.every_steps", config[section].every_steps, every >= 1, "1 or more")
            for section in ("eval", "checkpoint")
            for every in (config[section].every_steps,)
        ),
        ("checkpoint.keep", config.checkpoint.keep, config.checkpoint.keep >= 1, "1 or more"),
        ("dropclass.alpha", config.dropclass.alpha, config.dropclass.alpha >= 0, "0 or more"),
        *_loss_rules(config.loss),
        *(
            (f"model.deeplab_v3.{key}", value, fine, allowed)
            for pyramid in (config.model.deeplab_v3,)
            for key, value, fine, allowed in (
                ("rates", pyramid.rates, all(r >= 1 for r in pyramid.rates), "1 or more each"),
                ("dropout", pyramid.dropout, 0 <= pyramid.dropout < 1, "0 to below 1"),
            )
        ),
        (
            "model.bn_momentum",
            config.model.bn_momentum,
            0 <= config.model.bn_momentum < 1,
            "0 to 1",
        ),
        ("model.remat", config.model.remat, config.model.remat in REMAT, _one_of(REMAT)),
        ("optim.ema", config.optim.ema, 0 <= config.optim.ema < 1, "0 to below 1"),
        *(
            (key, patterns, all(isinstance(p, str) and p for p in patterns), "names or patterns")
            for key, patterns in (
                ("model.freeze_bn", config.model.freeze_bn),
                ("optim.freeze", config.optim.freeze),
            )
        ),
        *(
            (f"dropclass.{name}.{key}", ramp[key], 0 <= ramp[key] <= 1, "0 to 1")
            for name in ("lambda_", "p")
            for ramp in (config.dropclass[name],)
            for key in ("start", "end", "begin")
        ),
        *(
            (f"dropclass.{name}.shape", shape, shape in schedules.SHAPES, _one_of(schedules.SHAPES))
            for name in ("lambda_", "p")
            for shape in (config.dropclass[name].shape,)
        ),
    ]
    for key, value, fine, allowed in rules:
        if not fine:
            raise UserError(f"config.{key} is {allowed}, not {value!r}")
    model(config, num_classes=2)  # has errors of its own
    head, _ = models.names()[config.model.name]
    if head == "deeplab_v3" and config.batch_size // config.accumulate_steps == 1:
        raise UserError(
            "config.batch_size of 1 (or of 1 a part of accumulate_steps) is too few for DeepLabV3, "
            "whose pooled features are normalised over the examples; take 2 or more"
        )


def _loss_rules(loss: ConfigDict) -> list[tuple[str, Any, bool, str]]:
    """Of the section ``loss``: keys, values, whether they are fine, what they may be."""
    ohem = loss.ohem
    not_negative = {
        "focal.gamma": loss.focal.gamma,
        "region_weight": loss.region_weight,
        "logit_adjustment": loss.logit_adjustment,
        "logit_variation": loss.logit_variation,
        "auxiliary": loss.auxiliary,
    }
    return [
        ("loss.name", loss.name, loss.name in objective.LOSSES, _one_of(objective.LOSSES)),
        ("loss.ohem.threshold", ohem.threshold, 0 < ohem.threshold <= 1, "above 0, up to 1"),
        ("loss.ohem.min_kept", ohem.min_kept, 0 <= ohem.min_kept <= 1, "0 to 1"),
        *((f"loss.{key}", value, value >= 0, "0 or more") for key, value in not_negative.items()),
    ]


def _check_patterns(config: ConfigDict, network: nn.Module) -> None:
    """Refuse a name of something to freeze that the network does not have."""
    if not (config.model.freeze_bn or config.optim.freeze):
        return
    shapes = state.init_shapes(network)
    patterns.check("model.freeze_bn", config.model.freeze_bn, shapes["batch_stats"])
    patterns.check("optim.freeze", config.optim.freeze, shapes["params"])


def _dropclass(config: ConfigDict, dataset: data.Dataset) -> tuple[step.Coefficients, step.Draw]:
    settings = config.dropclass
    steps_per_epoch = None
    if settings.per_epoch:
        steps_per_epoch = max(len(dataset.splits["train"]) // config.batch_size, 1)
    ramp = partial(schedules.ramp, total_steps=config.total_steps, steps_per_epoch=steps_per_epoch)
    coefficients = step.Coefficients(
        lambda_=ramp(**settings.lambda_),
        p=ramp(**settings.p),
        alpha=optax.constant_schedule(settings.alpha),
    )
    pixels = dataset.class_pixels["train"]
    odds = {
        "uniform": np.ones(len(pixels)),
        "inverse_frequency": np.divide(1.0, pixels, out=np.zeros(len(pixels)), where=pixels > 0),
    }
    if settings.draw not in odds:
        raise UserError(f"config.dropclass.draw is {_one_of(odds)}, not {settings.draw!r}")
    draw = step.Draw(
        jnp.asarray(odds[settings.draw] / odds[settings.draw].sum(), jnp.float32),
        per_example=settings.draw_per_example,
        present_only=settings.draw_present_only,
    )
    return coefficients, draw


def _loss(config: ConfigDict, dataset: data.Dataset) -> objective.Loss:
    settings, pixels = config.loss, dataset.class_pixels["train"]
    loss = objective.LOSSES[settings.name]._replace(region_weight=settings.region_weight)
    if settings.name in settings:  # a section of its own
        loss = loss._replace(of_pixels=partial(loss.of_pixels, **settings[settings.name]))
    if tau := settings.logit_adjustment:
        prior = class_prior.log_prior(pixels)
        loss = loss._replace(offsets=jnp.asarray(tau * prior, jnp.float32))
    if sigma := settings.logit_variation:
        scale = jnp.asarray(class_prior.rarity(pixels), jnp.float32)
        loss = loss._replace(variation=objective.Variation(scale, sigma))
    return loss


def _head_options(config: ConfigDict) -> dict[str, Any]:
    """The section of the config that is named as the network's head; most heads have none."""
    head, _ = models.names().get(config.model.name, ("", ""))
    return config.model[head].to_dict() if head in config.model else {}


def _class_weights(config: ConfigDict, dataset: data.Dataset) -> jax.Array | None:
    rule = config.loss.class_weights
    if rule == "none":
        return None
    if rule == "dataset":
        weights = dataset.info.class_weights
        if weights is None:
            raise UserError(
                f"data set {dataset.info.name} has no customary class weights; "
                f"use --config.loss.class_weights=one of none, {', '.join(class_weights.RULES)}"
            )
    elif rule in class_weights.RULES:
        weights = class_weights.RULES[rule](dataset.splits["train"].class_pixels)
    elif rule.endswith(".json"):
        weights = class_weights.read(Path(rule), dataset.info.classes)
    else:
        known = ("none", "dataset", *class_weights.RULES)
        raise UserError(
            f"config.loss.class_weights is {_one_of(known)} or a .json file, not {rule!r}"
        )
    return jnp.asarray(weights, jnp.float32)


def _dtype(name: str) -> Any:
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if name not in dtypes:
        raise UserError(f"config.model.dtype is {_one_of(dtypes)}, not {name!r}")
    return dtypes[name]


def _one_of(names: Any) -> str:
    return "one of " + ", ".join(map(repr, names))


def to_json(config: ConfigDict) -> str:
    """A config as JSON, keys in order."""
    return json.dumps(config.to_dict(), indent=2)


def from_json(text: str) -> ConfigDict:
    """The inverse of ``to_json``; tuples come back as tuples."""

    def tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tuples(item) for key, item in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return ConfigDict(tuples(json.loads(text)))
