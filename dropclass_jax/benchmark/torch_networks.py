"""The same networks in plain PyTorch, to compare with: HRNet, EfficientNet-Lite0, torchvision's.

HRNet is written from its architecture (``models.hrnet.ARCHITECTURES``) with its authors' names of
parameters, so that ``models.pretrained.load_state_dict`` carries its weights over and a test can
say that both compute the same. Needs PyTorch; ``torchvision`` is asked for by the others alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropclass_jax.benchmark.section import Skipped
from dropclass_jax.benchmark.torch_efficientnet import ConvNorm, EfficientNetLite
from dropclass_jax.models import hrnet


def conv_norm(inputs: int, outputs: int, size: int = 1, stride: int = 1) -> list[nn.Module]:
    """A convolution without bias and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, the number of channels kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(channels, channels, 3)
        self.conv2, self.bn2 = conv_norm(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(inside)) + x, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut; ``4 * width`` channels come out."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(inputs, width)
        self.conv2, self.bn2 = conv_norm(width, width, 3)
        self.conv3, self.bn3 = conv_norm(width, 4 * width)
        self.downsample = nn.Identity()
        if inputs != 4 * width:
            self.downsample = nn.Sequential(*conv_norm(inputs, 4 * width))

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.bn1(self.conv1(x)), inplace=True)
        inside = F.relu(self.bn2(self.conv2(inside)), inplace=True)
        return F.relu(self.bn3(self.conv3(inside)) + self.downsample(x), inplace=True)


class Exchange(nn.Module):
    """Blocks on every branch, then every branch becomes the sum over all of them."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._bring(widths, j, i) for j in range(len(widths)))
            for i in range(len(widths))
        )

    @staticmethod
    def _bring(widths: Sequence[int], j: int, i: int) -> nn.Module:
        """From branch ``j`` to the channels, and if it is finer the size, of branch ``i``."""
        if j == i:
            return nn.Identity()
        if j > i:
            return nn.Sequential(*conv_norm(widths[j], widths[i]))
        halvings = []
        for k in range(i - j):
            last = k == i - j - 1
            layers = conv_norm(widths[j], widths[i] if last else widths[j], 3, stride=2)
            halvings.append(nn.Sequential(*layers, *([] if last else [nn.ReLU(inplace=True)])))
        return nn.Sequential(*halvings)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        deep = [branch(x) for branch, x in zip(self.branches, branches, strict=True)]
        fused = []
        for i, target in enumerate(deep):
            total = None
            for j, x in enumerate(deep):
                term = self.fuse_layers[i][j](x)
                if j > i:
                    term = upsample(term, target.shape[-2:])
                total = term if total is None else total + term
            fused.append(F.relu(total))
        return fused


class HRNet(nn.Module):
    """Images ``[B, 3, H, W]`` to four maps of strides 4, 8, 16 and 32."""

    def __init__(self, architecture: hrnet.Architecture) -> None:
        super().__init__()
        arch = architecture
        self.conv1, self.bn1 = conv_norm(3, 64, 3, stride=2)
        self.conv2, self.bn2 = conv_norm(64, 64, 3, stride=2)
        inputs = [64] + [4 * arch.stage1_width] * (arch.stage1_blocks - 1)
        self.layer1 = nn.Sequential(*(Bottleneck(n, arch.stage1_width) for n in inputs))
        before = [4 * arch.stage1_width]
        for stage, modules in enumerate(arch.modules, start=2):
            widths = [arch.width * 2**i for i in range(stage)]
            setattr(self, f"transition{stage - 1}", self._transition(before, widths))
            exchanges = (Exchange(widths, arch.blocks) for _ in range(modules))
            setattr(self, f"stage{stage}", nn.Sequential(*exchanges))
            before = widths

    @staticmethod
    def _transition(before: Sequence[int], widths: Sequence[int]) -> nn.ModuleList:
        layers = nn.ModuleList()
        for i, width in enumerate(widths):
            if i < len(before) and before[i] == width:
                layers.append(nn.Identity())
            elif i < len(before):
                layers.append(nn.Sequential(*conv_norm(before[i], width, 3), nn.ReLU(inplace=True)))
            else:
                new = conv_norm(before[-1], width, 3, stride=2)
                layers.append(nn.Sequential(nn.Sequential(*new, nn.ReLU(inplace=True))))
        return layers

    def forward(self, images: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        branches = [self.layer1(x)]
        for stage in (2, 3, 4):
            layers = getattr(self, f"transition{stage - 1}")
            inputs = branches + [branches[-1]] * (len(layers) - len(branches))
            branches = [layer(x) for layer, x in zip(layers, inputs, strict=True)]
            branches = getattr(self, f"stage{stage}")(branches)
        return branches


class ConcatHead(nn.Module):
    """All maps at the finest one's size, mixed by a 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.last_layer = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        size = maps[0].shape[-2:]
        return self.last_layer(torch.cat([upsample(x, size) for x in maps], dim=1))


