"""ResNet with atrous convolution, as in torchvision, and the residual blocks.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; the stride of a bottleneck
block is in its 3x3 convolution ("v1.5"). Beyond the output stride, layers use dilation instead of
stride (Chen et al., "Rethinking Atrous Convolution", 2017, section 3.1), with the same weights.
"""

from __future__ import annotations

import jax
from flax import linen as nn

from dropclass_jax.models.layers import ConvNorm, Layers
from dropclass_jax.ops.fusion import relu_once

# The numbers of bottleneck blocks in the four layers.
ARCHITECTURES = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


class ResNet(nn.Module):
    """The ResNet backbone: images ``[B, H, W, 3]`` to the feature maps of its four layers.

    The maps have strides 4, 8, 16 and 32, limited to ``output_stride``, and 256, 512, 1024 and 2048
    channels.

    Attributes:
      blocks: number of bottleneck blocks in each layer, as in ``ARCHITECTURES``.
      output_stride: the largest stride: 8, 16 or 32.
      layers: makes the convolutions and norms.
    """

    blocks: tuple[int, ...]
    output_stride: int = 32
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> list[jax.Array]:
        layers = self.layers
        x = nn.relu(ConvNorm(layers, 64, 7, stride=2, name="stem")(images, train))
        # [B, H/4, W/4, 64]; padded with -inf, as PyTorch does
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

        maps = []
        total_stride, dilation = 4, 1
        for i, blocks in enumerate(self.blocks):
            stride = 1 if i == 0 else 2
            first_dilation = dilation  # the first block keeps the previous layer's dilation
            if total_stride * stride > self.output_stride:
                stride, dilation = 1, dilation * stride
            total_stride *= stride
            for b in range(blocks):
                block = layers.block(BottleneckBlock)(
                    layers,
                    64 * 2**i,
                    stride=stride if b == 0 else 1,
                    dilation=first_dilation if b == 0 else dilation,
                    name=f"layer{i + 1}_block{b}",
                )
                x = block(x, train)
            maps.append(x)
        return maps


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with an identity shortcut (He et al., 2016); keeps the input's shape."""

    layers: Layers
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers = self.layers
        y = layers.conv(self.features, 3, name="conv1")(x)
        y = nn.relu(layers.norm(name="norm1")(y, train))
        y = layers.conv(self.features, 3, name="conv2")(y)
        y = layers.norm(name="norm2")(y, train)
        return relu_once(y + x)


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut (He et al., 2016).

    ``[B, h, w, C]`` to ``[B, ceil(h / stride), ceil(w / stride), 4 * width]``. The shortcut is the
    identity, or a 1x1 convolution where the shape changes.
    """

    layers: Layers
    width: int
    stride: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        layers, features = self.layers, 4 * self.width
        y = layers.conv(self.width, name="conv1")(x)
        y = nn.relu(layers.norm(name="norm1")(y, train))
        y = layers.conv(self.width, 3, self.stride, dilation=self.dilation, name="conv2")(y)
        y = nn.relu(layers.norm(name="norm2")(y, train))
        y = layers.conv(features, name="conv3")(y)
        y = layers.norm(name="norm3")(y, train)
        if x.shape[-1] != features or self.stride != 1:
            x = ConvNorm(layers, features, stride=self.stride, name="shortcut")(x, train)
        return relu_once(y + x)
