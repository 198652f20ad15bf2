"""Inverted residual blocks, the building blocks of MobileNetV3 and EfficientNet.

A 1x1 convolution expands the channels, a depthwise convolution and optional squeeze-and-excitation
follow, and a linear 1x1 convolution projects back to few channels (Sandler et al., "MobileNetV2:
Inverted Residuals and Linear Bottlenecks", CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
from flax import linen as nn

from dropclass_jax.models.layers import ConvNorm, Layers, global_mean


class Block(NamedTuple):
    """Hyperparameters of one inverted residual block.

    Attributes:
      kernel_size: of the depthwise convolution.
      expanded: channels of the depthwise convolution.
      features: output channels.
      activation: applied after the expansion and after the depthwise convolution.
      squeeze: whether to use squeeze-and-excitation.
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
    """Limits the output stride of a sequence of blocks by atrous convolution.

    A block that would exceed the output stride has stride 1, and the kernels after it are dilated
    instead; the weights keep their shapes (Chen et al., "Rethinking Atrous Convolution for Semantic
    Image Segmentation", 2017, section 3.1).

    Args:
      blocks: with the strides of the undilated network.
      output_stride: the largest stride allowed, relative to the image.
      stride: of the first block's input, relative to the image.
      dilate_first: whether the block that loses its stride is dilated itself, as in torchvision;
        otherwise only the blocks after it are, as in DeepLab and in ``resnet``.

    Yields:
      Each block with its new stride, and the dilation of its depthwise convolution.
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
    """One inverted residual block; its input is added where the output has the same shape.

    Attributes:
      layers: creates the convolutions and norms.
      block: hyperparameters.
      dilation: of the depthwise convolution.
    """

    layers: Layers
    block: Block
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps ``[B, h, w, C]`` to ``[B, ceil(h / stride), ceil(w / stride), features]``."""
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
    """Squeeze-and-excitation: scales every channel by a gate computed from the global mean.

    Hu et al., CVPR 2018, in MobileNetV3's form: a bottleneck of a quarter of the channels and a
    hard sigmoid (Howard et al., "Searching for MobileNetV3", ICCV 2019, section 5.3).
    """

    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        y = global_mean(x)  # [B, 1, 1, C]
        y = nn.relu(self.layers.conv(divisible(channels // 4), use_bias=True, name="reduce")(y))
        return x * nn.hard_sigmoid(self.layers.conv(channels, use_bias=True, name="restore")(y))


def divisible(channels: int, by: int = 8) -> int:
    """Rounds a number of channels to a multiple of ``by``, at most a tenth below ``channels``.

    >>> divisible(18), divisible(20), divisible(2)
    (24, 24, 8)
    """
    nearest = max(by, (channels + by // 2) // by * by)
    return nearest if nearest >= 0.9 * channels else nearest + by
