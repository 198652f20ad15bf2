"""A file of class weights that is edited after a run has begun."""

from __future__ import annotations

import json

import pytest

from dropclass_jax.comparison import differences
from dropclass_jax.errors import UserError
from dropclass_jax.experiment.config import load_config
from dropclass_jax.files import read_object
from dropclass_jax.runs import given_weights, rundir
from dropclass_jax.sweeps import plan

METRICS = {"step": 3, "classes": []}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"road": 1, "sky": 2.0, "tree": 3}')
    return path


@pytest.fixture
def config(weights):
    config = load_config("configs/streets.py:tiny")
    config.loss.class_weights = str(weights)
    return config


def test_a_run_is_not_continued_with_other_weights(tmp_path, weights, config):
    values, workdir = config.to_dict(), tmp_path / "run"
    rundir.claim(workdir, values, "data")
    assert given_weights.kept(workdir) == read_object(weights)
    rundir.claim(workdir, values, "data")

    weights.write_text(json.dumps({"road": 1.0, "sky": 2, "tree": 3}, indent=2))  # as before
    rundir.claim(workdir, values, "data")
    weights.write_text('{"road": 1, "sky": 5, "tree": 4}')
    changed = r"another config: .*mine.json weighed 'sky' 2, now 5 \(and 1 more\)\. Choose another"
    with pytest.raises(UserError, match=changed):
        rundir.claim(workdir, values, "data")
    weights.write_text('{"road": 1, "sky": 2}')
    with pytest.raises(UserError, match=r"mine.json weighed 'tree' 3, now None\. Choose another"):
        rundir.check_free(workdir, values, "data")


def test_a_sweep_does_not_take_it_for_one_of_the_new_weights(tmp_path, weights, config):
    run = plan.plan(plan.Sweep("Why?", {"a": {}}), config, tmp_path, seeds=(0,))[0]
    rundir.claim(run.workdir, run.config.to_dict(), "data")
    assert not plan.is_finished(run)
    weights.write_text('{"road": 9, "sky": 2, "tree": 3}')
    with pytest.raises(
        UserError, match=r"mine.json weighed 'road' 1, now 9\. Choose another --dir"
    ):
        plan.is_finished(run)
    weights.unlink()  # nothing to compare with: what is finished stays so
    assert not plan.is_finished(run)


def test_a_comparison_names_the_weights_of_two_runs_by_one_name(tmp_path, weights, config):
    for name, road in (("a", 1), ("b", 7)):
        weights.write_text(json.dumps({"road": road, "sky": 2}))
        rundir.claim(tmp_path / name, config.to_dict(), "data")
    found = differences.between(
        [tmp_path / "a"], [tmp_path / "b"], [METRICS], [METRICS], ("plain", "plain")
    )
    assert found == [("class weights", "road 1, sky 2", "road 7, sky 2")]


def test_a_run_of_an_earlier_version_has_no_copy_and_gets_one(tmp_path, weights, config):
    rundir.claim(tmp_path / "run", config.to_dict(), "data")
    (tmp_path / "run" / given_weights.COPY).unlink()
    weights.write_text('{"road": 9}')
    rundir.claim(tmp_path / "run", config.to_dict(), "data")
    assert given_weights.kept(tmp_path / "run") == {"road": 9}


def test_a_rule_leaves_no_copy(tmp_path, config):
    config.loss.class_weights = "effective_number"
    rundir.claim(tmp_path / "run", config.to_dict(), "data")
    assert not (tmp_path / "run" / given_weights.COPY).exists()
