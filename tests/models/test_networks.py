"""What holds for every network: sizes, dilation, mirror images, short floats, and its errors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dropclass_jax import models
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import inference
from dropclass_jax.models import efficientnet_lite, heads, mobilenet_v3, pretrained, resnet
from dropclass_jax.models.segmenter import Segmenter


def init_shapes(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def random_variables(model, seed=0):
    """He kernels, and norms that are no identity."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if len(leaf.shape) > 1:
            scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)
        start = 1.0 if path[-1].key in ("scale", "var") else 0.0
        return (start + 0.1 * np.abs(rng.standard_normal(leaf.shape))).astype(np.float32)

    return jax.tree.map_with_path(draw, init_shapes(model))


# One a family: the others are the same code with other numbers.
FAMILIES = ("hrnet_w18_small_v1", "resnet50", "mobilenet_v3_large", "efficientnet_lite0")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, (50, 70)) for name in (*FAMILIES, "mobilenet_v3_small")),  # then 25, 13, 7, 4
        *((FAMILIES[0], size) for size in ((65, 97), (33, 32))),
        *((FAMILIES[2], size) for size in ((65, 97), (33, 32))),
    ],
)
def test_maps_and_predictions_have_the_right_sizes(name, size):
    model = models.create(name, 7, auxiliary=True)
    stride = models.BACKBONES[models.names()[name][1]].output_strides[0]
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    variables = init_shapes(model)
    backbone = {collection: tree["backbone"] for collection, tree in variables.items()}
    maps = jax.eval_shape(lambda v, x: model.backbone.apply(v, x, False), backbone, images)
    for x, wanted in zip(maps, (4, 8, 16, 32), strict=True):
        expected = tuple(-(-side // min(wanted, stride)) for side in size)
        assert x.shape[1:3] == expected
    outputs = jax.eval_shape(model.apply, variables, images)
    assert outputs["logits"].shape == (*outputs["features"].shape[:3], 7)
    assert outputs["logits_drop"].shape == outputs["logits"].shape
    scores = jax.eval_shape(
        lambda v, x: inference.scores(inference.forward(model, v), x), variables, images
    )
    assert {head: y.shape for head, y in scores.items()} == dict.fromkeys(
        ("plain", "drop"), (2, *size, 7)
    )


@pytest.mark.parametrize("head", models.HEADS)
@pytest.mark.parametrize("backbone", FAMILIES)
def test_any_backbone_goes_with_any_head(head, backbone):
    model = models.create(f"{head}_{backbone}", 5)
    assert "logits_drop" in jax.eval_shape(
        model.init_with_output, jax.random.key(0), jnp.zeros((1, 64, 64, 3))
    )[0]  # fmt: skip


# The same weights at every output stride, without what sees a dense map otherwise than a sparse
# one: squeeze-and-excitation's mean, and torchvision's kernels that dilate one block early.
ATROUS = {
    "resnet": lambda output_stride: resnet.ResNet((1, 2, 2, 2), output_stride),
    "mobilenet_v3": lambda output_stride: mobilenet_v3.MobileNetV3(
        tuple(b._replace(squeeze=False) for b in mobilenet_v3.ARCHITECTURES["mobilenet_v3_small"]),
        output_stride,
        dilate_first=False,
    ),
    "efficientnet_lite": lambda output_stride: efficientnet_lite.EfficientNetLite(
        efficientnet_lite.BLOCKS[:4]
        + efficientnet_lite.BLOCKS[5:7]
        + efficientnet_lite.BLOCKS[11:13],
        output_stride,
    ),
}


@pytest.mark.parametrize("name", ATROUS)
def test_atrous_features_subsampled_are_those_of_larger_strides(name):
    """Chen et al., 2017, section 3.1: dilation gives the same features at more positions."""
    images = np.random.default_rng(0).standard_normal((1, 65, 97, 3)).astype(np.float32)
    networks = {stride: ATROUS[name](stride) for stride in (8, 16, 32)}
    shapes = jax.eval_shape(
        lambda: networks[32].init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), False)
    )
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: (
            np.ones(leaf.shape)
            if len(leaf.shape) == 1
            else rng.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        ).astype(np.float32),
        shapes,
    )
    deepest = {}
    for stride, network in networks.items():
        apply = jax.jit(network.apply, static_argnums=2)
        with jax.default_matmul_precision("highest"):
            deepest[stride] = apply(variables, images, False)[-1]
    assert deepest[8].shape[1:3] == (9, 13)
    assert np.abs(deepest[32]).max() > 0.1
    for stride in (8, 16):
        step_size = 32 // stride
        reference.assert_close(deepest[stride][:, ::step_size, ::step_size], deepest[32], 1e-5)
    # It is the dilation that does it: without, more positions would see another neighbourhood.
    assert not np.allclose(deepest[8][:, 1:-1, 1:-1], deepest[8][:, :-2, :-2])


