"""The trained network of a run, with what is needed to predict with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dropclass_jax import data
from dropclass_jax.data.info import DatasetInfo, class_list
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import inference
from dropclass_jax.evaluation.inference import OUTPUTS, WHOLE, Views
from dropclass_jax.experiment import batches, facts
from dropclass_jax.experiment.config import from_values
from dropclass_jax.experiment.facts import Facts
from dropclass_jax.experiment.network import create_network
from dropclass_jax.models.variables import init_shapes
from dropclass_jax.ops.images import normalize
from dropclass_jax.runs import checkpoint, rundir


class TrainedNetwork(NamedTuple):
    """A network and its variables, as a checkpoint of a run holds them.

    Attributes:
      workdir: the run's folder.
      facts: of the run's config.
      info: the facts of the data it was trained on: class names and colours, mean and deviation of
        the images, and ``train_pixels`` as counted.
      model: the network. It keeps what its blocks compute (no ``remat``), which prediction does
        not need and which hides their layers from ``analysis``.
      variables: what ``model.apply`` takes.
      step: of the checkpoint.
    """

    workdir: Path
    facts: Facts
    info: DatasetInfo
    model: nn.Module
    variables: dict[str, Any]
    step: int


def load(workdir: Path, which: str = "last") -> TrainedNetwork:
    """Read the network of a run; its data is not needed.

    Args:
      workdir: the run's folder.
      which: the checkpoint: ``last``, ``best`` or a step.

    Raises:
      UserError: the folder holds no run or no such checkpoint, or it is damaged.
    """
    workdir = Path(workdir)
    config = from_values(rundir.read_config(workdir))
    info = rundir.read_info(workdir) or batches.load_data(config).counted_info
    model = create_network(config, info.num_classes, remat=False)
    shapes = init_shapes(model)
    variables, step = checkpoint.restore_variables(workdir, dict(shapes), which)
    return TrainedNetwork(workdir, facts.of(config), info, model, variables, step)


def load_data(workdir: Path, source_dir: str | None = None) -> data.Dataset:
    """The data set that a run was trained on.

    Args:
      workdir: the run's folder.
      source_dir: the data's source folder, if it has moved.

    Raises:
      UserError: the folder holds no run, the data cannot be loaded, or has other classes or
        another normalisation now.
    """
    dataset = batches.load_data(from_values(rundir.read_config(workdir)), source_dir)
    rundir.check_classes(workdir, dataset.info.classes)
    rundir.check_normalization(workdir, dataset.info)
    if rundir.fingerprint(workdir) not in (None, dataset.fingerprint):
        print(
            f"note: {workdir} was trained on other data than this: its source, or the options that "
            "it was prepared by, have changed since"
        )
    return dataset


def own_output(network: TrainedNetwork, head: str | None = None) -> str:
    """The output to predict with: the one asked for, or the network's own.

    Raises:
      UserError: a plain network is asked for its drop head.
    """
    check_output(network.workdir, network.facts, head)
    return head or outputs_of(network.facts)[0]


def outputs_of(facts: Facts) -> tuple[str, ...]:
    """The outputs that a network has, the one that predicts first."""
    return OUTPUTS if facts.dropclass else ("plain",)


def check_output(workdir: Path, facts: Facts, head: str | None) -> None:
    """Raise ``UserError`` where a plain run is asked for a drop head."""
    if head == "drop" and not facts.dropclass:
        raise UserError(f"{workdir} is a plain run and has no drop head; use --head=plain")


def values_of_classes(network: TrainedNetwork) -> list[dict[str, Any]]:
    """The classes as JSON, each with the ``value`` that stands for it in a prediction."""
    return [{"value": k, **entry} for k, entry in enumerate(class_list(network.info))]


def scorer(
    network: TrainedNetwork, head: str | None = None, views: Views = WHOLE
) -> Callable[[Any, jax.Array], jax.Array]:
    """All the way from pixels to scores, as a pure function that can be jitted and exported.

    Args:
      network: of a run.
      head: ``drop`` or ``plain``; the network's own by default.
      views: how the network is shown an image.

    Returns:
      ``(variables, images uint8 [B, H, W, 3]) -> scores [B, H, W, K]``; see ``inference.scores``.

    Raises:
      UserError: the network has no such head, or the views cannot be shown.
    """
    head = own_output(network, head)
    inference.check(views)
    mean, std = jnp.asarray(network.info.mean), jnp.asarray(network.info.std)

    def score(variables: Any, images: jax.Array) -> jax.Array:
        forward = inference.forward(network.model, variables)
        return inference.scores(forward, normalize(images, mean, std), **views._asdict())[head]

    return score
