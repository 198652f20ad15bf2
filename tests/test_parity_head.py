"""The class-drop head against the authors' code: every activation, loss term and gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dropclass_jax import dropclass, objective
from dropclass_jax.losses import pixels
from dropclass_jax.models.layers import Layers
from dropclass_jax.models.segmenter import Segmenter

ALPHA = 10.0
HEAD = reference.load("dropclass_head_k7_c32")
K, C = HEAD.meta["K"], HEAD.meta["C"]
CASES = HEAD.arrays["case_names"].tolist()
# float64 is compared with what the file has in float64.
TOLERANCE = {"float32": (5e-6, 2e-6), "float64": (1e-9, 1e-9)}


class Given(nn.Module):
    """A backbone that hands its input on: the fixture's features."""

    @nn.compact
    def __call__(self, x, train):
        return x


def variables(dtype):
    given = {k[6:]: v.astype(dtype) for k, v in HEAD.arrays.items() if k.startswith("param/")}
    kernel = {k: v.transpose(2, 3, 1, 0) for k, v in given.items() if v.ndim == 4}
    return {
        "params": {
            "classifier": {
                "kernel": kernel["_classifier/weight"],
                "bias": given["_classifier/bias"],
            },
            "refine": {
                "conv": {
                    "kernel": kernel["clsdrop_conv1/weight"],
                    "bias": given["clsdrop_conv1/bias"],
                },
                "norm": {
                    "scale": given["clsdrop_bn1/weight"],
                    "bias": given["clsdrop_bn1/bias"],
                },
            },
        },
        "batch_stats": {
            "refine": {
                "norm": {
                    "mean": given["clsdrop_bn1/running_mean"],
                    "var": given["clsdrop_bn1/running_var"],
                }
            }
        },
    }


def as_given(features, train):
    return features


@pytest.fixture(scope="module", params=["shared", "position"])
def importance(request):
    return request.param


@pytest.fixture(scope="module", params=["float32", "float64"])
def run(request, importance):
    """``run(case, weighting, fraction)`` -> outputs, statistics after, terms, gradients."""
    dtype = request.param
    momentum = 1 - HEAD.meta["bn_momentum"]
    model = Segmenter(
        Given(), as_given, K, {"importance": importance}, layers=Layers(momentum=momentum)
    )

    def loss(params, features, batch_stats, keep, class_weights, fraction):
        outputs, updated = model.apply(
            {"params": params, "batch_stats": batch_stats},
            features,
            keep=keep,
            train=True,
            mutable=["batch_stats"],
        )
        terms = objective.loss_terms(
            outputs, jnp.asarray(HEAD.arrays["labels"]), keep, class_weights=class_weights
        )
        return objective.total(terms, 1 - fraction, ALPHA), (outputs, updated, terms)

    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
        given = variables(dtype)
        features = reference.nhwc(HEAD.arrays["A"]).astype(dtype)

        def run(case, weighting, fraction):
            weights = np.ones(K) if weighting == 0 else HEAD.arrays["class_weights"]
            keep = HEAD.arrays["rm_prob"][case].astype(dtype)
            (total, aux), gradients = step(
                given["params"], features, given["batch_stats"], keep, weights.astype(dtype),
                np.dtype(dtype).type(fraction),
            )  # fmt: skip
            return jax.device_get((total, *aux, gradients))

        yield dtype, run


def golden(name, dtype):
    return HEAD.arrays.get(f"{name}_f64" if dtype == "float64" else name)


@pytest.mark.parametrize("case", range(3), ids=CASES)
def test_activations(run, case):
    dtype, step = run
    _, outputs, updated, _, _ = step(case, 0, 0.5)
    close = TOLERANCE[dtype][0]
    reference.assert_close(outputs["logits"], reference.nhwc(golden("semantic", dtype)), close)
    reference.assert_close(
        outputs["logits_drop"], reference.nhwc(golden("semantic_drop", dtype)[case]), close
    )
    # What follows is in the file in float32 alone.
    refined = reference.nhwc(HEAD.arrays["A_drop"][case])
    reference.assert_close(outputs["features_drop"], refined, 5e-6)
    statistics = updated["batch_stats"]["refine"]["norm"]
    reference.assert_close(statistics["mean"], HEAD.arrays["bn_running_mean_after"][case], 5e-6)
    reference.assert_close(statistics["var"], HEAD.arrays["bn_running_var_after"][case], 5e-6)


