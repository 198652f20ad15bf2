"""Inverted residual blocks, which MobileNetV3 and EfficientNet are made of.

A 1x1 convolution widens, a depthwise one looks around, squeeze-and-excitation (where there is one)
weighs the channels, a 1x1 convolution narrows again, without an activation (Sandler et al.,
"MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
from flax import linen as nn

from dropclass_jax.models.layers import ConvNorm, Layers, global_mean


class Block(NamedTuple):
    """One inverted residual block.

    Attributes:
      kernel_size: of the depthwise convolution.
      expanded: its channels.
      features: channels of the block's output.
      activation: after the widening and the depthwise convolution.
      squeeze: with squeeze-and-excitation.
      stride: of the depthwise convolution.
    """

    kernel_size: int
    expanded: int
    features: int
    activation: Callable[[jax.Array], jax.Array]
    squeeze: bool = False
    stride: int = 1


def dilated(
    blocks: Sequence[Block], output_stride: int, *, stride: int, dilate_first: bool
) -> Iterator[tuple[Block, int]]:
    """The blocks as they are at an output stride, each with its kernel's dilation.

    A block that may not stride any further dilates instead, with the same weights (Chen et al.,
    "Rethinking Atrous Convolution", 2017, section 3.1).

    Args:
      blocks: as they stride where nothing is dilated.
      output_stride: the largest stride.
      stride: of what the first block is given.
      dilate_first: whether a block whose own stride has become dilation dilates its kernel too, as
        torchvision has it; else only those after it do, as in DeepLab, and in ``resnet``.
    """
    dilation = 1
    for block in blocks:
        own_stride, before = block.stride, dilation
        if stride * own_stride > output_stride:
            dilation *= own_stride
            block = block._replace(stride=1)
        stride *= block.stride
        yield block, before if own_stride > 1 and not dilate_first else dilation


class InvertedResidual(nn.Module):
    """One block: ``[B, h, w, C]`` to ``[B, ceil(h / stride), ceil(w / stride), features]``.

    The sum with its input, where both have the same shape.
    """

    layers: Layers
    block: Block
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers, block = self.layers, self.block
        y = x
        if block.expanded != x.shape[-1]:
            y = block.activation(ConvNorm(layers, block.expanded, name="expand")(y, train))
        depthwise = ConvNorm(
            layers,
            block.expanded,
            block.kernel_size,
            block.stride,
            dilation=self.dilation,
            groups=block.expanded,
            name="depthwise",
        )
        y = block.activation(depthwise(y, train))
        if block.squeeze:
            y = SqueezeExcitation(layers, name="squeeze")(y)
        y = ConvNorm(layers, block.features, name="project")(y, train)
        return x + y if (block.stride, block.features) == (1, x.shape[-1]) else y


class SqueezeExcitation(nn.Module):
    """Weighs every channel by what the whole map holds (Hu et al., CVPR 2018); keeps the shape.

    As MobileNetV3 has it: a quarter of the channels in between, and a hard sigmoid.
    """

    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        y = global_mean(x)  # [B, 1, 1, C]
        y = nn.relu(self.layers.conv(divisible(channels // 4), use_bias=True, name="reduce")(y))
        return x * nn.hard_sigmoid(self.layers.conv(channels, use_bias=True, name="restore")(y))


def divisible(channels: int, by: int = 8) -> int:
    """The multiple of ``by`` nearest to ``channels``, but never less than nine tenths of it.

    >>> divisible(18), divisible(20), divisible(2)
    (24, 24, 8)
    """
    nearest = max(by, (channels + by // 2) // by * by)
    return nearest if nearest >= 0.9 * channels else nearest + by
