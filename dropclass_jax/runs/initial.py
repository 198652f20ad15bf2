"""The weights that a run starts from (``config.init.path``)."""

from __future__ import annotations

import flax.linen as nn
import numpy as np

from dropclass_jax.errors import UserError
from dropclass_jax.models import pretrained, recognise
from dropclass_jax.models.variables import init_shapes
from dropclass_jax.runs import checkpoint


def read(path: str, name: str, model: nn.Module) -> dict[str, np.ndarray]:
    """The tensors of a file or run, which fit a network; the data is not needed.

    Args:
      path: see ``checkpoint.read_weights``.
      name: the network's; see ``dropclass_jax.models``.
      model: the network, of any number of classes.

    Raises:
      UserError: names the file and what is wrong with it; where it holds another network's
        backbone, that network.
    """
    arrays = checkpoint.read_weights(path, name)
    try:
        pretrained.load_state_dict(init_shapes(model), arrays)
    except UserError as error:
        fits = recognise.network_of(arrays)
        mend = f". They fit --config.model.name={fits}" if fits not in (None, name) else ""
        raise UserError(f"{path} for {name}: {error}{mend}") from error
    return arrays
