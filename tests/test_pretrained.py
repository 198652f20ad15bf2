from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import traverse_util

from dropclass_jax import models
from dropclass_jax.errors import UserError
from dropclass_jax.models import pretrained


def shapes_of(name):
    model = models.create(name, num_classes=19)
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


@pytest.fixture(scope="module")
def variables():
    """Variables whose every leaf is -1, to tell what was loaded from what was left."""
    return jax.tree.map(lambda leaf: np.full(leaf.shape, -1, leaf.dtype), shapes_of(NAME))


@pytest.fixture(scope="module")
def state_dict():
    return reference.weights(reference.load(f"{NAME}_eval"))


NAME = "hrnet_w18_small_v1"


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


@pytest.mark.parametrize("name", ["hrnet_w18_small_v1", "hrnet_w18_small_v2"])
def test_names_map_one_to_one_in_both_directions(name):
    keys = reference.load(f"{name}_eval").arrays["keys"].tolist()
    keys = {key for key in keys if not key.endswith("num_batches_tracked")}
    table = pretrained.torch_keys(shapes_of(name))
    assert set(table) == keys
    assert {key: pretrained.flax_path(key) for key in keys} == table
    assert len(set(table.values())) == len(keys)


def test_reports_what_is_missing_and_what_is_unused(variables, state_dict):
    # A classification checkpoint: no neck, classifier or refine block, other keys of its own.
    file = {
        key: array
        for key, array in state_dict.items()
        if not key.startswith(("last_layer", "_classifier", "clsdrop"))
    }
    own = {
        "incre_modules.0.0.conv1.weight": np.ones((32, 16, 1, 1), np.float32),
        "classifier.weight": np.ones((1000, 2048), np.float32),
        "conv1.extra": np.ones(3, np.float32),
        "stage9.0.branches.0.0.conv1.weight": np.ones((16, 16, 3, 3), np.float32),
    }
    counters = {"bn1.num_batches_tracked": np.asarray(3)}
    loaded, report = pretrained.load_state_dict(variables, {**file, **own, **counters})

    assert set(report.unused) == set(own)
    assert set(report.matched) == set(file)
    assert set(report.missing) == {
        *(f"params/backbone/neck/conv/{leaf}" for leaf in ("kernel", "bias")),
        *(f"params/backbone/neck/norm/{leaf}" for leaf in ("scale", "bias")),
        *(f"batch_stats/backbone/neck/norm/{leaf}" for leaf in ("mean", "var")),
        *(f"params/classifier/{leaf}" for leaf in ("kernel", "bias")),
        *(f"params/refine/conv/{leaf}" for leaf in ("kernel", "bias")),
        *(f"params/refine/norm/{leaf}" for leaf in ("scale", "bias")),
        *(f"batch_stats/refine/norm/{leaf}" for leaf in ("mean", "var")),
    }
    for path, leaf in traverse_util.flatten_dict(loaded, sep="/").items():
        assert np.all(np.asarray(leaf) == -1) == (path in report.missing), path
    assert str(report) == f"{len(file)} loaded, 14 left at their initial value, 4 unused"


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
def test_prefixes_of_wrappers_are_ignored(variables, state_dict, prefix):
    prefixed = {prefix + key: array for key, array in state_dict.items()}
    loaded, report = pretrained.load_state_dict(variables, prefixed)
    assert report.missing == report.unused == ()
    assert report.matched[0] == prefix + "conv1.weight"
    stem = loaded["params"]["backbone"]["stem1"]["conv"]["kernel"]
    np.testing.assert_array_equal(stem, state_dict["conv1.weight"].transpose(2, 3, 1, 0))


def test_a_key_given_twice_is_an_error(variables, state_dict):
    twice = {**state_dict, "module.bn1.bias": state_dict["bn1.bias"]}
    with pytest.raises(UserError, match=r"module\.bn1\.bias is in the weights twice"):
        pretrained.load_state_dict(variables, twice)


def test_a_wrong_shape_names_the_key_and_both_shapes(variables, state_dict):
    other = {**state_dict, "_classifier.weight": np.ones((21, 240, 1, 1), np.float32)}
    with pytest.raises(UserError) as error:
        pretrained.load_state_dict(variables, other)
    message = str(error.value)
    assert "_classifier.weight has shape (21, 240, 1, 1)" in message
    assert "the model needs (19, 240, 1, 1)" in message
    assert "\n" not in message


def test_kernels_of_every_rank_are_transposed(monkeypatch):
    rules = (("dw{i}", "depthwise{i}"), ("fc", "dense"))
    monkeypatch.setitem(pretrained.RULES, "toy", rules)
    depthwise = np.arange(4 * 9, dtype=np.float32).reshape(4, 1, 3, 3)  # O1HW
    dense = np.arange(6, dtype=np.float32).reshape(2, 3)  # OI
    variables = {
        "params": {
            "depthwise0": {"kernel": np.zeros((3, 3, 1, 4), np.float32)},
            "dense": {"kernel": np.zeros((3, 2), np.float32)},
        }
    }
    file = {"dw0.weight": depthwise, "fc.weight": dense}
    params = pretrained.load_state_dict(variables, file, "toy")[0]["params"]
    np.testing.assert_array_equal(params["depthwise0"]["kernel"][1, 2, 0], depthwise[:, 0, 1, 2])
    np.testing.assert_array_equal(params["dense"]["kernel"], dense.T)
    assert set(pretrained.torch_keys(variables, "toy")) == set(file)

    with pytest.raises(UserError, match=r"fc.weight has shape \(3, 2\).* needs \(2, 3\)"):
        pretrained.load_state_dict(variables, {"fc.weight": dense.T}, "toy")


def test_the_wider_dtype_is_kept(variables):
    values = np.linspace(0.1, 1, 64)
    with jax.enable_x64(True):
        loaded, _ = pretrained.load_state_dict(variables, {"bn1.bias": values})
        bias = loaded["params"]["backbone"]["stem1"]["norm"]["bias"]
        assert bias.dtype == np.float64
        np.testing.assert_array_equal(bias, values)
    loaded, _ = pretrained.load_state_dict(variables, {"bn1.bias": values.astype(np.float16)})
    bias = loaded["params"]["backbone"]["stem1"]["norm"]["bias"]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, values.astype(np.float16).astype(np.float32))
