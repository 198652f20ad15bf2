"""Weights by name: every tensor lands where it belongs, and what does not fit is told."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import traverse_util

from dropclass_jax import models
from dropclass_jax.errors import UserError
from dropclass_jax.models import pretrained, recognise
from dropclass_jax.models.torch_names import torch_keys

NAME = "hrnet_w18_small_v1"


def shapes_of(name, num_classes=19, **options):
    model = models.create(name, num_classes, **options)
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def filled(shapes):
    """Variables whose every leaf is -1, to tell what was loaded from what was left."""
    return jax.tree.map(lambda leaf: np.full(leaf.shape, -1, leaf.dtype), shapes)


def file_of(fixture):
    """A state dict of ones, by the keys and shapes of a fixture's network."""
    ref = reference.load(f"{fixture}_eval")
    return {key: np.ones(shape, np.float32) for key, shape in reference.shapes(ref).items()}


@pytest.fixture(scope="module")
def variables():
    return filled(shapes_of(NAME))


@pytest.fixture(scope="module")
def state_dict():
    return reference.weights(reference.load(f"{NAME}_eval"))


def test_every_tensor_lands_where_it_belongs(variables, state_dict):
    loaded, report = pretrained.load_state_dict(variables, state_dict)
    assert set(report.matched) == set(state_dict)
    assert report.missing == report.unused == ()
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)

    kernel = loaded["params"]["backbone"]["stage3_module0"]["fuse_0to2_down1"]["conv"]["kernel"]
    torch_kernel = state_dict["stage3.0.fuse_layers.2.0.1.0.weight"]  # OIHW
    assert kernel.shape == (3, 3, 16, 64)
    assert kernel[0, 2, 5, 7] == torch_kernel[7, 5, 0, 2]
    np.testing.assert_array_equal(kernel, torch_kernel.transpose(2, 3, 1, 0))

    refine = loaded["params"]["refine"]["norm"], loaded["batch_stats"]["refine"]["norm"]
    np.testing.assert_array_equal(refine[0]["scale"], state_dict["clsdrop_bn1.weight"])
    np.testing.assert_array_equal(refine[0]["bias"], state_dict["clsdrop_bn1.bias"])
    np.testing.assert_array_equal(refine[1]["mean"], state_dict["clsdrop_bn1.running_mean"])
    np.testing.assert_array_equal(refine[1]["var"], state_dict["clsdrop_bn1.running_var"])


@pytest.mark.parametrize(
    ("fixture", "name", "options"),
    [
        ("hrnet_w18_small_v1", "hrnet_w18_small_v1", {}),
        ("hrnet_w18_small_v2", "hrnet_w18_small_v2", {}),
        ("deeplabv3_resnet50", "resnet50", {"dropclass": None, "auxiliary": True}),
        ("deeplabv3_mobilenet_v3_large", "mobilenet_v3_large", {"dropclass": None}),
    ],
)
def test_names_map_one_to_one(fixture, name, options):
    keys = reference.load(f"{fixture}_eval").arrays["keys"].tolist()
    keys = {key for key in keys if not key.endswith("num_batches_tracked")}
    table = torch_keys(shapes_of(name, 21 if "deeplab" in fixture else 19, **options))
    named = {key: table[pretrained.strip_prefix(key)] for key in keys}
    assert len(set(named.values())) == len(keys) == len(set(table.values()))


@pytest.mark.parametrize(
    ("fixture", "name", "naming", "unused"),
    [
        ("timm_hrnet_w18_small", NAME, "HRNet's", {"incre_modules", "downsamp_modules",
                                                  "final_layer", "classifier"}),
        ("resnet50", "resnet50", "ResNet's", {"fc"}),
        ("mobilenet_v3_small", "lr_aspp_mobilenet_v3_small", "torchvision's", {"classifier"}),
        ("timm_mobilenetv3_small_100", "mobilenet_v3_small", "timm's",
         {"conv_head", "classifier"}),
        ("resnet50", "concat_resnet50", "ResNet's", {"fc"}),
    ],
)  # fmt: skip
def test_after_imagenet_the_rest_starts_afresh(fixture, name, naming, unused):
    shapes = filled(shapes_of(name))
    loaded, report = pretrained.load_state_dict(shapes, file_of(fixture))
    assert report.naming == naming
    assert {key.split(".")[0] for key in report.unused} == unused
    assert {path.split("/")[1] for path in report.missing} == {"head", "classifier", "refine"}
    for path, leaf in traverse_util.flatten_dict(loaded, sep="/").items():
        assert np.all(np.asarray(leaf) == -1) == (path in report.missing), path
        assert "backbone" in path or path in report.missing
    assert str(report).startswith(f"{len(report.matched)} tensors loaded, in {naming} names; ")
    assert "start afresh: head (" in str(report)
    assert "of no use here: " in str(report)


