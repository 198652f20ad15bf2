"""Which of our networks somebody's weights are of."""

from __future__ import annotations

from dropclass_jax import models
from dropclass_jax.errors import UserError
from dropclass_jax.models import pretrained
from dropclass_jax.models.variables import init_shapes


def network_of(state_dict: pretrained.StateDict) -> str | None:
    """The name of the network whose weights a state dict holds; None for none of ours.

    The backbone must fit. The head is the one that fits too, if any, and else the usual one.
    Networks are tried one after the other, the small ones first, which takes seconds: it is for a
    message about weights that do not fit.
    """
    for name, backbone in reversed(models.BACKBONES.items()):
        report = _loaded(name, state_dict)
        if report is None:
            continue
        if pretrained.num_classes(state_dict) is None or not report.missing:
            return name
        others = [f"{head}_{name}" for head in models.HEADS if head != backbone.head]
        reports = {other: _loaded(other, state_dict) for other in others}
        whole = (other for other, r in reports.items() if r and not r.missing)
        return next(whole, name)
    return None


def _loaded(name: str, state_dict: pretrained.StateDict) -> pretrained.LoadReport | None:
    """What a network can take; None where the weights do not fit it."""
    num_classes = pretrained.num_classes(state_dict) or 2
    shapes = init_shapes(models.create(name, num_classes, dropclass=None))
    try:
        return pretrained.load_state_dict(shapes, state_dict)[1]
    except UserError:
        return None
