"""A run's folder: who may have it, and what becomes of files that are damaged there."""

from __future__ import annotations

import json
import os

import pytest

from dropclass_jax import train
from dropclass_jax.errors import UserError
from dropclass_jax.experiment.config import load_config
from dropclass_jax.files import SUFFIX
from dropclass_jax.runs import checkpoint, records, rundir, starts

DAMAGED = ["", "[]", "null", '{"step": ', b"\xff\xfe\x00"]


@pytest.fixture
def values():
    return load_config("configs/streets.py:tiny").to_dict()


def damage(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_the_config_is_written_when_it_changes_and_only_then(tmp_path, values):
    """A kill while it is written finds the old one or the new one; mostly nothing is written."""
    rundir.claim(tmp_path, values, "data")
    written = [(tmp_path / name).stat().st_ino for name in ("config.json", "data.json")]
    rundir.claim(tmp_path, values, "data")
    assert [(tmp_path / name).stat().st_ino for name in ("config.json", "data.json")] == written
    values["log_every"] = 7
    rundir.claim(tmp_path, values, "data")
    assert json.loads((tmp_path / "config.json").read_text())["log_every"] == 7
    assert (tmp_path / "data.json").stat().st_ino == written[1]


@pytest.mark.parametrize(
    "names",
    [
        ["lock"], [f".config.json.1a2b3c4d{SUFFIX}"], ["data.json"], ["config.json"],
        ["config.tmp", "lock", "tensorboard", "checkpoints", "metrics.jsonl"],
    ],
)  # fmt: skip
def test_a_folder_of_nothing_but_our_own_leftovers_is_adopted(tmp_path, values, names):
    """As a kill at the very start leaves it, or a full disk: with empty files."""
    for name in names:
        (tmp_path / name).touch() if "." in name or name == "lock" else (tmp_path / name).mkdir()
    rundir.claim(tmp_path, values, "data")
    assert rundir.read_config(tmp_path) == json.loads(json.dumps(values))


def test_a_stranger_s_file_beside_our_leftovers_is_not(tmp_path, values):
    for name in ("config.json", "lock", "thesis.tex"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"not empty and holds no run \(thesis.tex\)"):
        rundir.claim(tmp_path, values, "data")


@pytest.mark.parametrize("content", [*DAMAGED, '{"optim": 3}', "{}"])
def test_a_damaged_config_beside_checkpoints_says_what_to_do(tmp_path, values, content):
    rundir.claim(tmp_path, values, "data")
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    damage(tmp_path / "config.json", content)
    for use in (
        lambda: rundir.claim(tmp_path, values, "data"),
        lambda: rundir.read_config(tmp_path),
    ):
        with pytest.raises(UserError, match=r"config.json is damaged: delete it and train on with"):
            use()
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"config.json is missing, but checkpoints: train on with"):
        rundir.read_config(tmp_path)
    with pytest.raises(UserError, match="a run on other data"):
        rundir.claim(tmp_path, values, "other")
    told = []
    rundir.claim(tmp_path, values, "data", say=told.append)
    assert told == [f"{tmp_path} has checkpoints but no config.json: taken to be of this config"]
    assert rundir.read_config(tmp_path) == json.loads(json.dumps(values))


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("name", ["run.json", "data.json", "best.json"])
def test_small_files_that_cannot_be_read_are_moved_aside(tmp_path, values, name, content):
    rundir.claim(tmp_path, values, "data")
    damage(tmp_path / name, content)
    told = []
    rundir.claim(tmp_path, values, "data", say=told.append)
    aside = f"damaged_{name}"
    assert told == [f"{tmp_path / name} cannot be read: moved to {aside}"]
    assert (tmp_path / aside).exists()
    assert rundir.read_info(tmp_path) is None


def test_a_full_disk_at_the_first_start_is_no_obstacle_to_the_next(tmp_path, values, monkeypatch):
    def fsync(file):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(UserError, match="cannot be written: No space left on device"):
            rundir.claim(tmp_path, values, "data")
    rundir.claim(tmp_path, values, "data")


