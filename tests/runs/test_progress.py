"""What a log line says of the steps since the last one, and TensorBoard of an evaluation."""

import jax.numpy as jnp
import numpy as np

from dropclass_jax.runs.progress import means, score_curves

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


def test_tensorboard_gets_the_tail_and_every_class():
    shares = {"sky": 0.6, "road": 0.38, "traffic light": 0.008, "a/b": 0.002, "pole": 0.01}
    classes = [{"name": name, "train_pixel_share": share} for name, share in shares.items()]
    scores = {
        "iou": np.array([0.9, 0.8, 0.1, np.nan, 0.5]), "mean_iou": 0.575, "pixel_accuracy": 0.7,
    }  # fmt: skip
    curves = score_curves("val_out", "drop", scores, classes)
    assert {tag: round(value, 6) for tag, value in curves.items()} == {
        "val_out/drop/mean_iou": 0.575,
        "val_out/drop/pixel_accuracy": 0.7,
        "val_out/drop/mean_iou of head classes": 0.85,
        "val_out/drop/mean_iou of medium classes": 0.5,
        "val_out/drop/mean_iou of tail classes": 0.1,
        "val_out class IoU/drop/sky": 0.9,
        "val_out class IoU/drop/road": 0.8,
        "val_out class IoU/drop/traffic light": 0.1,
        "val_out class IoU/drop/pole": 0.5,
    }