class Segmenter(nn.Module):
    """A backbone, a head, a 1x1 classifier and, if asked for, DropClass.

    Args:
      backbone: images -> maps.
      head: maps -> features ``[B, C, h, w]``.
      channels: C.
      classes: K.
      dropclass: also classify the features without the dropped class.
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module, channels: int, classes: int, dropclass: bool
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self._classifier = nn.Conv2d(channels, classes, 1)
        self.dropclass = dropclass
        if dropclass:
            self.clsdrop_conv1 = nn.Conv2d(channels, channels, 1)
            self.clsdrop_bn1 = nn.BatchNorm2d(channels)

    def forward(self, images: Tensor, keep: Tensor | None = None) -> dict[str, Tensor]:
        """Logits of both heads ``[B, K, h, w]``; ``keep [K]`` is 0 for the dropped class."""
        features = self.head(self.backbone(images))
        outputs = {"logits": self._classifier(features)}
        if self.dropclass:
            kernel = self._classifier.weight[:, :, 0, 0]  # [K, C]: the importance, everywhere
            keep = torch.ones_like(kernel[:, 0]) if keep is None else keep.to(kernel.dtype)
            # relu(S A) summed over the classes, as in dropclass.average_features_shared.
            for_positive = (keep @ F.relu(kernel) / keep.sum())[:, None, None]
            average = F.relu(features) * for_positive
            if not self.features_are_positive:
                for_negative = (keep @ F.relu(-kernel) / keep.sum())[:, None, None]
                average = average + F.relu(-features) * for_negative
            refined = F.relu(self.clsdrop_bn1(self.clsdrop_conv1(average)), inplace=True)
            outputs["logits_drop"] = self._classifier(refined)
        return outputs

    @property
    def features_are_positive(self) -> bool:
        """Whether the head ends in a ReLU, so that half of the average is zero."""
        return not isinstance(self.head, LRASPPHead)


def upsample(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, half-pixel centres."""
    if x.shape[-2:] == torch.Size(size):
        return x
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=False)


def create(name: str, classes: int, dropclass: bool) -> Segmenter:
    """The PyTorch network that is ours of this name.

    Raises:
      Skipped: there is none.
    """
    if name in hrnet.ARCHITECTURES:
        return create_hrnet(hrnet.ARCHITECTURES[name], classes, dropclass)
    if name == "efficientnet_lite0":
        return create_efficientnet_lite(classes, dropclass)
    if name in _TORCHVISION:
        return _from_torchvision(name, classes, dropclass)
    known = ", ".join((*hrnet.ARCHITECTURES, "efficientnet_lite0", *_TORCHVISION))
    raise Skipped(f"there is no PyTorch network to compare with (there is for {known})")


def create_hrnet(architecture: hrnet.Architecture, classes: int, dropclass: bool) -> Segmenter:
    """An HRNet with its usual head."""
    channels = 15 * architecture.width
    return Segmenter(HRNet(architecture), ConcatHead(channels), channels, classes, dropclass)


