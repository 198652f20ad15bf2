"""HRNet: high-resolution representations for semantic segmentation.

Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020
(arXiv 1908.07919). Branches of strides 4, 8, 16 and 32 run in parallel and exchange their feature
maps after every module. (The neck of HRNetV2, which concatenates all of them at stride 4, is
``heads.Concat``.)
"""

from __future__ import annotations

import dataclasses

import jax
from flax import linen as nn

from dropclass_jax.models.layers import ConvNorm, Layers
from dropclass_jax.models.resnet import BasicBlock, BottleneckBlock
from dropclass_jax.ops.fusion import relu_once
from dropclass_jax.ops.resize import resize_bilinear


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The hyperparameters of an HRNet.

    Attributes:
      width: channels of the finest branch; each coarser branch has twice as many.
      stage1_blocks, stage1_width: bottleneck blocks of the first stage and their inner channels.
      modules: exchange modules in stages 2, 3 and 4, which have 2, 3 and 4 branches.
      blocks: basic blocks per branch in every module.
    """

    width: int
    stage1_blocks: int
    stage1_width: int
    modules: tuple[int, int, int]
    blocks: int


ARCHITECTURES = {
    "hrnet_w18_small_v1": Architecture(
        width=16, stage1_blocks=1, stage1_width=32, modules=(1, 1, 1), blocks=2
    ),
    "hrnet_w18_small_v2": Architecture(
        width=18, stage1_blocks=2, stage1_width=64, modules=(1, 3, 2), blocks=2
    ),
    **{
        f"hrnet_w{width}": Architecture(
            width=width, stage1_blocks=4, stage1_width=64, modules=(1, 4, 3), blocks=4
        )
        for width in (18, 32, 48)
    },
}


class HRNet(nn.Module):
    """The HRNet backbone: images ``[B, H, W, 3]`` to four feature maps of strides 4, 8, 16 and 32.

    The map of branch i is ``[B, ceil(H / s), ceil(W / s), width * 2^i]``, where s is its stride.

    Attributes:
      architecture: the hyperparameters, as in ``ARCHITECTURES``.
      layers: makes the convolutions and norms.
    """

    architecture: Architecture
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> list[jax.Array]:
        arch, layers = self.architecture, self.layers

        x = images
        for i in (1, 2):  # [B, H, W, 3] -> [B, H/4, W/4, 64]
            x = nn.relu(ConvNorm(layers, 64, 3, stride=2, name=f"stem{i}")(x, train))
        for i in range(arch.stage1_blocks):  # -> [B, H/4, W/4, 4 * stage1_width]
            block = layers.block(BottleneckBlock)
            x = block(layers, arch.stage1_width, name=f"stage1_block{i}")(x, train)

        branches = [x]  # branch i: [B, H / (4 * 2^i), W / (4 * 2^i), width * 2^i]
        for stage, modules in enumerate(arch.modules, start=2):
            widths = [arch.width * 2**i for i in range(stage)]
            branches = self._transition(branches, widths, f"transition{stage - 1}", train)
            for i in range(modules):
                module = layers.block(ExchangeModule)
                branches = module(layers, arch.blocks, name=f"stage{stage}_module{i}")(
                    branches, train
                )
        return branches

    def _transition(
        self, branches: list[jax.Array], widths: list[int], name: str, train: bool
    ) -> list[jax.Array]:
        """Changes the channels to ``widths`` and adds a branch of twice the largest stride."""
        fitted = []
        for i, (branch, width) in enumerate(zip(branches, widths[:-1], strict=True)):
            if branch.shape[-1] != width:
                conv = ConvNorm(self.layers, width, 3, name=f"{name}_branch{i}")
                branch = nn.relu(conv(branch, train))
            fitted.append(branch)
        conv = ConvNorm(self.layers, widths[-1], 3, stride=2, name=f"{name}_new{len(branches)}")
        return [*fitted, nn.relu(conv(branches[-1], train))]


class ExchangeModule(nn.Module):
    """Residual blocks on every branch, followed by fusion: each branch becomes the sum of all.

    ``fuse_{j}to{i}`` maps branch ``j`` to the shape of branch ``i``: a coarser one by a 1x1
    convolution and upsampling, a finer one by ``i - j`` 3x3 convolutions of stride 2.

    Attributes:
      layers: makes the convolutions and norms.
      blocks: basic blocks per branch.
    """

    layers: Layers
    blocks: int

    @nn.compact
    def __call__(self, branches: list[jax.Array], train: bool) -> list[jax.Array]:
        """Keeps the shape of every branch."""
        deep = []
        for i, x in enumerate(branches):
            for b in range(self.blocks):
                x = BasicBlock(self.layers, x.shape[-1], name=f"branch{i}_block{b}")(x, train)
            deep.append(x)

        fused = []
        for i, target in enumerate(deep):
            # Summed from the finest branch on, so that float32 rounds as in the reference code.
            terms = [self._bring(x, j, i, target.shape, train) for j, x in enumerate(deep)]
            fused.append(relu_once(sum(terms[1:], start=terms[0])))
        return fused

    def _bring(
        self, x: jax.Array, j: int, i: int, shape: tuple[int, ...], train: bool
    ) -> jax.Array:
        """Maps ``x`` of branch ``j`` to the shape of branch ``i``, ``[B, h, w, c]``."""
        _, height, width, channels = shape
        if j == i:
            return x
        if j > i:
            x = ConvNorm(self.layers, channels, name=f"fuse_{j}to{i}")(x, train)
            return resize_bilinear(x, (height, width))
        for k in range(i - j):
            last = k == i - j - 1
            features = channels if last else x.shape[-1]
            conv = ConvNorm(self.layers, features, 3, stride=2, name=f"fuse_{j}to{i}_down{k}")
            x = conv(x, train)
            if not last:
                x = nn.relu(x)
        return x
