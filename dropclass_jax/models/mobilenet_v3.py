"""MobileNetV3, large and small, as torchvision builds it.

Howard et al., "Searching for MobileNetV3", ICCV 2019. Inverted residual blocks: a 1x1 convolution
widens, a depthwise one looks around, squeeze-and-excitation weighs the channels, a 1x1 convolution
narrows again, without an activation.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
from flax import linen as nn

from dropclass_jax.models.layers import ConvNorm, Layers, global_mean


class Block(NamedTuple):
    """One inverted residual block (Tables 1 and 2 of the paper).

    Attributes:
      kernel_size: of the depthwise convolution.
      expanded: its channels.
      features: channels of the block's output.
      squeeze: with squeeze-and-excitation.
      hard_swish: hard-swish activations, else ReLU.
      stride: of the depthwise convolution.
    """

    kernel_size: int
    expanded: int
    features: int
    squeeze: bool
    hard_swish: bool
    stride: int = 1


ARCHITECTURES = {
    "mobilenet_v3_large": (
        Block(3, 16, 16, False, False),
        Block(3, 64, 24, False, False, stride=2),
        Block(3, 72, 24, False, False),
        Block(5, 72, 40, True, False, stride=2),
        Block(5, 120, 40, True, False),
        Block(5, 120, 40, True, False),
        Block(3, 240, 80, False, True, stride=2),
        Block(3, 200, 80, False, True),
        Block(3, 184, 80, False, True),
        Block(3, 184, 80, False, True),
        Block(3, 480, 112, True, True),
        Block(3, 672, 112, True, True),
        Block(5, 672, 160, True, True, stride=2),
        Block(5, 960, 160, True, True),
        Block(5, 960, 160, True, True),
    ),
    "mobilenet_v3_small": (
        Block(3, 16, 16, True, False, stride=2),
        Block(3, 72, 24, False, False, stride=2),
        Block(3, 88, 24, False, False),
        Block(5, 96, 40, True, True, stride=2),
        Block(5, 240, 40, True, True),
        Block(5, 240, 40, True, True),
        Block(5, 120, 48, True, True),
        Block(5, 144, 48, True, True),
        Block(5, 288, 96, True, True, stride=2),
        Block(5, 576, 96, True, True),
        Block(5, 576, 96, True, True),
    ),
}

# Of every norm in the backbone (section 6.1.1 of the paper, by way of TensorFlow's default).
EPSILON = 1e-3


class MobileNetV3(nn.Module):
    """Images ``[B, H, W, 3]`` to four maps of strides 4, 8, 16 and 32.

    They are what the first block of each stride gives (torchvision's choice), and of the last
    stride what the final 1x1 convolution gives: six times the channels of the last block. None has
    a stride above ``output_stride``; the maps of strides 4 to 16 are of both signs.

    Attributes:
      blocks: one of ``ARCHITECTURES`` or another with four strides of 2 or three after a strided
        stem's.
      output_stride: the largest stride: 8, 16 or 32.
      dilate_first: what a block dilates whose own stride has become dilation: with torchvision its
        kernel too, else (as in DeepLab, and in ``resnet``) only those after it.
      layers: makes the convolutions and norms; their epsilon is not used in the backbone.
    """

    blocks: tuple[Block, ...]
    output_stride: int = 32
    dilate_first: bool = True
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> list[jax.Array]:
        layers = dataclasses.replace(self.layers, epsilon=EPSILON)
        # [B, H/2, W/2, 16]
        x = nn.hard_swish(ConvNorm(layers, 16, 3, stride=2, name="stem")(images, train))

        maps = []
        total_stride, dilation = 2, 1
        for i, block in enumerate(self.blocks):
            strided = block.stride > 1
            first_dilation = dilation
            if total_stride * block.stride > self.output_stride:
                dilation *= block.stride
                block = block._replace(stride=1)
            total_stride *= block.stride
            own_dilation = first_dilation if strided and not self.dilate_first else dilation
            residual = layers.block(InvertedResidual)
            x = residual(layers, block, own_dilation, name=f"block{i}")(x, train)
            if strided:
                maps.append(x)
        x = ConvNorm(layers, 6 * x.shape[-1], name="last")(x, train)
        return [*maps[:3], nn.hard_swish(x)]


class InvertedResidual(nn.Module):
    """One block: ``[B, h, w, C]`` to ``[B, ceil(h / stride), ceil(w / stride), features]``."""

    layers: Layers
    block: Block
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers, block = self.layers, self.block
        activation = nn.hard_swish if block.hard_swish else nn.relu
        y = x
        if block.expanded != x.shape[-1]:
            y = activation(ConvNorm(layers, block.expanded, name="expand")(y, train))
        depthwise = ConvNorm(
            layers,
            block.expanded,
            block.kernel_size,
            block.stride,
            dilation=self.dilation,
            groups=block.expanded,
            name="depthwise",
        )
        y = activation(depthwise(y, train))
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
