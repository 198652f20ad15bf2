"""Makes the golden values of torchvision's and timm's networks that the parity tests read.

Neither the package nor its tests need this file: it documents where the numbers come from. To make
them again, in an environment of its own (PyTorch for CPUs will do):

    pip install torch==2.13.0 torchvision==0.28.0 timm==1.0.31 numpy==2.4.6
    python make_fixtures.py OUTPUT_FOLDER [NAME ...]

One ``<name>_eval.npz`` a network, in evaluation mode, all without pickles:

  meta         JSON: where the network comes from, ``seed``, ``bn_gain``, ``key_scale``; ``inputs``,
               each with its ``rng``, its ``shape`` and the ``outputs``' shapes before any of this
               sampling; ``sampled``, what is kept of each output, as (stop, step) of the slices
               of channels, height and width; ``noise``, by array, how far PyTorch's float32 is
               from its float64.
  keys         names of the state dict, in order, ``num_batches_tracked`` included.
  shapes       JSON: the shapes in the same order.
  param_check  first element and sum of each tensor, [len(keys), 2] (0 for num_batches_tracked).
  in{i}/...    results for the i-th input, NCHW; ``input_check`` is the input's ``param_check``.

An array without suffix is the float32 result of float32 PyTorch; ``*_f64`` is the same network with
the same (float32) weights and input, computed in float64. Logits are kept whole or with strides.
Feature maps are too large: of ``x`` [1, C, H, W] there are ``x[:, ::step, :2, :2]`` and, as
``*_channels``, mean, standard deviation (population) and absolute maximum over H and W of each of
the channels ``[::step]``, [ceil(C / step), 3], taken from the float64 run and rounded to float32.

Weights and inputs are not stored; ``state_dict`` and ``image`` are the rules they follow.
"""

from __future__ import annotations

import argparse
import copy
import json
import pathlib
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import segmentation

SEED = 1
INPUTS = [
    {"rng": [SEED, 1_000_000], "shape": [1, 3, 64, 96]},
    {"rng": [SEED, 1_000_001], "shape": [1, 3, 65, 97]},  # no branch divides evenly
]
CROP = 2
MAX_CHANNELS = 128  # a feature map with more is thinned to about as many
VOC_CLASSES = 21
STRIDES = {  # of the logits that are kept; of feature maps, a crop is
    "out_lowres": (1, 1, 1),
    "aux_lowres": (1, 1, 1),
    "out_stride4": (3, 4, 4),
}

Forward = Callable[[nn.Module, Tensor], dict[str, Tensor]]


class Network(NamedTuple):
    """A network and what to keep of it.

    Attributes:
      library: the module it comes from.
      build: makes it, without pretrained weights.
      forward: ``(model, images)`` to logits or feature maps by name, all ``[1, C, H, W]``.
      bn_gain: scale of every batch norm, which keeps the activations of deep networks near 1.
    """

    library: ModuleType
    build: Callable[[], nn.Module]
    forward: Forward
    bn_gain: float = 1.0