def test_a_classifier_for_other_classes_starts_afresh():
    shapes = filled(shapes_of("resnet50", 5, auxiliary=True))
    loaded, report = pretrained.load_state_dict(shapes, file_of("deeplabv3_resnet50"))
    fresh = {"/".join(path.split("/")[1:-1]) for path in report.missing}
    assert fresh == {"classifier", "auxiliary_head/classifier", "refine/conv", "refine/norm"}
    assert set(report.unused) == {
        f"{module}.{leaf}" for module in ("classifier.4", "aux_classifier.4")
        for leaf in ("weight", "bias")
    }  # fmt: skip
    assert np.all(loaded["params"]["head"]["mix"]["conv"]["kernel"] == 1)
    assert np.all(loaded["params"]["auxiliary_head"]["mix"]["conv"]["kernel"] == 1)


def test_another_head_starts_afresh_with_what_reads_it():
    shapes = filled(shapes_of("lr_aspp_mobilenet_v3_large", 21))
    _, report = pretrained.load_state_dict(shapes, file_of("deeplabv3_mobilenet_v3_large"))
    assert {path.split("/")[1] for path in report.missing} == {"head", "classifier", "refine"}
    assert {pretrained.strip_prefix(key).split(".")[0] for key in report.unused} == {"classifier"}


def test_our_own_leaves_come_back(variables, state_dict):
    loaded, _ = pretrained.load_state_dict(variables, state_dict)
    own = {k: np.asarray(v) for k, v in traverse_util.flatten_dict(loaded, sep="/").items()}
    again, report = pretrained.load_state_dict(variables, own)
    assert report.naming == "our own"
    assert report.missing == report.unused == ()
    jax.tree.map(np.testing.assert_array_equal, again, loaded)
    # From a plain network to one with DropClass.
    plain = {key: array for key, array in own.items() if "/refine/" not in key}
    _, report = pretrained.load_state_dict(variables, plain)
    assert {path.split("/")[1] for path in report.missing} == {"refine"}
    # And back.
    shapes = shapes_of(NAME, dropclass=None)
    _, report = pretrained.load_state_dict(shapes, own)
    assert {key.split("/")[1] for key in report.unused} == {"refine"}


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
def test_prefixes_of_wrappers_are_ignored(variables, state_dict, prefix):
    prefixed = {prefix + key: array for key, array in state_dict.items()}
    loaded, report = pretrained.load_state_dict(variables, prefixed)
    assert report.missing == report.unused == ()
    assert report.matched[0] == prefix + "conv1.weight"
    stem = loaded["params"]["backbone"]["stem1"]["conv"]["kernel"]
    np.testing.assert_array_equal(stem, state_dict["conv1.weight"].transpose(2, 3, 1, 0))


def without(state_dict, *prefixes):
    return {key: array for key, array in state_dict.items() if not key.startswith(prefixes)}


WRONG = {
    "another shape": (
        lambda file: {**file, "bn1.bias": np.ones(7, np.float32)},
        r"bn1\.bias has shape \(7,\) in the weights, the model needs \(64,\)",
    ),
    "another kernel": (
        lambda file: {**file, "conv2.weight": np.ones((64, 32, 3, 3), np.float32)},
        r"conv2\.weight has shape \(64, 32, 3, 3\) in the weights, .* needs \(64, 64, 3, 3\)",
    ),
    "twice": (
        lambda file: {**file, "module.bn1.bias": file["bn1.bias"]},
        r"module\.bn1\.bias is in the weights twice, also as bn1\.bias",
    ),
    "a larger backbone": (
        lambda file: {**file, "stage3.1.branches.0.0.conv1.weight": np.ones((16, 16, 3, 3))},
        r"stage3\.1\.branches\.0\.0\.conv1\.weight \(16, 16, 3, 3\) .* has no place in the model",
    ),
    "a smaller backbone": (
        lambda file: without(file, "stage4.0.branches.3.1.conv2"),
        r"lack params/backbone/stage4_module0/branch3_block1/conv2/kernel \(3, 3, 128, 128\), in "
        r"PyTorch stage4\.0\.branches\.3\.1\.conv2\.weight",
    ),
    "another network": (
        lambda file: {"encoder.patch.weight": np.ones((8, 3, 4, 4))},
        r"nothing of the model's backbone \(its first tensor is 'encoder\.patch\.weight'",
    ),
    "nothing": (lambda file: {}, r"nothing of the model's backbone \(it is empty\)"),
    "half a head": (
        lambda file: without(file, "last_layer.1.running"),
        r"only a part of the model's head: they lack batch_stats/head/neck/norm/\w+ \(240,\)",
    ),
}