MIRRORED = {
    "hrnet": lambda: models.create("hrnet_w18_small_v1", 4),
    "deeplab_v3": lambda: Segmenter(resnet.ResNet((1, 1, 1, 1), 8), heads.DeepLabV3(), 4),
    "lr_aspp": lambda: models.create("lr_aspp_mobilenet_v3_small", 4),
    "lr_aspp_plus": lambda: models.create("efficientnet_lite0", 4),
}


@pytest.mark.parametrize("name", MIRRORED)
def test_nothing_is_shifted(name):
    """Mirrored kernels and a mirrored image give mirrored predictions: 97 = 3 x 32 + 1 columns.

    A resize without half-pixel centres, or padding on one side alone, would move something.
    """
    model = MIRRORED[name]()
    variables = random_variables(model)
    params = jax.tree.map(lambda p: (p + p[:, ::-1]) / 2 if p.ndim == 4 else p, variables["params"])
    images = np.random.default_rng(2).standard_normal((1, 65, 97, 3)).astype(np.float32)
    forward = inference.forward(model, {**variables, "params": params})
    upsampled = jax.jit(lambda x: inference.scores(forward, x))
    straight, mirrored = upsampled(images), upsampled(images[:, :, ::-1])
    for head, logits in straight.items():
        assert logits.shape == (1, 65, 97, 4)
        assert not np.allclose(logits, logits[:, :, ::-1], rtol=0.01)
        reference.assert_close(mirrored[head][:, :, ::-1], np.asarray(logits), 1e-4)


# Root mean square of the difference from float32 over that of the logits.
BFLOAT16_ERROR = 0.02
BFLOAT16 = {
    "hrnet_w18_small_v1": "hrnet_w18_small_v1",
    "hrnet_w18_small_v2": "hrnet_w18_small_v2",
    "deeplab_v3_resnet50": "deeplabv3_resnet50",
    "deeplab_v3_resnet101": "deeplabv3_resnet101",
    "deeplab_v3_mobilenet_v3_large": "deeplabv3_mobilenet_v3_large",
    "lr_aspp_mobilenet_v3_large": "lraspp_mobilenet_v3_large",
    "hrnet_w18": "timm_hrnet_w18",
    "hrnet_w32": "timm_hrnet_w32",
    "hrnet_w48": "timm_hrnet_w48",
    "mobilenet_v3_small": "mobilenet_v3_small",
}
# The same code with other numbers, or a backbone and a head that the others have, too.
SLOW = {"hrnet_w18_small_v2", "hrnet_w18", "hrnet_w32", "hrnet_w48"} | {
    "deeplab_v3_resnet101", "deeplab_v3_mobilenet_v3_large"
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in BFLOAT16],
)
def test_bfloat16_logits(name):
    ref = reference.load(f"{BFLOAT16[name]}_eval")
    num_classes = 19 if name.startswith("hrnet_w18_small") else 21
    logits = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        model = models.create(name, num_classes, dtype=dtype, auxiliary="resnet" in name)
        fresh = random_variables(model)
        variables, _ = pretrained.load_state_dict(fresh, reference.weights(ref))
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
        spec = ref.meta["inputs"][0]
        image = reference.image(spec["rng"], spec["shape"])
        outputs = jax.jit(model.apply)(variables, image)
        assert outputs["features"].dtype == dtype
        assert outputs["logits"].dtype == jnp.float32
        logits[dtype] = jax.device_get(outputs)
    for output in ("logits", "logits_drop"):
        exact, short = (logits[dtype][output] for dtype in (jnp.float32, jnp.bfloat16))
        error = np.sqrt(np.mean((short - exact) ** 2) / np.mean(exact**2))
        assert 0 < error < BFLOAT16_ERROR


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "hrnet_w84"}, r"unknown model 'hrnet_w84'; did you mean hrnet_w48\?"),
        ({"name": "resnet50", "output_stride": 4}, "resnet50 is 8 or 16 or 32, not 4"),
        ({"name": "hrnet_w18", "output_stride": 8}, "hrnet_w18 is 32, not 8"),
        ({"name": "hrnet_w18", "num_classes": 1}, "2 classes or more, not 1"),
        ({"name": "hrnet_w18", "init": "zeros"}, "model.init is one of he, reference"),
    ],
)
def test_wrong_options_are_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        models.create(**{"num_classes": 5, **options})
    assert "\n" not in str(error.value)
