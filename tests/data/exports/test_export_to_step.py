"""From every export to a training step on its pixels, and from one of them to predictions."""

from __future__ import annotations

import cv2
import fabricate_exports as fake
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax import predict, train
from dropclass_jax.data import pipeline
from dropclass_jax.experiment import build
from dropclass_jax.experiment.batches import load_data
from dropclass_jax.experiment.config import load_config
from dropclass_jax.parallel import pmap
from dropclass_jax.training import state


@pytest.fixture
def config(tmp_path, named_tiny, no_page):
    config = load_config("configs/folder.py:tiny")
    config.data.dir = str(tmp_path / "export")
    config.data.prepared_dir = str(tmp_path / "prepared")
    config.augment.crop = (8, 8)
    return config


@pytest.fixture(scope="module")
def compiled():
    """The step of each number of classes, which all exports of so many share."""
    steps = {}

    def step(dataset, config, arrays):
        if (classes := dataset.info.num_classes) not in steps:
            built = build.build(config, dataset)
            image = jnp.zeros((1, 32, 32, 3))
            shapes = jax.eval_shape(built.model.init, jax.random.key(0), image)
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            before = state.from_variables(zeros, built.optimizer)
            lowered = pmap.pmap_step(built.train_step).lower(before, arrays, jax.random.key(0))
            steps[classes] = lowered.compile(), zeros, built.optimizer
        run, zeros, optimizer = steps[classes]
        before = state.from_variables(jax.tree.map(jnp.copy, zeros), optimizer)
        return run(before, arrays, jax.random.key(0))

    return step


@pytest.mark.parametrize("write", fake.EXPORTS.values(), ids=lambda write: write.__name__)
def test_from_an_export_to_a_step(write, config, compiled, tmp_path):
    written = write(tmp_path / "export")
    dataset = load_data(config)
    batch = next(pipeline.eval_iterator(dataset.splits["train"], batch_size=8))
    named = {name: label for labels in written.labels.values() for name, label in labels.items()}
    for name, label, valid in zip(batch["id"], batch["label"], batch["valid"], strict=True):
        if valid:
            np.testing.assert_array_equal(label, named[name])
    arrays = pmap.shard({"image": batch["image"], "label": batch["label"]})
    after, scalars = compiled(dataset, config, arrays)
    # A network of zeros guesses, whatever the weights of the classes and what is ignored.
    np.testing.assert_allclose(scalars["loss"], np.log(dataset.info.num_classes), rtol=1e-4)
    assert after.step == 1
    assert np.abs(after.params["classifier"]["bias"]).max() > 0


def test_from_an_export_to_predictions(config, tmp_path):
    """A run on Supervisely's project, which then colours its images as the project does."""
    fake.write_supervisely(tmp_path / "export")
    config.total_steps = config.log_every = config.checkpoint.every_steps = 2
    assert train.train(config, tmp_path / "run") == 0
    out = tmp_path / "out"
    images = tmp_path / "export" / "val" / "img"
    assert not predict.predict_run(tmp_path / "run", [images], out)
    index = cv2.imread(str(out / "index" / "c.png"), cv2.IMREAD_UNCHANGED)
    color = cv2.imread(str(out / "color" / "c.png"))[..., ::-1]
    assert index.shape == fake.SHAPE
    np.testing.assert_array_equal(color, fake.COLORS[index])
