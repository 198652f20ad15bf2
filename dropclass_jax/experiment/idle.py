"""Settings that change nothing, because of what another one says.

Whoever sets the threshold of OHEM and forgets to choose OHEM trains with the cross-entropy, and
would not be told: every value is one that a config may have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from dropclass_jax import models
from dropclass_jax.experiment.config import flatten


class Need(NamedTuple):
    """When a key, or every key of a section, matters.

    Attributes:
      key: of the config, or of a section.
      other: the key that it depends on.
      wanted: what that must be, in words.
      test: whether its value is so.
      unless: a further key, with which it matters in any case if that is not 0.
    """

    key: str
    other: str
    wanted: str
    test: Callable[[Any], bool]
    unless: str | None = None


def _is(*values: Any) -> tuple[str, Callable[[Any], bool]]:
    """One of some values."""
    return " or ".join(map(repr, values)), lambda value: value in values


def _has_deeplab_v3(network: str) -> bool:
    return models.parts(network)[0] == "deeplab_v3"


NEEDS = (
    Need("loss.ohem", "loss.name", *_is("ohem")),
    Need("loss.focal", "loss.name", *_is("focal")),
    Need("loss.region_weight", "loss.name", *_is("dice", "lovasz")),
    Need("loss.auxiliary", "model.auxiliary", *_is(True)),
    Need("model.deeplab_v3", "model.name", "a network with that head", _has_deeplab_v3),
    Need("data.sampling.class_crop", "data.sampling.class_uniform", "more than 0", bool),
    Need("dropclass.tile", "dropclass.draw_per", *_is("tile")),
    *(
        Need(
            f"dropclass.{ramp}.start",
            f"dropclass.{ramp}.shape",
            *_is("linear", "cosine"),
            unless=f"dropclass.{ramp}.begin",
        )
        for ramp in ("lambda_", "p")
    ),
    Need("dropclass.refine_init", "dropclass.refine", *_is("block")),
    Need("dropclass.stop_importance_gradient", "dropclass.importance", *_is("shared", "position")),
)


def notes(config: ConfigDict, given: Iterable[str]) -> dict[str, str]:
    """A line for each setting of the user's that changes nothing, by its key.

    What belongs to DropClass is not looked at where that is off: then it is the baseline.

    Args:
      config: whose values are such as a config may have.
      given: the keys that the user has set.
    """
    values = dict(flatten(config))
    return {
        key: f"note: config.{key} changes nothing, as config.{need.other} is "
        f"{values[need.other]!r}; it needs {need.wanted}"
        for key in given
        for need in NEEDS
        if (key == need.key or key.startswith(f"{need.key}."))
        and (config.dropclass.enabled or not key.startswith("dropclass."))
        and not need.test(values[need.other])
        and not (need.unless and values[need.unless])
    }
