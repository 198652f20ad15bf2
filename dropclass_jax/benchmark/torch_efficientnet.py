"""EfficientNet-Lite0 in plain PyTorch, module by module as ``models.efficientnet_lite`` has it.

Modules have the names of ours. TensorFlow's padding is what ``F.pad`` and an unpadded convolution
compute, as in timm. Needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dropclass_jax.models.efficientnet_lite import BLOCKS, EPSILON
from dropclass_jax.models.inverted_residual import Block, dilated

STEM = 32  # channels
OUTPUT_STRIDE = 16


class Conv(nn.Conv2d):
    """A convolution without bias; with a stride it is padded as TensorFlow does."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int, dilation: int, groups: int
    ) -> None:
        padding = dilation * (size // 2) if stride == 1 else 0
        super().__init__(inputs, outputs, size, stride, padding, dilation, groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        (size, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            sides: list[int] = []
            for length in (x.shape[3], x.shape[2]):  # F.pad begins with the last axis
                total = max((-(-length // stride) - 1) * stride + size - length, 0)
                sides += [total // 2, total - total // 2]
            x = F.pad(x, sides)
        return super().forward(x)


class ConvNorm(nn.Module):
    """A convolution and its batch norm."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = Conv(inputs, outputs, size, stride, dilation, groups)
        self.norm = nn.BatchNorm2d(outputs, eps=epsilon)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class InvertedResidual(nn.Module):
    """A block: widen, depthwise convolution, narrow; plus its input where both are alike."""

    def __init__(self, inputs: int, block: Block, dilation: int) -> None:
        super().__init__()
        wide = block.expanded
        self.expand = None if wide == inputs else ConvNorm(inputs, wide, epsilon=EPSILON)
        self.depthwise = ConvNorm(
            wide, wide, block.kernel_size, block.stride, dilation, groups=wide, epsilon=EPSILON
        )
        self.project = ConvNorm(wide, block.features, epsilon=EPSILON)
        self.residual = (block.stride, block.features) == (1, inputs)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expand is not None:
            y = F.relu6(self.expand(y), inplace=True)
        y = F.relu6(self.depthwise(y), inplace=True)
        y = self.project(y)
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """Images ``[B, 3, H, W]`` to four maps of strides 4, 8, 16 and 16."""

    channels = (24, 40, 112, 320)

    def __init__(self, blocks: Sequence[Block] = BLOCKS) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM, 3, stride=2, epsilon=EPSILON)
        self.ends = []  # the blocks whose outputs are the maps
        inputs = STEM
        strided = dilated(blocks, OUTPUT_STRIDE, stride=2, dilate_first=False)
        for i, (block, dilation) in enumerate(strided):
            setattr(self, f"block{i}", InvertedResidual(inputs, block, dilation))
            inputs = block.features
            if blocks[i].stride > 1:
                self.ends.append(i - 1)
        self.ends = [*self.ends[1:], len(blocks) - 1]

    def forward(self, images: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(images), inplace=True)
        maps = []
        for i in range(self.ends[-1] + 1):
            x = getattr(self, f"block{i}")(x)
            if i in self.ends:
                maps.append(x)
        return maps
