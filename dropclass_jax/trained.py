"""A trained network as it lies in a run's folder, with what is needed to use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dropclass_jax import checkpoint, experiment, rundir
from dropclass_jax.data.info import DatasetInfo


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
    info = rundir.read_info(workdir) or experiment.load_data(config).counted_info
    model = experiment.model(config, info.num_classes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    variables, step = checkpoint.restore_variables(workdir, dict(shapes), which)
    return Trained(workdir, config, info, model, variables, step)
