"""MobileNetV3, large and small, as in torchvision.

Howard et al., "Searching for MobileNetV3", ICCV 2019: inverted residual blocks, some with
squeeze-and-excitation, some with hard-swish activations.
"""

from __future__ import annotations

import dataclasses

import jax
from flax import linen as nn

from dropclass_jax.models.inverted_residual import Block, InvertedResidual, dilated
from dropclass_jax.models.layers import ConvNorm, Layers

_RELU, _SWISH = nn.relu, nn.hard_swish

# Tables 1 and 2 of the paper.
ARCHITECTURES = {
    "mobilenet_v3_large": (
        Block(3, 16, 16, _RELU),
        Block(3, 64, 24, _RELU, stride=2),
        Block(3, 72, 24, _RELU),
        Block(5, 72, 40, _RELU, squeeze=True, stride=2),
        Block(5, 120, 40, _RELU, squeeze=True),
        Block(5, 120, 40, _RELU, squeeze=True),
        Block(3, 240, 80, _SWISH, stride=2),
        Block(3, 200, 80, _SWISH),
        Block(3, 184, 80, _SWISH),
        Block(3, 184, 80, _SWISH),
        Block(3, 480, 112, _SWISH, squeeze=True),
        Block(3, 672, 112, _SWISH, squeeze=True),
        Block(5, 672, 160, _SWISH, squeeze=True, stride=2),
        Block(5, 960, 160, _SWISH, squeeze=True),
        Block(5, 960, 160, _SWISH, squeeze=True),
    ),
    "mobilenet_v3_small": (
        Block(3, 16, 16, _RELU, squeeze=True, stride=2),
        Block(3, 72, 24, _RELU, stride=2),
        Block(3, 88, 24, _RELU),
        Block(5, 96, 40, _SWISH, squeeze=True, stride=2),
        Block(5, 240, 40, _SWISH, squeeze=True),
        Block(5, 240, 40, _SWISH, squeeze=True),
        Block(5, 120, 48, _SWISH, squeeze=True),
        Block(5, 144, 48, _SWISH, squeeze=True),
        Block(5, 288, 96, _SWISH, squeeze=True, stride=2),
        Block(5, 576, 96, _SWISH, squeeze=True),
        Block(5, 576, 96, _SWISH, squeeze=True),
    ),
}

# The epsilon of all norms in the backbone (section 6.1.1 of the paper, via TensorFlow's default).
EPSILON = 1e-3


class MobileNetV3(nn.Module):
    """The MobileNetV3 backbone: images ``[B, H, W, 3]`` to four maps of strides 4, 8, 16 and 32.

    The maps of strides 4 to 16 are the outputs of the first block of each stride (torchvision's
    choice), which have both signs. The last one is the output of the final 1x1 convolution, with
    six times the channels of the last block. Strides are limited to ``output_stride``.

    Attributes:
      blocks: the blocks, as in ``ARCHITECTURES``. Four of them have stride 2; the first three of
        these give the maps of strides 4, 8 and 16.
      output_stride: the largest stride: 8, 16 or 32.
      dilate_first: see ``inverted_residual.dilated``; torchvision's by default.
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

        residual = layers.block(InvertedResidual)
        blocks = dilated(self.blocks, self.output_stride, stride=2, dilate_first=self.dilate_first)
        maps = []
        for i, (block, dilation) in enumerate(blocks):
            x = residual(layers, block, dilation, name=f"block{i}")(x, train)
            if self.blocks[i].stride > 1:
                maps.append(x)
        x = ConvNorm(layers, 6 * x.shape[-1], name="last")(x, train)
        return [*maps[:3], nn.hard_swish(x)]