def lraspp_logits(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Logits before and after upsampling."""
    lowres = model.classifier(model.backbone(images))
    return {"out_lowres": lowres, "out_stride4": model(images)["out"]}


def deeplab_logits(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Logits of both heads before upsampling."""
    maps = model.backbone(images)
    return {
        "out_lowres": model.classifier(maps["out"]),
        "aux_lowres": model.aux_classifier(maps["aux"]),
    }


def mobilenet_features(
    blocks: Iterable[nn.Module], taps: tuple[int, ...], images: Tensor
) -> dict[str, Tensor]:
    """Maps after the blocks ``taps``: 0 is the stem, the last one the final 1x1 convolution."""
    maps, x = {}, images
    for i, block in enumerate(blocks):
        x = block(x)
        if i in taps:
            maps[f"features{i}"] = x
    return maps


def torchvision_mobilenet(*taps: int) -> Forward:
    return lambda model, images: mobilenet_features(model.features, taps, images)


def timm_mobilenet(*taps: int) -> Forward:
    """The same points as torchvision's: timm groups the blocks into stages, in the same order."""

    def forward(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
        stem = nn.Sequential(model.conv_stem, model.bn1)  # timm's bn1 includes the activation
        return mobilenet_features([stem, *(b for s in model.blocks for b in s)], taps, images)

    return forward


def resnet_features(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Every stage's map, and the last one's at output strides 16 and 8 from the same weights."""

    def stages(net: nn.Module) -> dict[str, Tensor]:
        maps, x = {}, net.maxpool(net.relu(net.bn1(net.conv1(images))))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            maps[name] = x = getattr(net, name)(x)
        return maps

    maps = stages(model)
    for stride, dilated in ((16, [False, False, True]), (8, [False, True, True])):
        twin = torchvision.models.resnet50(replace_stride_with_dilation=dilated)
        twin.load_state_dict(model.state_dict())
        maps[f"layer4_os{stride}"] = stages(twin.eval().to(images.dtype))["layer4"]
    return maps


def hrnet_features(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The four branches after stage 4, with bilinear and with timm's upsampling between branches.

    timm upsamples as the classification networks do, by integer factors and nearest neighbours,
    which wants sides that divide by 32. The segmentation networks take the same weights and resize
    to the size of the finer branch, bilinearly, with half-pixel centres.
    """

    def branches(net: nn.Module) -> list[Tensor]:
        x = net.act1(net.bn1(net.conv1(images)))
        return net.stages(net.act2(net.bn2(net.conv2(x))))

    maps = {f"branch{i}": x for i, x in enumerate(branches(bilinear(model)))}
    if all(side % 32 == 0 for side in images.shape[2:]):
        maps |= {f"branch{i}_nearest": x for i, x in enumerate(branches(model))}
    return maps


def bilinear(model: nn.Module) -> nn.Module:
    """A copy of a timm HRNet whose exchange modules resize bilinearly to the target's size."""

    class Resize(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.interpolate(x, self.size, mode="bilinear", align_corners=False)

    def set_sizes(module: nn.Module, inputs: tuple[list[Tensor]]) -> None:
        for row, target in zip(module.fuse_layers, inputs[0], strict=True):
            for layer in row.modules():
                if isinstance(layer, Resize):
                    layer.size = target.shape[2:]

    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, timm.models.hrnet.HighResolutionModule):
            module.register_forward_pre_hook(set_sizes)
            for row in module.fuse_layers:
                for path in row:
                    if isinstance(path, nn.Sequential) and isinstance(path[-1], nn.Upsample):
                        path[-1] = Resize()
    return model


def segmenter(build: Callable[..., nn.Module], **kwargs: Any) -> Callable[[], nn.Module]:
    return lambda: build(weights=None, weights_backbone=None, num_classes=VOC_CLASSES, **kwargs)


def from_timm(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False)


NETWORKS = {
    "lraspp_mobilenet_v3_large": Network(
        torchvision, segmenter(segmentation.lraspp_mobilenet_v3_large), lraspp_logits
    ),
    "deeplabv3_resnet101": Network(
        torchvision,
        segmenter(segmentation.deeplabv3_resnet101, aux_loss=True),
        deeplab_logits,
        bn_gain=0.8,
    ),
    "deeplabv3_mobilenet_v3_large_aux": Network(
        torchvision,
        segmenter(segmentation.deeplabv3_mobilenet_v3_large, aux_loss=True),
        deeplab_logits,
    ),
    "mobilenet_v3_small": Network(
        torchvision,
        torchvision.models.mobilenet_v3_small,
        torchvision_mobilenet(1, 2, 4, 9, 12),
    ),
    "mobilenet_v3_large": Network(
        torchvision,
        torchvision.models.mobilenet_v3_large,
        torchvision_mobilenet(2, 4, 7, 13, 16),
    ),
    "resnet50": Network(torchvision, torchvision.models.resnet50, resnet_features, bn_gain=0.8),
    "timm_mobilenetv3_small_100": Network(
        timm, from_timm("mobilenetv3_small_100"), timm_mobilenet(1, 2, 4, 9, 12)
    ),
    "timm_mobilenetv3_large_100": Network(
        timm, from_timm("mobilenetv3_large_100"), timm_mobilenet(2, 4, 7, 13, 16)
    ),
} | {
    f"timm_{name}": Network(timm, from_timm(name), hrnet_features, bn_gain=bn_gain)
    for name, bn_gain in {
        "hrnet_w18_small": 0.8,
        "hrnet_w18_small_v2": 0.6,
        "hrnet_w18": 0.6,
        "hrnet_w32": 0.6,
        "hrnet_w48": 0.6,
    }.items()
}
SOURCES = {torchvision: "pytorch/vision", timm: "huggingface/pytorch-image-models"}


def state_dict(model: nn.Module, bn_gain: float) -> dict[str, np.ndarray]:
    """Weights from seeds: drawn in float64 by their place in the state dict, rounded to float32."""
    values, state = {}, model.state_dict()
    for i, (key, tensor) in enumerate(state.items()):
        stem, _, leaf = key.rpartition(".")
        shape = tuple(tensor.shape)
        draw = np.random.default_rng([SEED, i]).standard_normal(shape)
        if leaf == "num_batches_tracked":
            values[key] = np.zeros((), np.int64)
            continue
        if len(shape) > 1:  # convolutions and linear layers
            value = draw * np.sqrt(2.0 / np.prod(shape[1:]))
        elif leaf == "running_var":
            value = 1.0 + 0.2 * np.abs(draw)
        elif leaf == "weight":
            assert f"{stem}.running_var" in state, f"{key} is no batch norm's scale"
            value = bn_gain * (1.0 + 0.1 * draw)
        else:
            assert leaf in ("running_mean", "bias"), key
            value = 0.1 * draw
        values[key] = value.astype(np.float32)
    return values


def image(rng: list[int], shape: list[int]) -> np.ndarray:
    """A float32 input, NCHW."""
    return np.random.default_rng(rng).standard_normal(shape).astype(np.float32)


def check(value: np.ndarray) -> list[float]:
    """First element and sum, in float64."""
    value = value.astype(np.float64)
    return [value.flat[0], value.sum()]


def channel_statistics(x: np.ndarray) -> np.ndarray:
    """Mean, population standard deviation and absolute maximum by channel, ``[C, 3]``."""
    axes = (0, 2, 3)
    return np.stack([x.mean(axes), x.std(axes), np.abs(x).max(axes)], axis=-1)


@torch.inference_mode()
def run(
    network: Network, model: nn.Module, images: np.ndarray, dtype: torch.dtype
) -> dict[str, np.ndarray]:
    """The network's outputs in ``dtype``, NumPy arrays by name."""
    outputs = network.forward(model.to(dtype).eval(), torch.from_numpy(images).to(dtype))
    return {name: value.numpy().copy() for name, value in outputs.items()}


def make(name: str, network: Network) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of one file, and its ``meta``."""
    model = network.build()
    weights = state_dict(model, network.bn_gain)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})

    version = network.library.__version__.split("+")[0]
    meta = {
        "model": name,
        "source": {"repo": SOURCES[network.library], "version": version},
        "seed": SEED,
        "bn_gain": network.bn_gain,
        "key_scale": {},
        "inputs": [],
        "sampled": {},
        "noise": {},
        "torch": torch.__version__.split("+")[0],
        "numpy": np.__version__,
        "layout": "NCHW activations, OIHW conv weights",
    }
    arrays = {
        "keys": np.array(list(weights)),
        "shapes": np.array(json.dumps([list(value.shape) for value in weights.values()])),
        "param_check": np.array([check(value) for value in weights.values()]),
    }
    for i, spec in enumerate(INPUTS):
        images = image(**spec)
        arrays[f"in{i}/input_check"] = np.array(check(images))
        singles = run(network, model, images, torch.float32)
        doubles = run(network, model, images, torch.float64)
        shapes = {output: list(value.shape) for output, value in singles.items()}
        meta["inputs"].append({**spec, "outputs": shapes})

        for output, single in singles.items():
            key, double = f"in{i}/{output}", doubles[output]
            if output in STRIDES:
                kept = [(None, step) for step in STRIDES[output]]
            else:
                step = max(1, single.shape[1] // MAX_CHANNELS)
                kept = [(None, step), (CROP, 1), (CROP, 1)]
                statistics = channel_statistics(double[:, ::step])
                arrays[f"{key}_channels"] = statistics.astype(np.float32)
            meta["sampled"][output] = kept
            slices = (slice(None), *(slice(None, stop, step) for stop, step in kept))
            single, double = single[slices], double[slices]
            arrays[key], arrays[f"{key}_f64"] = single, double
            meta["noise"][key] = {
                "max_abs_diff_f32_f64": float(np.abs(single - double).max()),
                "max_abs": float(np.abs(double).max()),
                "rms": float(np.sqrt(np.mean(double**2))),
            }
    return arrays, meta


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NETWORKS)}")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.names or NETWORKS:
        path = args.folder / f"{name}_eval.npz"
        arrays, meta = make(name, NETWORKS[name])
        np.savez_compressed(path, meta=np.array(json.dumps(meta)), **arrays)
        noise = max(n["max_abs_diff_f32_f64"] / n["max_abs"] for n in meta["noise"].values())
        rms = [n["rms"] for n in meta["noise"].values()]
        size = path.stat().st_size / 1000
        print(f"{path.name}: {size:.0f} kB, rms {min(rms):.2g}..{max(rms):.2g}, noise {noise:.1e}")


if __name__ == "__main__":
    main()