@pytest.mark.parametrize("change", WRONG)
def test_what_does_not_fit_is_one_line_with_name_and_shapes(variables, state_dict, change):
    changed, message = WRONG[change]
    with pytest.raises(UserError, match=message) as error:
        pretrained.load_state_dict(variables, changed(state_dict))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fixture", "name", "message"),
    [
        ("deeplabv3_resnet101", "resnet50", r"backbone\.layer3\.6\.\S+ \S.* has no place"),
        ("resnet50", "resnet101", r"lack \w+/backbone/layer3_block10/.*in PyTorch layer3\.10"),
        ("mobilenet_v3_small", "mobilenet_v3_large", r"has shape .* in the weights"),
        ("timm_hrnet_w18", "hrnet_w32", r"has shape .* in the weights"),
    ],
)  # fmt: skip
def test_weights_of_a_relative_are_refused(fixture, name, message):
    with pytest.raises(UserError, match=message):
        pretrained.load_state_dict(shapes_of(name), file_of(fixture))


def test_depthwise_kernels_are_transposed():
    file = file_of("mobilenet_v3_small")
    key = "features.2.block.1.0.weight"  # O1HW
    file[key] = np.arange(72 * 9, dtype=np.float32).reshape(72, 1, 3, 3)
    loaded, _ = pretrained.load_state_dict(shapes_of("mobilenet_v3_small"), file)
    kernel = loaded["params"]["backbone"]["block1"]["depthwise"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel[1, 2, 0], file[key][:, 0, 1, 2])


def test_the_wider_dtype_is_kept(variables, state_dict):
    file = {key: array.astype(np.float16) for key, array in state_dict.items()}
    file["bn1.bias"] = np.linspace(0.1, 1, 64)
    with jax.enable_x64(True):
        loaded, _ = pretrained.load_state_dict(variables, file)
        stem = loaded["params"]["backbone"]["stem1"]
        assert stem["norm"]["bias"].dtype == np.float64
        np.testing.assert_array_equal(stem["norm"]["bias"], file["bn1.bias"])
        assert stem["norm"]["scale"].dtype == np.float32
        np.testing.assert_array_equal(stem["norm"]["scale"], file["bn1.weight"].astype(np.float32))


@pytest.mark.parametrize(
    ("fixture", "network"),
    [
        ("timm_mobilenetv3_small_100", "mobilenet_v3_small"),
        ("lraspp_mobilenet_v3_large", "lr_aspp_mobilenet_v3_large"),
    ],
)
def test_the_network_of_somebodys_weights_is_told(fixture, network):
    assert recognise.network_of(file_of(fixture)) == network


def test_weights_of_no_network_of_ours_are_told(monkeypatch):
    small = {name: models.BACKBONES[name] for name in ("mobilenet_v3_small", "efficientnet_lite0")}
    monkeypatch.setattr(models, "BACKBONES", small)  # the others would take a while
    assert recognise.network_of(file_of("resnet50")) is None


def test_only_timm_s_mobilenet_v3_has_its_epsilon_mended():
    """timm's EfficientNet has the same stem, and our epsilon."""
    of_norm = {f"bn1.{leaf}": np.full(4, 0.5, np.float32) for leaf in ("weight", "running_var")}
    stem = {"conv_stem.weight": np.ones((4, 3, 3, 3), np.float32), **of_norm}
    mobilenet = {**stem, "blocks.5.0.conv.weight": np.ones((8, 4, 1, 1), np.float32)}
    assert np.all(pretrained._in_our_form(stem)["bn1.weight"] == 0.5)
    mended = pretrained._in_our_form(mobilenet)["bn1.weight"]
    np.testing.assert_allclose(mended, 0.5 * np.sqrt((0.5 + 1e-3) / (0.5 + 1e-5)), rtol=1e-6)
