"""Evaluating a finished run: views, padding, counts of every image, and the command's flags."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import jax
import numpy as np
import pytest
import tiny
from absl import flags

from dropclass_jax import evaluate
from dropclass_jax.cli import view_flags
from dropclass_jax.data import pipeline
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import boundary, inference, loop, step
from dropclass_jax.parallel import pmap
from dropclass_jax.runs import results, trained_network

HEADS = ("drop", "plain")


@pytest.fixture
def workdir(tiny_run, tmp_path, named_tiny):
    return shutil.copytree(tiny_run, tmp_path / "run")


def read(workdir):
    return json.loads((workdir / "metrics.json").read_text())


def test_evaluate_gives_what_training_gave(workdir):
    before, counts = read(workdir), dict(np.load(workdir / "images.npz"))
    (workdir / "metrics.json").unlink()
    content = evaluate.evaluate_run(workdir, splits=["val"])
    assert content["results"] == [r for r in before["results"] if r["split"] == "val"]
    again = dict(np.load(workdir / "images.npz"))
    assert sorted(again) == ["val/drop/counts", "val/ids", "val/plain/counts"]
    for key, value in again.items():
        np.testing.assert_array_equal(value, counts[key])
    with pytest.raises(UserError, match=r"no split 'test'; it has train, val, val_out"):
        evaluate.evaluate_run(workdir, splits=["test"])


def test_other_data_than_it_was_trained_on_is_told(workdir, capsys):
    trained_network.load_data(workdir)
    assert "other data" not in capsys.readouterr().out
    facts = json.loads((workdir / "data.json").read_text())
    (workdir / "data.json").write_text(json.dumps({**facts, "fingerprint": "before"}))
    trained_network.load_data(workdir)
    said = f"note: {workdir} was trained on other data than this: its source, or the options"
    assert said in capsys.readouterr().out


def test_the_command_keeps_other_views_apart(workdir):
    before, counts = read(workdir), (workdir / "images.npz").read_bytes()
    done = subprocess.run(
        [sys.executable, tiny.__file__, "dropclass_jax.evaluate", f"--workdir={workdir}",
         "--split=val", "--head=drop", "--window=24,32", "--scales=0.5", "--flip"],
        capture_output=True, text=True, env=tiny.environment(page=True), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name = "slide 24x32/16x21, scales 0.5, flip"
    assert f"val, drop head, 5 images, {name}; baseline: val, drop head" in done.stdout
    assert "plain head" not in done.stdout
    assert "written: " in done.stdout
    after = read(workdir)
    assert after["results"] == before["results"]
    assert [r["inference"] for r in after["results"]] == ["whole"] * 4
    assert (workdir / "images.npz").read_bytes() == counts
    (entry,) = after["view_results"]
    assert (entry["split"], entry["head"], entry["inference"]) == ("val", "drop", name)
    whole = after["results"][0]
    assert entry["pixels"] == whole["pixels"]
    assert entry["confusion"] != whole["confusion"]
    assert "Seen in other ways" in (workdir / "report.html").read_text()
    assert len((workdir / "metrics.csv").read_text().splitlines()) == 1 + 5 * 19


def test_one_window_scores_as_the_whole_image_and_both_are_kept(workdir):
    views = inference.Views(window=(500, 500))
    before = read(workdir)
    content = evaluate.evaluate_run(workdir, views=views)
    for entry, whole in zip(content["view_results"], content["results"], strict=True):
        assert {**entry, "inference": "whole"} == whole
    assert content["results"] == before["results"]


def test_a_folder_that_cannot_be_written_is_told_before_the_work(workdir, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def score(*args):
        raise AssertionError("scored in vain")

    for part, when in ((tempfile, "TemporaryFile"), (results, "write")):
        with monkeypatch.context() as patch:
            patch.setattr(part, when, refuse)
            if part is tempfile:
                patch.setattr(evaluate, "evaluate_split", score)
            with pytest.raises(UserError, match=f"{workdir} cannot be written: Read-only file sys"):
                evaluate.evaluate_run(workdir, splits=["val"])
    monkeypatch.setattr(evaluate, "evaluate_split", score)
    with pytest.raises(UserError, match="no split 'test'"):
        evaluate.evaluate_run(workdir, splits=["val", "test"])


class Sizes:
    """Images of several sizes, of a run's data."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return 5

    def __getitem__(self, index):
        example = self.source[index]
        rows, columns = 128 - 16 * index, 160 + 24 * (index % 3)
        cut = {name: example[name][:rows, :columns] for name in ("image", "label")}
        return {**cut, "id": f"größe {index}"}


