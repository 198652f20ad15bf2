"""Which of our networks somebody's weights are of."""

from __future__ import annotations

from dropclass_jax import models
from dropclass_jax.errors import UserError
from dropclass_jax.models import pretrained
from dropclass_jax.models.variables import init_shapes


def network_of(state_dict: pretrained.StateDict) -> str | None:
    """The name of the network whose weights a state dict holds; None for none of ours.

    The backbone must fit. Of the heads it is the one that fits too, or else the usual one. Every
    network is tried, which takes seconds: it is for a message about weights that do not fit.
    """
    for name, backbone in models.BACKBONES.items():
        if _loaded(name, state_dict) is None:
            continue
        others = [f"{head}_{name}" for head in models.HEADS if head != backbone.head]
        return max([name, *others], key=lambda name: _loaded(name, state_dict) or 0)
    return None


def _loaded(name: str, state_dict: pretrained.StateDict) -> int | None:
    """How many tensors a network can take; None where they do not fit it."""
    shapes = init_shapes(models.create(name, pretrained.num_classes(state_dict) or 2))
    try:
        return len(pretrained.load_state_dict(shapes, state_dict)[1].matched)
    except UserError:
        return None
