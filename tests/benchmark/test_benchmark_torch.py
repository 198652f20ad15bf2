"""The PyTorch networks of the benchmark compute what ours do. Needs PyTorch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


@pytest.mark.parametrize("name", ["hrnet_w18_small_v1", "hrnet_w18_small_v2", "hrnet_w48"])
def test_as_many_parameters(name):
    for dropclass in (False, True):
        with torch.device("meta"):
            network = torch_networks.create(name, 19, dropclass)
        ours = models.create(name, 19, dropclass={} if dropclass else None)
        assert sum(p.numel() for p in network.parameters()) == parameters(ours)


@pytest.fixture(scope="module")
def network():
    """With weights and statistics that hide no mistake."""
    torch.manual_seed(0)
    network = torch_networks.create_hrnet(SMALL, K, dropclass=True).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
        for name, buffer in network.named_buffers():
            if name.endswith(("mean", "var")):
                buffer.copy_(0.5 + torch.rand_like(buffer))
    return network


def test_the_same_logits(network):
    """From its weights, under its authors' names: every tensor has a place in ours."""
    weights = {
        name.removeprefix("head."): value.numpy() for name, value in network.state_dict().items()
    }
    layers = Layers()
    model = Segmenter(hrnet.HRNet(SMALL, layers), heads.Concat(layers), K, layers=layers)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    variables, report = pretrained.load_state_dict(shapes, weights)
    assert not report.missing
    assert not report.unused
    images = np.random.default_rng(0).standard_normal((2, 64, 96, 3)).astype(np.float32)
    keep = 1 - np.eye(K, dtype=np.float32)[2]
    quickly = {"xla_backend_optimization_level": 0}
    ours = jax.jit(model.apply, compiler_options=quickly)(variables, images, keep)
    with torch.no_grad():
        theirs = network(torch.from_numpy(images.transpose(0, 3, 1, 2)), torch.from_numpy(keep))
    for name in ("logits", "logits_drop"):
        expected = theirs[name].numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(ours[name], expected, atol=1e-5 * np.abs(expected).max())


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
    assert found["result"].keys() == {"forward", "plain", "dropclass"}
    for one in found["result"].values():
        assert set(one["tried"]) == {"contiguous", "channels last"}
        assert one["tried"][one["way"]] == min(one["tried"].values())
        for turn in range(2):
            ratio = one["torch"]["all"][turn] / one["ours"]["all"][turn]
            assert one["times_faster"]["all"][turn] == pytest.approx(ratio)
    table = benchmark.report([found])
    assert "dropclass step" in table
