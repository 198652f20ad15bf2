"""Check a config's values before any work is done."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from dropclass_jax import losses, models, schedules
from dropclass_jax.errors import UserError, one_of
from dropclass_jax.experiment.network import create_network
from dropclass_jax.models import patterns
from dropclass_jax.models.variables import init_shapes
from dropclass_jax.training import guard

REMAT = ("none", "blocks")


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
            one_of(guard.ON_NONFINITE),
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
        ("model.remat", config.model.remat, config.model.remat in REMAT, one_of(REMAT)),
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
            (f"dropclass.{name}.shape", shape, shape in schedules.SHAPES, one_of(schedules.SHAPES))
            for name in ("lambda_", "p")
            for shape in (config.dropclass[name].shape,)
        ),
    ]
    for key, value, fine, allowed in rules:
        if not fine:
            raise UserError(f"config.{key} is {allowed}, not {value!r}")
    create_network(config, num_classes=2)  # has errors of its own
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
        ("loss.name", loss.name, loss.name in losses.LOSSES, one_of(losses.LOSSES)),
        ("loss.ohem.threshold", ohem.threshold, 0 < ohem.threshold <= 1, "above 0, up to 1"),
        ("loss.ohem.min_kept", ohem.min_kept, 0 <= ohem.min_kept <= 1, "0 to 1"),
        *((f"loss.{key}", value, value >= 0, "0 or more") for key, value in not_negative.items()),
    ]


def check_patterns(config: ConfigDict, network: nn.Module) -> None:
    """Refuse a name of something to freeze that the network does not have."""
    if not (config.model.freeze_bn or config.optim.freeze):
        return
    shapes = init_shapes(network)
    patterns.check("model.freeze_bn", config.model.freeze_bn, shapes["batch_stats"])
    patterns.check("optim.freeze", config.optim.freeze, shapes["params"])