def test_padding_counts_for_nothing(workdir):
    """Every image is scored as its own size would have it, and by its own diagonal."""
    run = trained_network.load(workdir)
    dataset = trained_network.load_data(workdir)
    source = Sizes(dataset.splits["val"])
    evaluation = loop.evaluate_batches(
        pmap.pmap_eval(step.bind(run.model, run.info)),
        run.variables,
        pipeline.eval_iterator(source, batch_size=8),
        sample_at=range(5),
    )
    np.testing.assert_array_equal(evaluation.ids, [f"größe {i}" for i in range(5)])
    count = jax.jit(boundary.count, static_argnums=3)
    expected = np.zeros((19, 2), np.int64)
    for index, sample in enumerate(evaluation.samples):
        label, predicted = source[index]["label"], sample["prediction"]
        assert label.shape == predicted.shape
        found = evaluation.counts["drop"][index]
        for k in range(19):
            answer = (predicted == k) & (label != 255)
            hits = (answer & (label == k)).sum()
            assert tuple(found[k]) == (hits, (label == k).sum(), answer.sum())
        distance = boundary.distance(np.array([label.shape]))
        expected += np.asarray(count(label[None], predicted[None], distance, 19))
    np.testing.assert_array_equal(evaluation.boundaries["drop"], expected)
    confusion = evaluation.confusions["drop"]
    np.testing.assert_array_equal(evaluation.counts["drop"][:, :, 1].sum(0), confusion.sum(1))


def views_of(*arguments, crop=(128, 256)):
    given = flags.FlagValues()
    view_flags.define(given)
    given(["evaluate", *arguments])
    return view_flags.read(crop, given)


@pytest.mark.parametrize(
    ("arguments", "views"),
    [
        ([], inference.WHOLE),
        (["--mode=whole", "--flip"], inference.Views(flip=True)),
        (["--mode=slide"], inference.Views((128, 256))),
        (["--stride=64,64"], inference.Views((128, 256), (64, 64))),
        (["--window=96,80", "--stride=48,40"], inference.Views((96, 80), (48, 40))),
        (["--scales=0.75,1,1.25"], inference.Views(scales=(0.75, 1, 1.25))),
    ],
)
def test_flags_say_the_views(arguments, views):
    assert views_of(*arguments) == views


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode=whole", "--window=9,9"], "--mode=whole has no window: leave out --window and"),
        (["--window=128"], "--window is two whole numbers of pixels, as 512,1024, not '128'"),
        (["--stride=1,a"], "--stride is two whole numbers of pixels, as 512,1024, not '1,a'"),
        (["--window=0,8"], "window 0x8: height and width are 1 or more"),
        (["--window=64,64", "--stride=65,64"], "stride 65x64 does not fit window 64x64: it is 1"),
        (["--scales=big"], "--scales is factors with commas, as 0.75,1,1.25, not 'big'"),
        (["--scales=1,-1"], "scales 1,-1: give one or more factors above 0"),
    ],
)
def test_flags_that_cannot_be_met_are_one_line(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        views_of(*arguments)
    assert "\n" not in str(raised.value)


def test_a_batch_that_does_not_fit_the_devices_is_refused(workdir):
    with pytest.raises(UserError, match=r"eval\.batch_size is a multiple of the 8 devices, not 3"):
        evaluate.evaluate_run(workdir, batch_size=3)
