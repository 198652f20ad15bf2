"""Names of our networks' modules in PyTorch checkpoints.

Each row of the table is a Flax module path, followed by the names of the same module in the
checkpoints of torchvision, timm, HRNet's authors or DropClass's authors. ``{x}`` stands for the
same number on both sides. A row applies to every model that has the module, so the table need not
say which network it belongs to.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flax import traverse_util

Path = tuple[str, ...]

_NORM_LEAVES = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
_KERNEL_LEAVES = {"weight": ("params", "kernel"), "bias": ("params", "bias")}

# The final 1x1 convolution in the code of DropClass's authors, of HRNet's authors, in torchvision's
# DeepLabV3 and in its LR-ASPP, whose two classifiers ``pretrained`` merges under this name.
CLASSIFIERS = ("_classifier", "last_layer.3", "classifier.4", "classifier.low_high")

_NAMES = (
    # HRNet's authors; timm and DropClass's authors use the same names.
    ("backbone/stem{i}/conv", "conv{i}"),
    ("backbone/stem{i}/norm", "bn{i}"),
    ("backbone/stage1_block{b}/conv{i}", "layer1.{b}.conv{i}"),
    ("backbone/stage1_block{b}/norm{i}", "layer1.{b}.bn{i}"),
    ("backbone/stage1_block{b}/shortcut/conv", "layer1.{b}.downsample.0"),
    ("backbone/stage1_block{b}/shortcut/norm", "layer1.{b}.downsample.1"),
    ("backbone/transition{s}_branch{i}/conv", "transition{s}.{i}.0"),
    ("backbone/transition{s}_branch{i}/norm", "transition{s}.{i}.1"),
    ("backbone/transition{s}_new{i}/conv", "transition{s}.{i}.0.0"),
    ("backbone/transition{s}_new{i}/norm", "transition{s}.{i}.0.1"),
    (
        "backbone/stage{s}_module{m}/branch{i}_block{b}/conv{c}",
        "stage{s}.{m}.branches.{i}.{b}.conv{c}",
    ),
    (
        "backbone/stage{s}_module{m}/branch{i}_block{b}/norm{c}",
        "stage{s}.{m}.branches.{i}.{b}.bn{c}",
    ),
    ("backbone/stage{s}_module{m}/fuse_{j}to{i}/conv", "stage{s}.{m}.fuse_layers.{i}.{j}.0"),
    ("backbone/stage{s}_module{m}/fuse_{j}to{i}/norm", "stage{s}.{m}.fuse_layers.{i}.{j}.1"),
    (
        "backbone/stage{s}_module{m}/fuse_{j}to{i}_down{k}/conv",
        "stage{s}.{m}.fuse_layers.{i}.{j}.{k}.0",
    ),
    (
        "backbone/stage{s}_module{m}/fuse_{j}to{i}_down{k}/norm",
        "stage{s}.{m}.fuse_layers.{i}.{j}.{k}.1",
    ),
    # ResNet: torchvision and timm. MobileNetV3 and EfficientNet: timm, torchvision (which numbers
    # the modules), and EfficientNet-PyTorch.
    ("backbone/stem/conv", "conv1", "conv_stem", "0.0", "_conv_stem"),
    ("backbone/stem/norm", "bn1", "0.1", "_bn0"),
    ("backbone/block{n}/expand/conv", "_blocks.{n}._expand_conv"),
    ("backbone/block{n}/expand/norm", "_blocks.{n}._bn0"),
    ("backbone/block{n}/depthwise/conv", "_blocks.{n}._depthwise_conv"),
    ("backbone/block{n}/depthwise/norm", "_blocks.{n}._bn1"),
    ("backbone/block{n}/project/conv", "_blocks.{n}._project_conv"),
    ("backbone/block{n}/project/norm", "_blocks.{n}._bn2"),
    ("backbone/layer{s}_block{b}/conv{i}", "layer{s}.{b}.conv{i}"),
    ("backbone/layer{s}_block{b}/norm{i}", "layer{s}.{b}.bn{i}"),
    ("backbone/layer{s}_block{b}/shortcut/conv", "layer{s}.{b}.downsample.0"),
    ("backbone/layer{s}_block{b}/shortcut/norm", "layer{s}.{b}.downsample.1"),
    # Heads: HRNet's and DropClass's authors, then torchvision.
    ("head/neck/conv", "last_layer.0"),
    ("head/neck/norm", "last_layer.1"),
    ("head/aspp{i}/conv", "classifier.0.convs.{i}.0"),
    ("head/aspp{i}/norm", "classifier.0.convs.{i}.1"),
    ("head/aspp_pooled/conv", "classifier.0.convs.4.1"),
    ("head/aspp_pooled/norm", "classifier.0.convs.4.2"),
    ("head/project/conv", "classifier.0.project.0"),
    ("head/project/norm", "classifier.0.project.1"),
    ("head/mix/conv", "classifier.1"),
    ("head/mix/norm", "classifier.2"),
    ("head/reduce/conv", "classifier.cbr.0"),
    ("head/reduce/norm", "classifier.cbr.1"),
    ("head/gate", "classifier.scale.1"),
    ("auxiliary_head/mix/conv", "aux_classifier.0"),
    ("auxiliary_head/mix/norm", "aux_classifier.1"),
    ("auxiliary_head/classifier", "aux_classifier.4"),
    ("classifier", *CLASSIFIERS),
    ("refine/conv", "clsdrop_conv1"),
    ("refine/norm", "clsdrop_bn1"),
)


def strip_prefix(key: str) -> str:
    """A key without the prefixes that wrappers and torchvision's networks add.

    >>> strip_prefix("module.backbone.layer1.0.conv1.weight")
    'layer1.0.conv1.weight'
    """
    return re.sub(r"^((module|model|backbone|features)\.)+", "", key)


def torch_keys(variables: Mapping[str, Any]) -> dict[str, Path]:
    """Map all PyTorch keys that a model's leaves may have to the paths of the leaves.

    Args:
      variables: ``{"params": ..., "batch_stats": ...}`` of a model, or only one of the two.

    Returns:
      ``{key: (collection, ..., name)}``, with keys without prefix. Several keys may map to one
      leaf; a file holds one of them.
    """
    flat = traverse_util.flatten_dict(variables)
    keys = {}
    modules = dict.fromkeys("/".join(path[1:-1]) for path in flat)
    for module, name in [*_from_table(modules), *_inverted_residuals(flat, modules)]:
        path = tuple(module.split("/"))
        leaves = _NORM_LEAVES if path[-1].startswith("norm") else _KERNEL_LEAVES
        for leaf, (collection, flax_leaf) in leaves.items():
            if (full := (collection, *path, flax_leaf)) in flat:
                keys[f"{name}.{leaf}"] = full
    return keys


def _from_table(modules: Iterable[str]) -> Iterator[tuple[str, str]]:
    """``(flax module, PyTorch module)`` of all modules in the table."""
    for module in modules:
        for flax_template, *torch_templates in _NAMES:
            if match := _pattern(flax_template).fullmatch(module):
                for template in torch_templates:
                    yield module, template.format(**match.groupdict())


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w)\\}", r"(?P<\1>\\d+)", re.escape(template)))


def _inverted_residuals(
    flat: Mapping[Path, Any], modules: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """``(flax module, PyTorch module)`` of the blocks of MobileNetV3 and EfficientNet.

    torchvision numbers the parts that a block has in order. timm names the parts of a block with
    and without ``expand`` differently, and groups consecutive blocks of the same width into stages.
    """
    count = 0
    stage, stage_width, place = -1, 0, 0
    while f"backbone/block{count}/depthwise/conv" in modules:
        block = f"backbone/block{count}"
        width = flat["params", "backbone", f"block{count}", "project", "conv", "kernel"].shape[-1]
        stage, place = (stage, place + 1) if width == stage_width else (stage + 1, 0)
        stage_width = width
        convs = [p for p in ("expand", "depthwise", "project") if f"{block}/{p}/conv" in modules]
        squeezed = [f"{block}/squeeze"] if f"{block}/squeeze/reduce" in modules else []

        parts = [f"{block}/{part}" for part in convs]
        parts[-1:-1] = squeezed  # before project
        for i, part in enumerate(parts):
            name = f"{count + 1}.block.{i}"
            if part in squeezed:
                yield f"{part}/reduce", f"{name}.fc1"
                yield f"{part}/restore", f"{name}.fc2"
            else:
                yield f"{part}/conv", f"{name}.0"
                yield f"{part}/norm", f"{name}.1"

        name = f"blocks.{stage}.{place}"
        timm = ("conv_pw", "conv_dw", "conv_pwl") if len(convs) == 3 else ("conv_dw", "conv_pw")
        for i, (part, conv) in enumerate(zip(convs, timm, strict=True), start=1):
            yield f"{block}/{part}/conv", f"{name}.{conv}"
            yield f"{block}/{part}/norm", f"{name}.bn{i}"
        for part in squeezed:
            yield f"{part}/reduce", f"{name}.se.conv_reduce"
            yield f"{part}/restore", f"{name}.se.conv_expand"
        count += 1
    if count:
        for last, (conv, norm) in {
            f"{count + 1}": "01",
            f"blocks.{stage + 1}.0": ("conv", "bn1"),
        }.items():
            yield "backbone/last/conv", f"{last}.{conv}"
            yield "backbone/last/norm", f"{last}.{norm}"
