"""The values that a config may have, checked once before any work is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from dropclass_jax import losses, models, schedules
from dropclass_jax.errors import UserError, one_of
from dropclass_jax.experiment.config import check_keys
from dropclass_jax.experiment.network import create_network
from dropclass_jax.models import patterns
from dropclass_jax.models.variables import init_shapes
from dropclass_jax.training import draw, guard

REMAT = ("none", "blocks")


class Rule(NamedTuple):
    """What one value of a config may be.

    Attributes:
      key: of the value, as ``optim.lr``.
      allowed: what it may be, in words.
      test: whether a value is allowed; must accept values of any type.
    """

    key: str
    allowed: str
    test: Callable[[Any], bool]


def _number(low: float = -math.inf, high: float = math.inf) -> Callable[[Any], bool]:
    """From ``low`` to ``high``, both included."""
    return lambda value: _is_number(value) and low <= value <= high


def _below(high: float, low: float = 0.0) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and low <= value < high


def _above(low: float, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and low < value <= high and value < math.inf


def _whole(low: int) -> Callable[[Any], bool]:
    """A whole number, ``low`` at least."""
    return lambda value: _is_whole(value) and value >= low


def _multiple(divisor: int) -> Callable[[Any], bool]:
    return lambda value: _is_whole(value) and value >= 1 and value % divisor == 0


def _among(names: Collection[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in names


def _each(test: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    """A tuple, of a certain length or of any, all of whose items pass."""
    return lambda value: (
        isinstance(value, (tuple, list)) and length in (None, len(value)) and all(map(test, value))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_range(value: Any) -> bool:
    """Two numbers above 0, the smaller one first."""
    return _each(_above(0), 2)(value) and value[0] <= value[1]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


_NOT_NEGATIVE = ("0 or more", _below(math.inf))
_SHARE = ("0 to 1", _number(0, 1))
_DECAY = ("0 to below 1", _below(1))
_COUNT = ("1 or more", _whole(1))
_PATTERNS = ("names or patterns", _each(_is_name))
_RAMP_SHAPE = (one_of(schedules.SHAPES), _among(schedules.SHAPES))

RULES = (
    Rule("total_steps", *_COUNT),
    Rule("seed", f"0 to {2**32 - 1}", lambda value: _is_whole(value) and 0 <= value < 2**32),
    Rule("log_every", *_COUNT),
    Rule("accumulate_steps", *_COUNT),
    Rule("on_nonfinite", one_of(guard.ON_NONFINITE), _among(guard.ON_NONFINITE)),
    Rule("data.num_threads", "0 (in the main thread) or more", _whole(0)),
    Rule("data.cache_gib", *_NOT_NEGATIVE),
    Rule("augment.crop", "(height, width) in pixels, as (512,1024)", _each(_whole(1), 2)),
    Rule("augment.scale", "(smallest, largest), both above 0, as (0.5,2.0)", _is_range),
    Rule("augment.scale_step", "above 0", _above(0)),
    Rule("model.deeplab_v3.rates", "1 or more each", _each(_whole(1))),
    Rule("model.deeplab_v3.dropout", *_DECAY),
    Rule("model.bn_momentum", *_DECAY),
    Rule("model.remat", one_of(REMAT), _among(REMAT)),
    Rule("model.freeze_bn", *_PATTERNS),
    Rule("dropclass.alpha", *_NOT_NEGATIVE),
    Rule("dropclass.lambda_.start", *_SHARE),
    Rule("dropclass.lambda_.end", *_SHARE),
    Rule("dropclass.lambda_.begin", *_SHARE),
    Rule("dropclass.lambda_.shape", *_RAMP_SHAPE),
    Rule("dropclass.p.start", *_SHARE),
    Rule("dropclass.p.end", *_SHARE),
    Rule("dropclass.p.begin", *_SHARE),
    Rule("dropclass.p.shape", *_RAMP_SHAPE),
    Rule("dropclass.draw_per", one_of(draw.DRAWN_PER), _among(draw.DRAWN_PER)),
    Rule("dropclass.tile", *_COUNT),
    Rule("dropclass.count", "0 (for a quarter of the classes) or more", _whole(0)),
    Rule("loss.name", one_of(losses.LOSSES), _among(losses.LOSSES)),
    Rule("loss.ohem.threshold", "above 0, up to 1", _above(0, 1)),
    Rule("loss.ohem.min_kept", *_SHARE),
    Rule("loss.focal.gamma", *_NOT_NEGATIVE),
    Rule("loss.region_weight", *_NOT_NEGATIVE),
    Rule("loss.logit_adjustment", *_NOT_NEGATIVE),
    Rule("loss.logit_variation", *_NOT_NEGATIVE),
    Rule("loss.auxiliary", *_NOT_NEGATIVE),
    Rule("optim.lr", *_NOT_NEGATIVE),
    Rule("optim.momentum", *_DECAY),
    Rule("optim.weight_decay", *_NOT_NEGATIVE),
    Rule("optim.power", *_NOT_NEGATIVE),
    Rule("optim.warmup_steps", "0 or more", _whole(0)),
    Rule("optim.lag", "0 or more", _whole(0)),
    Rule("optim.freeze", *_PATTERNS),
    Rule("optim.ema", *_DECAY),
    Rule("eval.every_steps", *_COUNT),
    Rule(
        "eval.splits",
        "the names of one split or more",
        lambda value: _each(_is_name)(value) and len(value) > 0,
    ),
    Rule("checkpoint.every_steps", *_COUNT),
    Rule("checkpoint.keep", *_COUNT),
)


def check(config: ConfigDict) -> None:
    """Refuse keys that nothing looks at, and values that cannot work, before any work is done.

    Raises:
      UserError: names the first such key, its value and what it may be.
    """
    check_keys(config)
    for rule in RULES:
        _apply(rule, config)
    devices, parts = jax.device_count(), config.accumulate_steps
    each = f"the {devices} devices" + (f" x {parts} accumulate_steps" if parts > 1 else "")
    _apply(Rule("batch_size", f"a multiple of {each}", _multiple(devices * parts)), config)
    check_eval_batch(config.eval.batch_size)
    if config.optim.warmup_steps > config.total_steps:
        raise UserError(
            f"config.optim.warmup_steps is up to config.total_steps, {config.total_steps}, not "
            f"{config.optim.warmup_steps}"
        )
    settings = config.dropclass
    per, alike = settings.draw_per, not settings.draw_present_only
    if settings.stratify and not (per == "tile" or (per == "example" and alike)):
        raise UserError(
            "config.dropclass.stratify is for draw_per='tile', or draw_per='example' without "
            "draw_present_only (the examples of a step then hold different classes)"
        )
    create_network(config, num_classes=2)  # has errors of its own
    head, _ = models.names()[config.model.name]
    if head == "deeplab_v3" and config.batch_size // parts == 1:
        raise UserError(
            "config.batch_size of 1 (or of 1 a part of accumulate_steps) is too few for DeepLabV3, "
            "whose pooled features are normalised over the examples; take 2 or more"
        )


def check_eval_batch(size: int) -> None:
    """Raise ``UserError`` unless the devices can share so many images of an evaluation."""
    devices = jax.device_count()
    if not _multiple(devices)(size):
        raise UserError(
            f"config.eval.batch_size is a multiple of the {devices} devices, not {size!r}"
        )


def _apply(rule: Rule, config: ConfigDict) -> None:
    value = config
    for name in rule.key.split("."):
        value = value[name]
    if not rule.test(value):
        raise UserError(f"config.{rule.key} is {rule.allowed}, not {value!r}")


def check_patterns(config: ConfigDict, network: nn.Module) -> None:
    """Refuse a name of something to freeze that the network does not have, and to freeze it all."""
    if not (config.model.freeze_bn or config.optim.freeze):
        return
    shapes = init_shapes(network)
    patterns.check("model.freeze_bn", config.model.freeze_bn, shapes["batch_stats"])
    patterns.check("optim.freeze", config.optim.freeze, shapes["params"])
    if all(jax.tree.leaves(patterns.mask(shapes["params"], config.optim.freeze))):
        raise UserError(
            f"config.optim.freeze {config.optim.freeze!r} holds every parameter, so that nothing "
            "would be trained; leave out some of its patterns"
        )
