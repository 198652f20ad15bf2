"""The weights that a run starts from (``config.init.path``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from dropclass_jax import models
from dropclass_jax.data.info import IMAGENET_MEAN, IMAGENET_STD
from dropclass_jax.errors import UserError
from dropclass_jax.models import pretrained, recognise, weight_files, weight_sources
from dropclass_jax.models.normalization import Normalization
from dropclass_jax.models.variables import init_shapes
from dropclass_jax.runs import checkpoint, rundir


class Weights(NamedTuple):
    """Somebody's weights, in memory.

    Attributes:
      arrays: the tensors, by the names of their file.
      description: where they are from, for messages.
      classes: the classes that they tell apart, where the source says: a run does, and a file that
        was converted from one.
    """

    arrays: dict[str, np.ndarray]
    description: str
    classes: tuple[str, ...] | None = None


def read(spec: str, network: str, model: nn.Module) -> Weights:
    """Weights that fit a network; the data is not needed.

    Args:
      spec: see ``weight_sources.find``.
      network: its name; see ``dropclass_jax.models``.
      model: the network itself, of any number of classes.

    Raises:
      UserError: as ``fetch`` and ``load``.
    """
    weights = fetch(spec, network)
    load(init_shapes(model), weights, network)
    return weights


def start(
    variables: Mapping[str, Any], weights: Weights, classes: Sequence[str]
) -> tuple[dict[str, Any], str]:
    """A network's variables with the weights loaded, and a line on what became of every tensor.

    Classifiers of other classes start afresh, as those of another number of classes do: a logit
    would begin as that of whichever class had its place.

    Args:
      variables: of the network.
      weights: that ``read`` found to fit it.
      classes: the K names of the classes to be learned, in their order.
    """
    arrays, note = weights.arrays, ""
    if weights.classes not in (None, tuple(classes)):
        arrays = {name: x for name, x in arrays.items() if "classifier" not in name.split("/")}
        note = f"; it was trained on other classes ({', '.join(weights.classes)})"
    variables, report = pretrained.load_state_dict(variables, arrays)
    return variables, f"{weights.description}: {report}{note}"


def load(
    variables: Mapping[str, Any], weights: Weights, network: str
) -> tuple[dict[str, Any], pretrained.LoadReport]:
    """``pretrained.load_state_dict``, with errors that name the file.

    Raises:
      UserError: the weights do not fit; where they are another network's, that network is named.
    """
    try:
        return pretrained.load_state_dict(variables, weights.arrays)
    except UserError as error:
        fits = recognise.network_of(weights.arrays)
        mend = f". They fit the network {fits}" if fits not in (None, network) else ""
        raise UserError(f"{weights.description} for {network}: {error}{mend}") from error


def fetch(spec: str, network: str) -> Weights:
    """The weights that ``weight_sources.find`` finds, whatever network they are of.

    Raises:
      UserError: they cannot be read, or are known to want images of another normalization than the
        network gets.
    """
    source = weight_sources.find(spec, network)
    given = models.normalization(network) or Normalization(IMAGENET_MEAN, IMAGENET_STD)
    wanted = source.normalization
    if wanted and not wanted.is_like(given):
        raise UserError(
            f"{source.description} want images of {wanted}, {network} gets {given}: they are of "
            "another network, whatever its tensors are called"
        )
    arrays = checkpoint.read_weights(source.path)
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, jnp.floating) and not np.isfinite(array).all():
            raise UserError(
                f"{source.description}: {name!r} holds numbers that are not finite: take another "
                "checkpoint of that training"
            )
    if not source.path.is_dir():
        return Weights(arrays, source.description, weight_files.read_classes(source.path))
    info = rundir.read_info(source.path)
    return Weights(arrays, source.description, info and info.classes)
