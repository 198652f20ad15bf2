"""Segmentation networks by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

from dropclass_jax.errors import UserError, nearest
from dropclass_jax.models import hrnet, layers
from dropclass_jax.models.layers import Layers
from dropclass_jax.models.segmenter import Segmenter

# Each takes the layers and returns a module (images, train) -> features.
BACKBONES: dict[str, Callable[[Layers], nn.Module]] = {
    name: partial(hrnet.HRNet, architecture) for name, architecture in hrnet.ARCHITECTURES.items()
}

INITIALIZERS = {
    # Trains from scratch.
    "he": layers.he_normal,
    # The reference's, meant for ImageNet weights on top: from scratch its signals vanish.
    "reference": layers.normal(0.001),
}


def create(
    name: str,
    num_classes: int,
    *,
    dropclass: bool = True,
    init: str = "he",
    bn_momentum: float = 0.99,
    dtype: Any = None,
    axis_name: str | None = None,
    importance: str = "shared",
    stop_importance_gradient: bool = False,
) -> Segmenter:
    """A segmentation network.

    Args:
      name: one of ``BACKBONES``.
      num_classes: K, 2 or more.
      dropclass: with the DropClass path; without it the network is the plain baseline.
      init: of convolution kernels, one of ``INITIALIZERS``.
      bn_momentum: share of the old batch statistics kept at a step (1 - PyTorch's momentum).
      dtype: compute dtype; None follows the inputs and parameters (float32). Parameters and
        statistics stay float32.
      axis_name: the axis of the devices, for synchronised batch norm.
      importance: ``'shared'`` or ``'position'``; see ``dropclass.DropClass``.
      stop_importance_gradient: hold the importance constant in the backward pass.

    Returns:
      A linen module: ``module.apply(variables, images, keep=None, train=False)`` returns a dict;
      see ``Segmenter``.

    Raises:
      UserError: an unknown name or option.
    """
    if name not in BACKBONES:
        raise UserError(
            f"unknown model {name!r}{nearest(name, BACKBONES)} Known: {', '.join(BACKBONES)}"
        )
    if init not in INITIALIZERS:
        raise UserError(f"model.init is one of {', '.join(INITIALIZERS)}, not {init!r}")
    if importance not in ("shared", "position"):
        raise UserError(f"dropclass.importance is 'shared' or 'position', not {importance!r}")
    if num_classes < 2:
        raise UserError(f"a segmentation needs 2 classes or more, not {num_classes}")
    settings = Layers(
        kernel_init=INITIALIZERS[init], dtype=dtype, momentum=bn_momentum, axis_name=axis_name
    )
    return Segmenter(
        backbone=BACKBONES[name](settings),
        num_classes=num_classes,
        dropclass=dropclass,
        importance=importance,
        stop_importance_gradient=stop_importance_gradient,
        layers=settings,
    )
