"""Build the model, the optimizer and the steps that a config describes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from dropclass_jax import data, losses, schedules
from dropclass_jax.errors import UserError, one_of
from dropclass_jax.evaluation.step import bind
from dropclass_jax.experiment.check import check_patterns
from dropclass_jax.experiment.network import create_network, normalized
from dropclass_jax.losses import class_prior, class_weights
from dropclass_jax.ops import axis
from dropclass_jax.training import guard, optimizers, step
from dropclass_jax.training.draw import Draw, grid
from dropclass_jax.training.recipe import Recipe


class Experiment(NamedTuple):
    """The model, the optimizer and the steps of an experiment.

    Attributes:
      model: the network.
      optimizer: with its learning rate.
      train_step: ``(state, batch, key) -> (state, scalars)``, one device's part.
      eval_step: ``(variables, batch) -> (totals, examples)``, one device's part.
      class_weights: ``[K]``, of the loss; None for none.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    train_step: Any
    eval_step: Any
    class_weights: jax.Array | None


def build(config: ConfigDict, dataset: data.Dataset) -> Experiment:
    """The model, the optimizer and the two steps of a config that ``check.check`` has passed.

    Raises:
      UserError: a value that does not fit the data set or the network.
    """
    network = create_network(config, dataset.info.num_classes)
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
    check_patterns(config, network)
    weights = _class_weights(config, dataset)
    info = normalized(config, dataset.info)
    images = {"image_mean": jnp.asarray(info.mean), "image_std": jnp.asarray(info.std)}
    train_step = partial(
        step.train_step,
        recipe=Recipe(
            model=network,
            optimizer=optimizer,
            loss=_loss(config, dataset),
            auxiliary=config.loss.auxiliary,
            class_weights=weights,
            ignore_label=dataset.info.ignore_label,
            accumulate_steps=config.accumulate_steps,
            ema_decay=config.optim.ema,
            gradient_norms=config.log_gradient_norms,
            axis_name=axis.AXIS,
        ),
        learning_rate=learning_rate,
        dropclass=_dropclass(config, dataset, network) if config.dropclass.enabled else None,
        **images,
    )
    if config.on_nonfinite == "skip":
        train_step = guard.skip_nonfinite(train_step)
    return Experiment(network, optimizer, train_step, bind(network, info), weights)


def _dropclass(
    config: ConfigDict, dataset: data.Dataset, network: nn.Module
) -> tuple[step.Coefficients, Draw]:
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
        raise UserError(f"config.dropclass.draw is {one_of(odds)}, not {settings.draw!r}")
    count = settings.count or max(1, round(len(pixels) / 4))
    if count >= len(pixels):
        raise UserError(
            f"config.dropclass.count is below {len(pixels)}, the number of classes of "
            f"{dataset.info.name}, so that one is kept; not {count}"
        )
    if settings.draw_per == "tile":
        _check_tile(settings.tile, tuple(config.augment.crop), network)
    draw = Draw(
        jnp.asarray(odds[settings.draw] / odds[settings.draw].sum(), jnp.float32),
        per=settings.draw_per,
        tile=settings.tile,
        count=count,
        present_only=settings.draw_present_only,
        stratify=settings.stratify,
    )
    return coefficients, draw


def _check_tile(tile: int, crop: tuple[int, int], network: nn.Module) -> None:
    """Refuse tiles that some of hold no position of the features."""
    images = jax.ShapeDtypeStruct((1, *crop, 3), jnp.float32)
    outputs, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), images)
    positions = outputs["features"].shape[1:3]
    if any(tiles > length for tiles, length in zip(grid(crop, tile), positions, strict=True)):
        stride = max(-(-pixels // length) for pixels, length in zip(crop, positions, strict=True))
        raise UserError(
            f"config.dropclass.tile of {tile} pixels is finer than the features, which have "
            f"{positions[0]}x{positions[1]} positions of a crop of {crop[0]}x{crop[1]}; "
            f"take {stride} or more"
        )


def _loss(config: ConfigDict, dataset: data.Dataset) -> losses.Loss:
    settings, pixels = config.loss, dataset.class_pixels["train"]
    loss = losses.LOSSES[settings.name]._replace(region_weight=settings.region_weight)
    if settings.name in settings:  # a section of its own
        loss = loss._replace(of_pixels=partial(loss.of_pixels, **settings[settings.name]))
    if tau := settings.logit_adjustment:
        prior = class_prior.log_prior(pixels)
        loss = loss._replace(offsets=jnp.asarray(tau * prior, jnp.float32))
    if sigma := settings.logit_variation:
        scale = jnp.asarray(class_prior.rarity(pixels), jnp.float32)
        loss = loss._replace(variation=losses.Variation(scale, sigma))
    return loss


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
            f"config.loss.class_weights is {one_of(known)} or a .json file, not {rule!r}"
        )
    return jnp.asarray(weights, jnp.float32)