def test_the_best_evaluation_is_found_again(tmp_path):
    heads = [("drop", (0.2, 0.5, 0.5, 0.3)), ("plain", (0.9, 0.9, 0.9, 0.9))]
    for n in range(4):
        for head, scores in heads:
            about = {"kind": "eval", "step": 3 * n, "split": "val", "head": head}
            records.append(tmp_path, [{**about, "mean_iou": scores[n]}])
    assert checkpoint.read_best(tmp_path) == (3, 0.5, "val")
    for content in ("", "[]", '{"step": 3}', '{"step": "3", "mean_iou": null}'):
        damage(tmp_path / "best.json", content)
        assert checkpoint.read_best(tmp_path) == (3, 0.5, "val")
    checkpoint.note_evaluation(tmp_path, 9, 0.3, "val")
    best = {"step": 3, "mean_iou": 0.5, "split": "val"}
    assert json.loads((tmp_path / "best.json").read_text()) == best


def test_the_best_is_of_one_split(tmp_path, capsys):
    """An easier split that is evaluated from some step on does not displace by its scores."""
    for step, split, mean_iou in ((3, "val", 0.5), (6, "val", 0.4), (9, "val_out", 0.3)):
        checkpoint.note_evaluation(tmp_path, step, mean_iou, split)
        about = {"kind": "eval", "step": step, "split": split, "head": "drop"}
        records.append(tmp_path, [{**about, "mean_iou": mean_iou}])
        if split == "val":
            assert checkpoint.read_best(tmp_path) == (3, 0.5, "val")
    said = "the best checkpoint was by val; it is by val_out from step 9 on"
    assert said in capsys.readouterr().out
    assert checkpoint.read_best(tmp_path) == (9, 0.3, "val_out")
    (tmp_path / "best.json").unlink()
    assert checkpoint.read_best(tmp_path) == (9, 0.3, "val_out")
    damage(tmp_path / "best.json", '{"step": 3, "mean_iou": 0.5}')  # of an earlier version
    checkpoint.note_evaluation(tmp_path, 12, 0.4, "val")
    assert checkpoint.read_best(tmp_path) == (3, 0.5, None)


@pytest.fixture
def config(tmp_path_factory, named_tiny, no_page):
    """Six steps, two of which are recorded."""
    config = load_config("configs/streets.py:tiny")
    config.data.prepared_dir = str(tmp_path_factory.getbasetemp() / "prepared_for_rundir")
    config.data.options.update(train=8, val=2, val_out=2)
    config.augment.crop = (32, 48)
    config.eval.splits = ("val",)
    config.update(total_steps=6, log_every=3)
    config.eval.every_steps = config.checkpoint.every_steps = 3
    return config


SMALL = ("run.json", "data.json", "best.json", "metrics.jsonl", "config.json")


def test_a_run_does_not_die_of_files_that_vanish_or_break_under_it(config, tmp_path, monkeypatch):
    line = train.Progress.train

    def interfere(self, step, scalars):
        for name in SMALL:
            (tmp_path / name).unlink(missing_ok=True) if step == 3 else damage(
                tmp_path / name, b"\xff{"
            )
        line(self, step, scalars)

    monkeypatch.setattr(train.Progress, "train", interfere)
    assert train.train(config, tmp_path) == 0
    assert len(starts.starts(tmp_path)) == 1
    found, unreadable = records.read(tmp_path)
    assert [r["step"] for r in found if r["kind"] == "train"] == [6]
    assert unreadable == 1


@pytest.mark.parametrize("method", ["train", "eval", "picture", "close"])
def test_a_full_disk_ends_a_run_in_one_line(config, tmp_path, monkeypatch, method):
    """The code of a user's mistake, so that nobody tries again; the last checkpoint is good."""
    whole = getattr(train.Progress, method)

    def full(*arguments):
        raise OSError(28, os.strerror(28), "metrics.jsonl")

    def until_now(self, *arguments):
        if method != "train" or arguments[0] == 6:
            for module, name in ((records, "append"), (type(self._board), "image"),
                                 (type(self._board), "close")):  # fmt: skip
                monkeypatch.setattr(module, name, full)
        return whole(self, *arguments)

    monkeypatch.setattr(train.Progress, method, until_now)
    with pytest.raises(UserError, match=r"cannot be written: No space left .*metrics\.jsonl"):
        train.train(config, tmp_path)
    monkeypatch.undo()
    saved = checkpoint.restore_variables(tmp_path, checkpoint.variable_shapes(tmp_path))
    assert saved[1] == (6 if method == "close" else 3)
