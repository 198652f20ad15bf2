"""The weights that a run starts from (``config.init.path``)."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from dropclass_jax.errors import UserError
from dropclass_jax.experiment.network import create_network
from dropclass_jax.models import pretrained, recognise
from dropclass_jax.models.variables import init_shapes
from dropclass_jax.runs import checkpoint


def read(config: ConfigDict) -> dict[str, np.ndarray]:
    """The tensors that a config starts from, which fit its network; the data is not needed.

    Raises:
      UserError: names the file and what is wrong with it; where it holds another network's
        backbone, that network.
    """
    name = config.model.name
    arrays = checkpoint.read_weights(config.init.path, name)
    shapes = init_shapes(create_network(config, num_classes=2))  # whatever the data's classes are
    try:
        pretrained.load_state_dict(shapes, arrays)
    except UserError as error:
        fits = recognise.network_of(arrays)
        mend = f". They fit --config.model.name={fits}" if fits not in (None, name) else ""
        raise UserError(f"{config.init.path} for {name}: {error}{mend}") from error
    return arrays
