"""Segmentation heads: from a backbone's feature maps to the features of the 1x1 classifier.

Each takes ``(maps, train)``, four maps from the finest to the deepest (see ``models.BACKBONES``),
and returns features ``[B, h, w, C]``, on which DropClass operates. The classifier is not part of
the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from dropclass_jax.models.layers import ConvNorm, Dropout, Layers, global_mean
from dropclass_jax.ops.resize import resize_bilinear


class Concat(nn.Module):
    """HRNetV2's neck: all maps upsampled to the finest, concatenated, then a 1x1 convolution.

    Wang et al., TPAMI 2020, section 3.3. C is the sum of the maps' channels.
    """

    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        size = maps[0].shape[1:3]
        x = jnp.concatenate([resize_bilinear(x, size) for x in maps], axis=-1)
        return nn.relu(ConvNorm(self.layers, x.shape[-1], use_bias=True, name="neck")(x, train))


class DeepLabV3(nn.Module):
    """Atrous spatial pyramid pooling over the deepest map, then a 3x3 convolution: 256 features.

    Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, section 3.3,
    as in torchvision.

    Attributes:
      layers: makes the convolutions and norms.
      rates: dilations of the 3x3 convolutions. torchvision uses the default at every output stride;
        the paper halves it at output stride 16.
      dropout: dropout rate of the projected features; the default is torchvision's.
    """

    layers: Layers = Layers()
    rates: tuple[int, ...] = (12, 24, 36)
    dropout: float = 0.5

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        layers, x = self.layers, maps[-1]
        pyramid = [nn.relu(ConvNorm(layers, 256, name="aspp0")(x, train))]
        for i, rate in enumerate(self.rates, start=1):
            conv = ConvNorm(layers, 256, 3, dilation=rate, name=f"aspp{i}")
            pyramid.append(nn.relu(conv(x, train)))
        pooled = global_mean(x)  # [B, 1, 1, C]
        pooled = nn.relu(ConvNorm(layers, 256, name="aspp_pooled")(pooled, train))
        pyramid.append(jnp.broadcast_to(pooled, pyramid[0].shape))

        x = jnp.concatenate(pyramid, axis=-1)  # [B, h, w, 256 * (len(rates) + 2)]
        x = nn.relu(ConvNorm(layers, 256, name="project")(x, train))
        x = Dropout(self.dropout, layers.axis_name, name="dropout")(x, train)
        return nn.relu(ConvNorm(layers, 256, 3, name="mix")(x, train))


class LRASPP(nn.Module):
    """LR-ASPP, the light head of MobileNetV3: the features of two levels, concatenated at stride 8.

    Howard et al., "Searching for MobileNetV3", 2019, section 6.4, as in torchvision: the deepest
    map, reduced to 128 channels and gated by its own global mean, is concatenated to the unchanged
    map of stride 8. The paper applies a 1x1 classifier to each and adds the logits, which equals
    one 1x1 classifier of the concatenation.
    """

    layers: Layers = Layers()

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        fine, deep = maps[1], maps[-1]
        x = nn.relu(ConvNorm(self.layers, 128, name="reduce")(deep, train))
        x *= nn.sigmoid(self.layers.conv(128, name="gate")(global_mean(deep)))
        return jnp.concatenate([fine, resize_bilinear(x, fine.shape[1:3])], axis=-1)


class LRASPPPlus(nn.Module):
    """LR-ASPP with a decoder to stride 4, for thin and small objects: 128 features by default.

    It extends LR-ASPP as DeepLabV3+ extends DeepLabV3 (Chen et al., ECCV 2018, section 3.1): the
    gated deep map is upsampled and merged with finer maps, and a convolution mixes them. It costs
    little: finer maps are added after a 1x1 convolution, as in a feature pyramid (Lin et al., CVPR
    2017), and the mixing convolution is depthwise separable.

    Attributes:
      layers: makes the convolutions and norms.
      width: C, channels of the features.
    """

    layers: Layers = Layers()
    width: int = 128

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        layers, width = self.layers, self.width
        *fine, deep = maps
        x = nn.relu(ConvNorm(layers, width, name="reduce")(deep, train))
        x *= nn.sigmoid(layers.conv(width, name="gate")(global_mean(deep)))
        for level in (1, 0):  # strides 8 and 4
            lateral = ConvNorm(layers, width, name=f"lateral{level}")(fine[level], train)
            x = nn.relu(resize_bilinear(x, lateral.shape[1:3]) + lateral)
        x = nn.relu(ConvNorm(layers, width, 3, groups=width, name="depthwise")(x, train))
        return nn.relu(ConvNorm(layers, width, name="pointwise")(x, train))


class Auxiliary(nn.Module):
    """An auxiliary classifier on an intermediate map of a backbone, as torchvision's FCN head.

    Attributes:
      num_classes: K.
      layers: makes the convolutions and norms.
      dropout: dropout rate of its features; the default is torchvision's.
    """

    num_classes: int
    layers: Layers = Layers()
    dropout: float = 0.1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """``[B, h, w, C]`` to ``[B, h, w, K]``."""
        x = nn.relu(ConvNorm(self.layers, x.shape[-1] // 4, 3, name="mix")(x, train))
        x = Dropout(self.dropout, self.layers.axis_name, name="dropout")(x, train)
        return self.layers.conv(self.num_classes, use_bias=True, name="classifier")(x)
