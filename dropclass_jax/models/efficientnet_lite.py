"""EfficientNet-Lite0: a MobileNet-class network without squeeze-and-excitation.

Tan and Le, "EfficientNet", ICML 2019, in the form that TensorFlow's authors made for telephones
(tensorflow/tpu, ``models/official/efficientnet/lite``): ReLU6 in place of swish. Its ImageNet
weights are to be had in PyTorch's form; they want TensorFlow's padding and norm, and images
normalised in their own way (see ``models.Backbone.normalization``).
"""

from __future__ import annotations

import dataclasses

import jax
from flax import linen as nn

from dropclass_jax.models.inverted_residual import Block, InvertedResidual, dilated
from dropclass_jax.models.layers import ConvNorm, Layers


def _stage(
    blocks: int, kernel_size: int, width: int, features: int, stride: int, expansion: int = 6
) -> tuple[Block, ...]:
    """So many blocks of the same width, of which the first is given ``width`` and strides."""
    first = Block(kernel_size, expansion * width, features, nn.relu6, stride=stride)
    return first, *(first._replace(expanded=expansion * features, stride=1),) * (blocks - 1)


# Table 1 of the paper; Lite0 keeps the stem of 32 channels.
BLOCKS = (
    *_stage(1, 3, 32, 16, stride=1, expansion=1),
    *_stage(2, 3, 16, 24, stride=2),
    *_stage(2, 5, 24, 40, stride=2),
    *_stage(3, 3, 40, 80, stride=2),
    *_stage(3, 5, 80, 112, stride=1),
    *_stage(4, 5, 112, 192, stride=2),
    *_stage(1, 3, 192, 320, stride=1),
)

# Of every norm in the backbone.
EPSILON = 1e-3


class EfficientNetLite(nn.Module):
    """Images ``[B, H, W, 3]`` to four maps of strides 4, 8, 16 and 32.

    They are what the last block of each stride gives, of both signs: 24, 40, 112 and 320 channels.
    None has a stride above ``output_stride``. The 1x1 convolution to 1280 channels that ImageNet's
    classifier reads is left out: most of what a head would pay for, and of no use to it.

    Padding is TensorFlow's, so that an even side is sampled half a pixel further down and right
    than an odd one: train and predict at sides that halve alike.

    Attributes:
      blocks: ``BLOCKS`` or others with four strides of 2 after the stem's.
      output_stride: the largest stride: 8, 16 or 32.
      dilate_first: see ``inverted_residual.dilated``.
      layers: makes the convolutions and norms; their epsilon and padding are not used.
    """

    blocks: tuple[Block, ...] = BLOCKS
    output_stride: int = 32
    dilate_first: bool = False
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> list[jax.Array]:
        layers = dataclasses.replace(self.layers, epsilon=EPSILON, padding="same")
        # [B, H/2, W/2, 32]
        x = nn.relu6(ConvNorm(layers, 32, 3, stride=2, name="stem")(images, train))

        residual = layers.block(InvertedResidual)
        blocks = dilated(self.blocks, self.output_stride, stride=2, dilate_first=self.dilate_first)
        maps = []
        for i, (block, dilation) in enumerate(blocks):
            if self.blocks[i].stride > 1:
                maps.append(x)  # what the stride before ended with
            x = residual(layers, block, dilation, name=f"block{i}")(x, train)
        return [*maps[1:], x]
