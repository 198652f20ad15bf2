"""A trained network as it lies in a run's folder, with what is needed to use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import inference
from dropclass_jax.evaluation.inference import WHOLE, Views
from dropclass_jax.experiment.batches import load_data
from dropclass_jax.experiment.network import create_network
from dropclass_jax.models.variables import init_shapes
from dropclass_jax.ops.images import normalize
from dropclass_jax.runs import checkpoint, rundir


class Trained(NamedTuple):
    """A run's network.

    Attributes:
      workdir: the run's folder.
      config: the run's config.
      info: the facts of the data it was trained on: class names and colours, mean and deviation of
        the images, and ``train_pixels`` as counted.
      model: the network, for use on one device.
      variables: what ``model.apply`` takes.
      step: of the checkpoint.
    """

    workdir: Path
    config: ConfigDict
    info: DatasetInfo
    model: nn.Module
    variables: dict[str, Any]
    step: int


def load(workdir: Path, which: str = "last") -> Trained:
    """Read a run's network; its data is not needed.

    Args:
      workdir: the run's folder.
      which: the checkpoint: ``last``, ``best`` or a step.

    Raises:
      UserError: the folder holds no run or no such checkpoint, or it is damaged.
    """
    workdir = Path(workdir)
    config = rundir.read_config(workdir)
    info = rundir.read_info(workdir) or load_data(config).counted_info
    model = create_network(config, info.num_classes)
    shapes = init_shapes(model)
    variables, at_step = checkpoint.restore_variables(workdir, dict(shapes), which)
    return Trained(workdir, config, info, model, variables, at_step)


def own_head(network: Trained, head: str | None = None) -> str:
    """The head to predict with: the one asked for, or the network's own.

    Raises:
      UserError: a plain network is asked for its drop head.
    """
    check_head(network.workdir, network.config, head)
    return head or ("drop" if network.config.dropclass.enabled else "plain")


def check_head(workdir: Path, config: ConfigDict, head: str | None) -> None:
    """Raise ``UserError`` where a plain run is asked for a drop head."""
    if head == "drop" and not config.dropclass.enabled:
        raise UserError(f"{workdir} is a plain run and has no drop head; use --head=plain")


def class_list(network: Trained) -> list[dict[str, Any]]:
    """The classes as JSON: what each value of a prediction stands for, with its colour."""
    about = zip(network.info.classes, network.info.colors, strict=True)
    return [
        {"value": value, "name": name, "color": color} for value, (name, color) in enumerate(about)
    ]


def scorer(
    network: Trained, head: str | None = None, views: Views = WHOLE
) -> Callable[[Any, jax.Array], jax.Array]:
    """All the way from pixels to scores, as a pure function that can be jitted and exported.

    Args:
      network: a run's.
      head: ``drop`` or ``plain``; the network's own by default.
      views: how the network is shown an image.

    Returns:
      ``(variables, images uint8 [B, H, W, 3]) -> scores [B, H, W, K]``; see ``inference.scores``.

    Raises:
      UserError: the network has no such head, or the views cannot be shown.
    """
    head = own_head(network, head)
    inference.check(views)
    mean, std = jnp.asarray(network.info.mean), jnp.asarray(network.info.std)

    def score(variables: Any, images: jax.Array) -> jax.Array:
        forward = inference.forward(network.model, variables)
        return inference.scores(forward, normalize(images, mean, std), **views._asdict())[head]

    return score