def create_efficientnet_lite(classes: int, dropclass: bool, width: int = 128) -> Segmenter:
    """EfficientNet-Lite0 to stride 16 with LR-ASPP's head to stride 4, both as by default."""
    backbone = EfficientNetLite()
    head = LRASPPPlusHead(backbone.channels, width)
    return Segmenter(backbone, head, width, classes, dropclass)


class LRASPPPlusHead(nn.Module):
    """``models.heads.LRASPPPlus``: a gated deep map, to which two finer ones are added."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels[-1], width)
        self.gate = nn.Conv2d(channels[-1], width, 1, bias=False)
        self.lateral1, self.lateral0 = ConvNorm(channels[1], width), ConvNorm(channels[0], width)
        self.depthwise = ConvNorm(width, width, 3, groups=width)
        self.pointwise = ConvNorm(width, width)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        deep = maps[-1]
        x = F.relu(self.reduce(deep), inplace=True)
        x = x * self.gate(F.adaptive_avg_pool2d(deep, 1)).sigmoid()
        for fine, mix in ((maps[1], self.lateral1), (maps[0], self.lateral0)):
            x = F.relu(upsample(x, fine.shape[-2:]) + mix(fine), inplace=True)
        x = F.relu(self.depthwise(x), inplace=True)
        return F.relu(self.pointwise(x), inplace=True)


_TORCHVISION = {
    "deeplab_v3_resnet50": "deeplabv3_resnet50",
    "deeplab_v3_resnet101": "deeplabv3_resnet101",
    "deeplab_v3_mobilenet_v3_large": "deeplabv3_mobilenet_v3_large",
    "lr_aspp_mobilenet_v3_large": "lraspp_mobilenet_v3_large",
}


class _Maps(nn.Module):
    """torchvision's backbones return a dict."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.backbone(images).values())


class DeepLabHead(nn.Module):
    """torchvision's DeepLabV3 head without its last 1x1 convolution."""

    def __init__(self, classifier: nn.Sequential) -> None:
        super().__init__()
        self.layers = nn.Sequential(*list(classifier)[:-1])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.layers(maps[-1])


class LRASPPHead(nn.Module):
    """torchvision's LR-ASPP head, its two 1x1 classifiers left to one of both maps together."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.cbr, self.scale = classifier.cbr, classifier.scale

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        fine, deep = maps
        gated = self.cbr(deep) * self.scale(deep)
        return torch.cat([fine, upsample(gated, fine.shape[-2:])], dim=1)


def _from_torchvision(name: str, classes: int, dropclass: bool) -> Segmenter:
    segmentation = _import_torchvision()
    settings = {"weights": None, "weights_backbone": None, "num_classes": classes}
    network = getattr(segmentation, _TORCHVISION[name])(**settings)
    if name.startswith("lr_aspp"):
        head = LRASPPHead(network.classifier)
        channels = sum(
            conv.in_channels
            for conv in (network.classifier.low_classifier, network.classifier.high_classifier)
        )
    else:
        head, channels = DeepLabHead(network.classifier), network.classifier[-1].in_channels
    return Segmenter(_Maps(network.backbone), head, channels, classes, dropclass)


def _import_torchvision() -> ModuleType:
    """``torchvision.models.segmentation``.

    Its import looks for its compiled operators, which detection uses. Those of a torchvision that
    was built for another PyTorch are not there; networks do without, once the two are declared.

    Raises:
      Skipped: it is not installed, or cannot be imported even so.
    """
    try:
        return importlib.import_module(_SEGMENTATION)
    except ImportError as error:
        raise Skipped(
            f"torchvision cannot be imported ({error}): pip install torchvision"
        ) from None
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise Skipped(f"torchvision cannot be imported ({error})") from None
    for name in ("nms", "qnms"):
        _OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module(_SEGMENTATION)


_SEGMENTATION = "torchvision.models.segmentation"
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")  # declarations last as long as it
