"""The network that a config names."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from dropclass_jax import dropclass, models
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.errors import UserError, one_of
from dropclass_jax.ops import axis


def create_network(config: ConfigDict, num_classes: int, *, remat: bool | None = None) -> nn.Module:
    """The network of a config, for K classes.

    Args:
      config: see ``defaults``.
      num_classes: K.
      remat: compute the backbone's blocks again in the backward pass; as the config says by
        default.

    Raises:
      UserError: an unknown name, or settings that the network does not take.
    """
    return models.create(
        config.model.name,
        num_classes,
        dropclass=_dropclass_settings(config),
        output_stride=config.model.output_stride,
        auxiliary=config.model.auxiliary,
        head=_head_options(config),
        init=config.model.init,
        bn_momentum=config.model.bn_momentum,
        dtype=_dtype(config.model.dtype),
        freeze_bn=config.model.freeze_bn,
        remat=config.model.remat == "blocks" if remat is None else remat,
        axis_name=axis.AXIS,
    )


def normalized(config: ConfigDict, info: DatasetInfo) -> DatasetInfo:
    """A data set's facts with the mean and deviation that the config's network wants, if any."""
    wanted = models.normalization(config.model.name)
    return info if wanted is None else dataclasses.replace(info, **wanted._asdict())


def _dropclass_settings(config: ConfigDict) -> dict[str, Any] | None:
    """What the section ``dropclass`` says of the network; None for plain training."""
    settings = config.dropclass
    return {name: settings[name] for name in dropclass.SETTINGS} if settings.enabled else None


def _head_options(config: ConfigDict) -> dict[str, Any]:
    """The section of the config that is named as the network's head; most heads have none."""
    head, _ = models.names().get(config.model.name, ("", ""))
    return config.model[head].to_dict() if head in config.model else {}


def _dtype(name: str) -> Any:
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if name not in dtypes:
        raise UserError(f"config.model.dtype is {one_of(dtypes)}, not {name!r}")
    return dtypes[name]
