"""From the archives as they are downloaded to a training step on their pixels."""

from __future__ import annotations

import fabricate
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax.data import pipeline
from dropclass_jax.errors import UserError
from dropclass_jax.experiment import build
from dropclass_jax.experiment.batches import load_data
from dropclass_jax.experiment.config import load_config
from dropclass_jax.parallel import pmap
from dropclass_jax.training import state


@pytest.fixture
def config(tmp_path, named_tiny):
    def config(name):
        config = load_config(f"configs/{name}.py:tiny")
        config.data.dir = str(tmp_path)
        config.data.prepared_dir = str(tmp_path / "prepared")
        return config

    return config


@pytest.mark.parametrize(
    ("name", "write", "train_ids"),
    [
        ("cityscapes", fabricate.write_cityscapes, fabricate.CITYSCAPES_IDS["train"]),
        ("voc", fabricate.write_voc, [*fabricate.VOC_IDS["train"], "2008_000002", "2008_000003"]),
    ],
)
def test_from_archives_to_a_step(name, write, train_ids, config, tmp_path):
    write(tmp_path)
    config = config(name)
    dataset = load_data(config)
    batch = next(pipeline.eval_iterator(dataset.splits["train"], batch_size=8))
    assert list(batch["id"][batch["valid"]]) == train_ids
    built = build.build(config, dataset)
    shapes = jax.eval_shape(built.model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    before = state.from_variables(zeros, built.optimizer)
    arrays = pmap.shard({"image": batch["image"], "label": batch["label"]})
    arguments = before, arrays, jax.random.key(0)
    after, scalars = pmap.pmap_step(built.train_step).lower(*arguments).compile()(*arguments)
    # A network of zeros guesses, whatever the weights of the classes and what is ignored.
    np.testing.assert_allclose(scalars["loss"], np.log(dataset.info.num_classes), rtol=1e-4)
    assert after.step == 1
    assert np.abs(after.params["classifier"]["bias"]).max() > 0


def test_a_split_to_train_on_that_is_not_there_is_named(config, tmp_path):
    fabricate.write_voc(tmp_path)
    (tmp_path / "benchmark.tgz").unlink()
    settings = config("voc")
    with pytest.raises(UserError, match=r"voc has no split 'train_aug' to train on; it has train"):
        load_data(settings)
    settings.data.train_split = "train"
    assert len(load_data(settings).splits["train"]) == 2
