"""Five SGD steps of HRNet-W18-small-v1 with DropClass against the authors' code."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from flax import traverse_util

from dropclass_jax import models, schedules
from dropclass_jax.models import pretrained
from dropclass_jax.models.torch_names import torch_keys
from dropclass_jax.training import optimizers, state, step
from dropclass_jax.training.recipe import Recipe

# (losses of each step, eval logits, norms of the state), as the fixtures' README recommends.
TOLERANCE = {
    ("", "float32"): ((1e-5, 1e-5, 2e-4, 1e-3, 4e-3), 2e-2, 1.2e-3),
    ("_lr1e-3", "float32"): ((1e-5, 1e-5, 1e-5, 1e-5, 1.5e-4), 5e-4, 2e-5),
    ("", "float64"): ((1e-8,) * 5, 1e-6, 1e-6),
    ("_lr1e-3", "float64"): ((1e-8,) * 5, 1e-6, 1e-6),
}
# float64 is the sharper test; float32 has the numbers that users see, by a program of its own.
RUNS = {
    ("", "float64"): (),
    ("", "float32"): pytest.mark.slow,
    ("_lr1e-3", "float32"): pytest.mark.slow,
}


class Settings(NamedTuple):
    """What a program of the reference's training is compiled for."""

    num_classes: int
    bn_momentum: float
    sgd_momentum: float
    weight_decay: float
    alpha: float

    @property
    def model(self):
        return models.create(
            "hrnet_w18_small_v1", self.num_classes, bn_momentum=1 - self.bn_momentum
        )

    def optimizer(self, rates):
        """SGD with a learning rate for each step."""
        return optimizers.create(
            "sgd", lambda n: rates[n], momentum=self.sgd_momentum, weight_decay=self.weight_decay
        )


# Compiling is most of the cost, so that the rates are arguments: both float32 runs share this.
@partial(jax.jit, static_argnames="settings")
def update(current, images, labels, keep, lambda_, rates, class_weights, settings):
    recipe = Recipe(settings.model, settings.optimizer(rates), class_weights=class_weights)
    return step.update(current, images, labels, keep, lambda_, settings.alpha, recipe)


@partial(jax.jit, static_argnames="settings")
def evaluate(variables, image, settings):
    return settings.model.apply(variables, image)


@pytest.fixture(
    scope="module",
    params=[pytest.param(run, marks=marks) for run, marks in RUNS.items()],
    ids=lambda run: f"lr{run[0] or '0.01'}-{run[1]}",
)
def trajectory(request):
    """The five steps, run with our own step, optimizer and schedules."""
    suffix, dtype = request.param
    run = reference.load(f"train_hrnet_w18_small_v1_5steps{suffix}")
    meta = run.meta
    settings = Settings(
        meta["num_classes"], meta["bn_momentum"], meta["momentum"], meta["weight_decay"],
        meta["alpha"],
    )  # fmt: skip
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        shapes = jax.eval_shape(settings.model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        variables, _ = pretrained.load_state_dict(shapes, reference.weights(run, dtype))
        # The counter of the reference jumps (0, 2, 4, 6, 7 of 8), and its rate lags a step.
        rate = schedules.poly(meta["lr"], meta["end_epoch"], power=meta["power"], lag=0)
        rates = jax.vmap(rate)(jnp.asarray([0, *meta["epochs"][:-1]]))
        before = state.from_variables(variables, settings.optimizer(rates))
        lambda_ = schedules.ramp("linear", 1, 0, meta["end_epoch"])
        class_weights = run.arrays["class_weights"].astype(dtype)

        current, first, losses = before, None, []
        for n, epoch in enumerate(meta["epochs"]):
            images = reference.image(meta["image_rng"][n], meta["image_shape"]).astype(dtype)
            keep = run.arrays["rm_prob"][n].astype(dtype)
            current, scalars = update(
                current, images, run.arrays["labels"][n], keep, lambda_(epoch), rates,
                class_weights, settings,
            )  # fmt: skip
            first = first or current
            fraction = epoch / meta["end_epoch"]
            losses.append(
                [
                    scalars["loss"],
                    (1 - fraction) * scalars["loss_plain"],
                    fraction * scalars["loss_drop"],
                    meta["alpha"] * scalars["suppression"],
                    rates[n],
                ]
            )
        size = [1, 3, *meta["image_shape"][2:]]
        image = reference.image(meta["eval_rng"], size).astype(dtype)
        outputs = evaluate(current.variables, image, settings)
        yield request.param, run, jax.device_get((before, first, current, losses, outputs))


def golden(run, name, dtype):
    return run.arrays[f"{name}_f64" if dtype == "float64" else name]


def test_loss_terms_and_learning_rates(trajectory):
    (suffix, dtype), run, (_, _, _, losses, _) = trajectory
    expected = golden(run, "losses", dtype)
    for n, tolerance in enumerate(TOLERANCE[suffix, dtype][0]):
        np.testing.assert_allclose(losses[n], expected[n], rtol=tolerance, atol=tolerance)


def test_predictions_after_training(trajectory):
    (suffix, dtype), run, (_, _, _, _, outputs) = trajectory
    tolerance = TOLERANCE[suffix, dtype][1]
    for ours, theirs in (("logits", "eval_semantic"), ("logits_drop", "eval_output")):
        desired = reference.nhwc(golden(run, theirs, dtype))
        reference.assert_close(outputs[ours], desired, tolerance)


def test_every_parameter_and_statistic(trajectory):
    """The norm of each state entry after the five steps, by its PyTorch key."""
    (suffix, dtype), run, (_, _, after, _, _) = trajectory
    leaves = traverse_util.flatten_dict(after.variables)
    paths = torch_keys(after.variables)
    assert set(paths.values()) == set(leaves)
    for key, norm in zip(run.arrays["keys"], golden(run, "state_norm", dtype), strict=True):
        if not key.endswith("num_batches_tracked"):
            ours = np.linalg.norm(leaves[paths[key]].astype(np.float64))
            np.testing.assert_allclose(
                ours, norm, rtol=TOLERANCE[suffix, dtype][2], atol=1e-9, err_msg=key
            )


def test_gradients_of_the_first_step(trajectory):
    """From the momentum: after one step it is the gradient and the decay, nothing else."""
    (_, dtype), run, (before, first, _, _, _) = trajectory
    momentum = optax.tree.get(first.opt_state, "trace")
    decay = run.meta["weight_decay"]
    gradients = jax.tree.map(lambda m, p: m - decay * p, momentum, before.params)
    leaves = traverse_util.flatten_dict({"params": gradients})
    norms = dict(zip(run.arrays["keys"], golden(run, "grad_norm_step0", dtype), strict=True))
    compared = 0
    for key, path in torch_keys({"params": gradients}).items():
        if norms.get(key, 0) > 1e-6:  # the others are zero but for rounding, or another's names
            ours = np.linalg.norm(leaves[path].astype(np.float64))
            tolerance = 1e-4 if dtype == "float32" else 1e-8
            np.testing.assert_allclose(ours, norms[key], rtol=tolerance, err_msg=key)
            compared += 1
    assert compared > 200
