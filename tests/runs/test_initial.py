"""What a run starts from, and how its images are normalised."""

from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from facts import facts_only
from tiny import BACKBONES, INFO, save_run

from dropclass_jax import convert, models
from dropclass_jax.errors import UserError
from dropclass_jax.experiment import build
from dropclass_jax.experiment.batches import load_data
from dropclass_jax.experiment.config import load_config
from dropclass_jax.experiment.network import create_network
from dropclass_jax.models import weight_files, weight_sources
from dropclass_jax.models.normalization import Normalization
from dropclass_jax.models.variables import init_shapes, init_variables
from dropclass_jax.runs import checkpoint, initial, rundir

OWN = Normalization((0.1, 0.2, 0.3), (0.5, 0.25, 0.125))


@pytest.fixture
def own_normalization(named_tiny, monkeypatch):
    """The tiny network wants images normalised in a way of its own."""
    wanting = BACKBONES["tiny"]._replace(normalization=OWN)
    monkeypatch.setattr(models, "BACKBONES", {**models.BACKBONES, "tiny": wanting})


def test_a_network_s_normalization_comes_before_the_data_s(own_normalization, tmp_path):
    config = load_config("configs/streets.py:tiny")
    built = build.build(config, facts_only("streets"))
    for step in (built.train_step, built.eval_step):
        np.testing.assert_allclose(step.keywords["image_mean"], OWN.mean)
        np.testing.assert_allclose(step.keywords["image_std"], OWN.std)

    config.data.prepared_dir = str(tmp_path)
    config.data.options.update(train=1, val=1, val_out=1)
    info = load_data(config).info  # what the run keeps
    assert Normalization(info.mean, info.std) == OWN
    config.model.name = "hrnet_w18_small_v1"
    assert load_data(config).info.mean == facts_only("streets").info.mean


def test_a_run_is_not_continued_or_scored_with_another_normalization(named_tiny, tmp_path):
    workdir = save_run(tmp_path / "run", INFO)
    rundir.check_normalization(workdir, INFO)
    other = dataclasses.replace(INFO, mean=OWN.mean)
    for refused in (
        lambda: rundir.check_normalization(workdir, other),
        lambda: rundir.claim(workdir, json.loads((workdir / "config.json").read_text()), "data",
                             other),
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"was trained on images of mean \(0.485, .*\(0.1, "):
            refused()
    kept = json.loads((workdir / "data.json").read_text())
    assert tuple(kept["mean"]) == INFO.mean


@pytest.mark.parametrize(
    ("wanted", "network", "fine"),
    [
        (Normalization((0.5,) * 3, (0.5,) * 3), "efficientnet_lite0", True),  # timm's tf_...
        (Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "efficientnet_lite0", False),
        (Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "resnet50", True),
        (Normalization((0.5,) * 3, (0.5,) * 3), "mobilenet_v3_large", False),
        (None, "efficientnet_lite0", True),
    ],
)
def test_weights_that_want_other_images_are_refused(tmp_path, monkeypatch, wanted, network, fine):
    path = tmp_path / "file.npz"
    weight_files.write(path, {"x": np.ones(2, np.float32)})
    source = weight_sources.Source(path, "hf:some/net", wanted)
    monkeypatch.setattr(weight_sources, "find", lambda spec, network: source)
    if fine:
        assert list(initial.fetch("hf:some/net", network).arrays) == ["x"]
    else:
        with pytest.raises(UserError, match=f"hf:some/net want images of mean .*{network} gets"):
            initial.fetch("hf:some/net", network)


def test_another_network_s_weights_are_refused_by_file_and_name(named_tiny, monkeypatch, tmp_path):
    run = save_run(tmp_path / "run", INFO)
    few = {name: models.BACKBONES[name] for name in ("mobilenet_v3_small", "tiny")}
    monkeypatch.setattr(models, "BACKBONES", few)
    network = models.create("mobilenet_v3_small", 2)
    with pytest.raises(UserError) as error:
        initial.read(str(run), "mobilenet_v3_small", network)
    assert str(error.value).startswith(f"{run} for mobilenet_v3_small: ")
    assert str(error.value).endswith("They fit the network tiny")
    shutil.rmtree(run)
    with pytest.raises(UserError, match="do not exist"):
        initial.read(str(run), "mobilenet_v3_small", network)


def test_a_classifier_of_other_classes_starts_afresh(named_tiny, tmp_path):
    run = save_run(tmp_path / "run", INFO)
    network = create_network(load_config("configs/streets.py:tiny"), INFO.num_classes)
    fresh = init_variables(network, jax.random.key(5))
    weights = initial.read(str(run), "tiny", network)
    everything = checkpoint.restore_variables(run, dict(init_shapes(network)))[0]

    same, report = initial.start(fresh, weights, INFO.classes)
    jax.tree.map(np.testing.assert_array_equal, same, everything)
    assert "afresh" not in report
    assert "other classes" not in report

    swapped, report = initial.start(fresh, weights, INFO.classes[::-1])
    mixed = {**everything["params"], "classifier": fresh["params"]["classifier"]}
    jax.tree.map(np.testing.assert_array_equal, swapped, {**everything, "params": mixed})
    assert report.startswith(f"{run}: ")
    assert "start afresh: classifier (2)" in report
    assert report.endswith(f"; it was trained on other classes ({', '.join(INFO.classes)})")

    for suffix in weight_files.OUR_SUFFIXES:  # a converted file tells them as well
        convert.convert(run, tmp_path / f"file{suffix}", "tiny")
        converted = initial.read(str(tmp_path / f"file{suffix}"), "tiny", network)
        swapped, _ = initial.start(fresh, converted, INFO.classes[::-1])
        jax.tree.map(np.testing.assert_array_equal, swapped, {**everything, "params": mixed})

    (run / "data.json").unlink()  # as of an older version: there is nothing to tell them by
    older = initial.read(str(run), "tiny", network)
    loaded, _ = initial.start(fresh, older, INFO.classes[::-1])
    jax.tree.map(np.testing.assert_array_equal, loaded, everything)


def test_weights_that_are_not_finite_are_refused(named_tiny, tmp_path):
    run = save_run(tmp_path / "run", INFO)
    convert.convert(run, tmp_path / "file.npz", "tiny")
    arrays = weight_files.read(tmp_path / "file.npz")
    name = sorted(arrays)[0]
    arrays[name] = np.full_like(arrays[name], np.nan)
    weight_files.write(tmp_path / "file.npz", arrays)
    with pytest.raises(UserError, match=f"file.npz: '{name}' holds numbers that are not finite"):
        initial.fetch(str(tmp_path / "file.npz"), "tiny")
