"""The HRNets with DropClass against the reference implementation, in float32 and float64."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dropclass_jax import models
from dropclass_jax.models import pretrained

NAMES = ("hrnet_w18_small_v1", "hrnet_w18_small_v2")
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
# The fixtures' A_* come from PyTorch's float32 in both cases.
FEATURE_TOLERANCE = {"float32": 1e-5, "float64": 5e-6}


@pytest.fixture(scope="module", params=[(name, dtype) for name in NAMES for dtype in TOLERANCE])
def network(request):
    """``(reference, dtype, outputs)``, the outputs of both inputs, NumPy arrays by name."""
    name, dtype = request.param
    ref = reference.load(f"{name}_eval")
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext():
        model = models.create(name, num_classes=19)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        variables, report = pretrained.load_state_dict(shapes, reference.weights(ref, dtype))
        assert not report.missing
        assert not report.unused
        # Compilation is most of the cost; the arithmetic is the same without LLVM's optimisation.
        apply = jax.jit(model.apply)
        outputs = []
        for i, spec in enumerate(ref.meta["inputs"]):
            image = reference.image(spec["rng"], spec["shape"], ref.arrays[f"in{i}/input_check"])
            with jax.default_matmul_precision("highest"):
                outputs.append(jax.device_get(apply(variables, image.astype(dtype))))
    return ref, dtype, outputs


@pytest.mark.parametrize("i", [0, 1], ids=["even", "odd"])
@pytest.mark.parametrize(("ours", "theirs"), [("logits", "semantic"), ("logits_drop", "output")])
def test_logits(network, i, ours, theirs):
    ref, dtype, outputs = network
    suffix = "_f64" if dtype == "float64" else ""
    assert outputs[i][ours].dtype == dtype
    desired = reference.nhwc(ref.arrays[f"in{i}/{theirs}{suffix}"])
    reference.assert_close(outputs[i][ours], desired, TOLERANCE[dtype])


@pytest.mark.parametrize("i", [0, 1], ids=["even", "odd"])
def test_features(network, i):
    ref, dtype, outputs = network
    features = outputs[i]["features"].astype(np.float64)
    tolerance = FEATURE_TOLERANCE[dtype]
    crop = reference.nhwc(ref.arrays[f"in{i}/A_crop"])
    reference.assert_close(features[:, :4, :4], crop, tolerance)
    for statistic in ("mean", "std", "max"):
        desired = ref.arrays[f"in{i}/A_channel_{statistic}"]
        reference.assert_close(getattr(features, statistic)((0, 1, 2)), desired, tolerance)
