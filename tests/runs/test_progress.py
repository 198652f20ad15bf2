"""What a log line says of the steps since the last one."""

import jax.numpy as jnp
import numpy as np

from dropclass_jax.runs.progress import means

STEPS = [
    {"loss": 4.0, "loss_drop": 1.0, "dropped_classes": 2.0, "lr": 0.3, "p": 0.1, "skipped": 0},
    {"loss": 2.0, "loss_drop": 3.0, "dropped_classes": 1.0, "lr": 0.2, "p": 0.2, "skipped": 1},
]


def test_losses_are_averaged_and_coefficients_are_the_last():
    expected = {
        **{"loss": 3.0, "loss_drop": 2.0, "dropped_classes": 1.5},
        **{"lr": 0.2, "p": 0.2, "skipped": 1.0},
    }
    assert means(STEPS) == expected
    on_device = [{name: jnp.float32(x) for name, x in step.items()} for step in STEPS]
    got = means(on_device)
    assert {name: round(value, 6) for name, value in got.items()} == expected
    assert all(type(value) is float for value in got.values())
    assert means(STEPS[1:]) == STEPS[1]


def test_a_step_that_was_left_out_does_not_spoil_them():
    bad = {**STEPS[0], "loss": np.nan, "loss_drop": np.inf}
    got = means([bad, STEPS[1]])
    assert got["loss"] == 2
    assert got["loss_drop"] == 3
    assert np.isnan(means([bad])["loss"])
