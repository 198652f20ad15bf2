"""The PyTorch networks of the benchmark compute what ours do. Needs PyTorch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from dropclass_jax import models, objective
from dropclass_jax.benchmark import __main__ as benchmark
from dropclass_jax.benchmark.case import Case
from dropclass_jax.benchmark.section import Options
from dropclass_jax.models import heads, hrnet, pretrained
from dropclass_jax.models.layers import Layers
from dropclass_jax.models.segmenter import Segmenter

torch = pytest.importorskip("torch")
# Both import PyTorch, which is an optional extra.
torch_networks = pytest.importorskip("dropclass_jax.benchmark.torch_networks")
torch_runs = pytest.importorskip("dropclass_jax.benchmark.torch_runs")

K = 7
# Every kind of module an HRNet has, and few of each.
SMALL = hrnet.Architecture(width=16, stage1_blocks=2, stage1_width=16, modules=(1, 1, 1), blocks=1)


def parameters(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 64, 64, 3)))["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


NAMES = ("hrnet_w18_small_v1", "hrnet_w18_small_v2", "hrnet_w48", "efficientnet_lite0")


@pytest.mark.parametrize("name", NAMES)
def test_as_many_parameters(name):
    for dropclass in (False, True):
        with torch.device("meta"):
            network = torch_networks.create(name, 19, dropclass)
        ours = models.create(name, 19, dropclass={} if dropclass else None)
        assert sum(p.numel() for p in network.parameters()) == parameters(ours)


def drawn(network):
    """A network with weights and statistics that hide no mistake, and signals that last."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.ndim == 4:
                value.copy_((2 / value[0].numel()) ** 0.5 * torch.randn_like(value))
            elif value.ndim == 1:
                value.copy_(torch.rand_like(value) + (0.5 if name.endswith("var") else -0.5))
            if value.ndim == 1 and name.endswith("weight"):
                value += 1.5
    return network.eval()


def assert_the_same_logits(network, model, variables):
    """In evaluation, with a class dropped, in float64."""
    images = np.random.default_rng(0).standard_normal((2, 64, 96, 3))
    keep = 1 - np.eye(K)[2]
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
        ours = jax.jit(model.apply)(variables, images, keep)
    torch.set_num_threads(1)  # threads that wait for each other are slow on a busy machine
    with torch.no_grad():
        images = torch.from_numpy(images.transpose(0, 3, 1, 2))
        theirs = network.double()(images, torch.from_numpy(keep))
    for name in ("logits", "logits_drop"):
        expected = theirs[name].numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(ours[name], expected, atol=1e-10 * np.abs(expected).max())


def test_the_same_logits():
    """From its weights, under its authors' names: every tensor has a place in ours."""
    network = drawn(torch_networks.create_hrnet(SMALL, K, dropclass=True))
    weights = {
        name.removeprefix("head."): value.numpy() for name, value in network.state_dict().items()
    }
    layers = Layers()
    model = Segmenter(hrnet.HRNet(SMALL, layers), heads.Concat(layers), K, layers=layers)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    variables, report = pretrained.load_state_dict(shapes, weights)
    assert not report.missing
    assert not report.unused
    assert_the_same_logits(network, model, variables)


# PyTorch's names of the last modules, and of what modules hold.
LAST = {"_classifier": "classifier", "clsdrop_conv1": "refine.conv", "clsdrop_bn1": "refine.norm"}
LEAVES = {
    "weight": {1: ("params", "scale"), 4: ("params", "kernel")},
    "bias": {1: ("params", "bias")},
    "running_mean": {1: ("batch_stats", "mean")},
    "running_var": {1: ("batch_stats", "var")},
}


def our_leaf(key, value):
    """The path of a tensor in our variables, for modules of the same names, and the tensor."""
    module, _, leaf = key.rpartition(".")
    collection, name = LEAVES[leaf][value.ndim]
    path = (collection, *LAST.get(module, module).split("."), name)
    return path, value.transpose(2, 3, 1, 0) if value.ndim == 4 else value


def test_efficientnet_lite_s_logits():
    network = drawn(torch_networks.create("efficientnet_lite0", K, dropclass=True))
    model = models.create("efficientnet_lite0", K)
    tensors = {k: v.numpy() for k, v in network.state_dict().items() if "num_batches" not in k}
    variables = traverse_util.unflatten_dict(dict(our_leaf(k, v) for k, v in tensors.items()))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    assert_the_same_logits(network, model, variables)


def test_the_same_loss():
    """On given logits, ignored pixels and a dropped class included."""

    rng = np.random.default_rng(1)
    logits = {name: rng.standard_normal((2, 4, 6, K)) for name in ("logits", "logits_drop")}
    labels = rng.integers(0, K, (2, 16, 24))
    labels[:, :3] = 255
    keep = 1 - np.eye(K)[2]

    def network(images, keep):
        return {k: torch.from_numpy(v.transpose(0, 3, 1, 2)) for k, v in logits.items()}

    with jax.enable_x64(True):
        arrays = jax.tree.map(jnp.asarray, logits)
        terms = objective.loss_terms(arrays, jnp.asarray(labels), jnp.asarray(keep))
        ours = objective.total(terms, lambda_=0.5, alpha=10.0)
    theirs = torch_runs.training_loss(
        network, None, torch.from_numpy(labels), torch.from_numpy(keep)
    )
    assert float(theirs) == pytest.approx(float(ours), rel=1e-6)


@pytest.mark.slow
def test_the_section():
    case = Case("hrnet_w18_small_v1", 32, 64, 2)
    (found,) = benchmark.measured([case], ["torch"], Options(repeats=2))
    assert "error" not in found
    for kind in ("forward", "plain", "dropclass"):
        one = found["result"][kind]
        sides = one["sides"]
        assert len(sides) >= 2
        for name, taken in sides.items():
            assert taken["threads"] in (found["result"]["cores"], None)
            assert taken["cpu_seconds"]["lowest"] > 0
            if name.startswith("torch"):
                assert set(taken["tried"]) == {"contiguous", "channels last"}
                assert taken["tried"][taken["way"]] == min(taken["tried"].values())
        ours, theirs = (sides[f"{side}, tuned"]["seconds"]["all"] for side in ("ours", "torch"))
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        assert one["pairs"]["both tuned"]["times_faster"]["all"] == pytest.approx(ratios)
    table = benchmark.report([found])
    assert "dropclass step" in table