@pytest.mark.parametrize("fraction", range(4))
@pytest.mark.parametrize("weighting", [0, 1], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("case", range(3), ids=CASES)
def test_losses_and_gradients(run, case, weighting, fraction):
    dtype, step = run
    fractions = HEAD.arrays["fractions"]
    total, _, _, terms, (params, features) = step(case, weighting, fractions[fraction])
    at = (case, weighting, fraction)
    close, close_gradient = TOLERANCE[dtype]

    got = [pixels.mean(terms[name]) for name in ("plain", "drop", "suppression")]
    expected = golden("losses", dtype)[at]
    np.testing.assert_allclose([*got, total], expected, rtol=close, atol=close)

    def gradient(name, ours):
        theirs = golden(name, dtype)
        if theirs is None:  # not in the file in float64
            theirs, tolerance = HEAD.arrays[name], 2e-6
        else:
            tolerance = close_gradient
        theirs = theirs[at]
        if theirs.ndim == 4:
            theirs = theirs.transpose(2, 3, 1, 0)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1, abs(theirs).max()))

    gradient("grad_classifier_weight", params["classifier"]["kernel"])
    gradient("grad_classifier_bias", params["classifier"]["bias"])
    gradient("grad_clsdrop_conv_weight", params["refine"]["conv"]["kernel"])
    gradient("grad_clsdrop_conv_bias", params["refine"]["conv"]["bias"])
    gradient("grad_clsdrop_bn_weight", params["refine"]["norm"]["scale"])
    gradient("grad_clsdrop_bn_bias", params["refine"]["norm"]["bias"])
    if fraction in (1, 3):  # those that the file holds
        expected = reference.nhwc(HEAD.arrays["grad_A"][case, weighting, fraction // 2])
        # At A = 0 relu(S A) has no derivative; the reference takes that of S A. A is a ReLU's
        # output there, whose own derivative hides the choice from the network.
        active = reference.nhwc(HEAD.arrays["A"]) > 0
        assert active.mean() > 0.3
        difference = np.abs(features - expected)[active].max()
        assert difference <= 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("case", range(3), ids=CASES)
def test_pieces(case):
    """The importance and the averaged features, before any refinement."""
    features = jnp.asarray(reference.nhwc(HEAD.arrays["A"]))
    given = variables("float32")["params"]["classifier"]
    keep = jnp.asarray(HEAD.arrays["rm_prob"][case])

    def head(x):
        return x @ given["kernel"][0, 0] + given["bias"]

    weights = dropclass.shared_importance(head, C)
    mean_weight = keep @ nn.relu(weights) / keep.sum()
    reference.assert_close(mean_weight, HEAD.arrays["importance"][case], 5e-6)
    expected = reference.nhwc(HEAD.arrays["feat_avg"][case])
    shared = dropclass.average_features_shared(features, weights, keep)
    reference.assert_close(shared, expected, 5e-6)
    reference.assert_close(dropclass.average_features(features, head, keep), expected, 5e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inference_drops_nothing(dtype, importance):
    with jax.enable_x64(dtype == "float64"):
        model = Segmenter(Given(), as_given, K, {"importance": importance})
        features = reference.nhwc(HEAD.arrays["A"]).astype(dtype)
        outputs = jax.device_get(model.apply(variables(dtype), features))
    reference.assert_close(
        outputs["features_drop"], reference.nhwc(HEAD.arrays["eval_A_drop"]), 5e-6
    )
    reference.assert_close(outputs["logits_drop"], reference.nhwc(HEAD.arrays["eval_output"]), 5e-6)
