"""Backbones and heads against torchvision and timm: the same weights, inputs and numbers.

The weights come in under the names of the file they stand for, so that a test of a network is also
one of how such a file is loaded.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dropclass_jax import models
from dropclass_jax.models import pretrained
from dropclass_jax.ops.resize import resize_bilinear

TOLERANCE = {"float32": 1e-5, "float64": 1e-9}

# fixture: (network, its options, the map of ours behind each of the fixture's names)
BACKBONES = {
    "resnet50": ("resnet50", {"output_stride": 32}, {f"layer{i + 1}": i for i in range(4)}),
    "mobilenet_v3_large": (
        "mobilenet_v3_large",
        {"output_stride": 32},
        {"features2": 0, "features4": 1, "features7": 2, "features16": 3},
    ),
    "mobilenet_v3_small": (
        "mobilenet_v3_small",
        {"output_stride": 32},
        {"features1": 0, "features2": 1, "features4": 2, "features12": 3},
    ),
} | {
    f"timm_{theirs}": (ours, {}, {f"branch{i}": i for i in range(4)})
    for theirs, ours in {
        "hrnet_w18_small": "hrnet_w18_small_v1",
        "hrnet_w18_small_v2": "hrnet_w18_small_v2",
        "hrnet_w18": "hrnet_w18",
        "hrnet_w32": "hrnet_w32",
        "hrnet_w48": "hrnet_w48",
    }.items()
}
BACKBONES["timm_mobilenetv3_large_100"] = BACKBONES["mobilenet_v3_large"]
BACKBONES["timm_mobilenetv3_small_100"] = BACKBONES["mobilenet_v3_small"]
# The same code as hrnet_w18_small_v2 in more blocks or channels: up to a minute of compiling each.
SLOW = {"timm_hrnet_w18", "timm_hrnet_w32", "timm_hrnet_w48"}

# fixture: (network, its options)
SEGMENTERS = {
    "deeplabv3_resnet50": ("deeplab_v3_resnet50", {"auxiliary": True}),
    "deeplabv3_resnet101": ("deeplab_v3_resnet101", {"auxiliary": True}),
    "deeplabv3_mobilenet_v3_large": ("deeplab_v3_mobilenet_v3_large", {}),
    "deeplabv3_mobilenet_v3_large_aux": ("deeplab_v3_mobilenet_v3_large", {"auxiliary": True}),
    "lraspp_mobilenet_v3_large": ("lr_aspp_mobilenet_v3_large", {}),
}


def load(fixture, name, dtype, **options):
    """``(reference, model, variables, report)``; what the file lacks is left as a shape."""
    ref = reference.load(f"{fixture}_eval")
    model = models.create(name, 21, dropclass=None, **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    variables, report = pretrained.load_state_dict(shapes, reference.weights(ref, dtype))
    return ref, model, variables, report


def images(ref, dtype):
    for i, spec in enumerate(ref.meta["inputs"]):
        check = ref.arrays[f"in{i}/input_check"]
        yield f"in{i}/", reference.image(spec["rng"], spec["shape"], check).astype(dtype)


def golden(ref, name, dtype):
    return reference.nhwc(ref.arrays[f"{name}_f64" if dtype == "float64" else name])


@pytest.mark.parametrize(
    ("fixture", "dtype"),
    [
        ("deeplabv3_resnet50", "float64"),
        ("deeplabv3_mobilenet_v3_large", "float64"),
        ("deeplabv3_resnet101", "float32"),
        ("deeplabv3_mobilenet_v3_large_aux", "float32"),
        ("lraspp_mobilenet_v3_large", "float32"),
        # The same but for the dtype, and but for the depth or the auxiliary classifier.
        pytest.param("deeplabv3_resnet50", "float32", marks=pytest.mark.slow),
        pytest.param("deeplabv3_mobilenet_v3_large", "float32", marks=pytest.mark.slow),
    ],
)
def test_logits(fixture, dtype):
    name, options = SEGMENTERS[fixture]
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        ref, model, variables, report = load(fixture, name, dtype, **options)
        assert not report.missing
        assert not report.unused
        apply = jax.jit(model.apply)
        for prefix, image in images(ref, dtype):
            outputs = jax.device_get(apply(variables, image))
            # At the input's size, odd ones included: nothing is cut or moved.
            upsampled = resize_bilinear(outputs["logits"], image.shape[1:3])
            pairs = {
                "out_lowres": outputs["logits"],
                "aux_lowres": outputs.get("logits_auxiliary"),
                "out": upsampled,
                "out_stride4": upsampled[:, ::4, ::4, ::3],
            }
            for theirs, ours in pairs.items():
                if prefix + theirs + ("_f64" if dtype == "float64" else "") in ref.arrays:
                    desired = golden(ref, prefix + theirs, dtype)
                    reference.assert_close(ours, desired, TOLERANCE[dtype])


@pytest.mark.parametrize(
    "fixture",
    [pytest.param(f, marks=pytest.mark.slow) if f in SLOW else f for f in BACKBONES],
)
def test_maps_of_imagenet_backbones(fixture):
    name, options, taps = BACKBONES[fixture]
    ref, model, variables, report = load(fixture, name, "float32", **options)
    assert {path.split("/")[1] for path in report.missing} == {"head", "classifier"}
    backbone = {collection: tree["backbone"] for collection, tree in variables.items()}
    apply = jax.jit(model.backbone.apply, static_argnums=2)
    for prefix, image in images(ref, "float32"):
        with jax.default_matmul_precision("highest"):
            maps = jax.device_get(apply(backbone, image, False))
        for theirs, ours in taps.items():
            assert_sampled(ref, prefix + theirs, maps[ours])


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_maps(output_stride):
    """The same ImageNet weights at a smaller output stride."""
    ref, model, variables, _ = load("resnet50", "resnet50", "float32", output_stride=output_stride)
    backbone = {collection: tree["backbone"] for collection, tree in variables.items()}
    apply = jax.jit(model.backbone.apply, static_argnums=2)
    for prefix, image in images(ref, "float32"):
        with jax.default_matmul_precision("highest"):
            maps = jax.device_get(apply(backbone, image, False))
        assert_sampled(ref, f"{prefix}layer4_os{output_stride}", maps[-1])


def assert_sampled(ref, name, ours):
    """A crop of every few channels, and the statistics of these channels, ``[C, 3]``."""
    (_, step), (rows, _), (columns, _) = ref.meta["sampled"][name.split("/")[1]]
    ours = np.asarray(ours, np.float64)[..., ::step]
    reference.assert_close(ours[:, :rows, :columns], golden(ref, name, "float32"), 1e-5)
    statistics = np.stack(
        [ours.mean((0, 1, 2)), ours.std((0, 1, 2)), np.abs(ours).max((0, 1, 2))], axis=-1
    )
    for ours, theirs in zip(statistics.T, ref.arrays[f"{name}_channels"].T, strict=True):
        reference.assert_close(ours, theirs, 1e-5)
