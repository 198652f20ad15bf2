"""The page is complete, self-contained, and says what the numbers say."""

import errno
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from html_page import Page
from report_fixture import CAMVID, STREETS, classes_of, entry_of, write_run

from dropclass_jax.cli import run_report
from dropclass_jax.cli.run_report import write_report
from dropclass_jax.errors import UserError
from dropclass_jax.reporting import wording


def render(workdir) -> Page:
    return Page(write_report(workdir).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """A full DropClass run with awkward names, its page, and its metrics."""
    palette = {("<b>R&D $x$</b>" if k == "rider" else k): v for k, v in STREETS.items()}
    workdir = write_run(tmp_path_factory.mktemp("runs") / "streets", palette, samples=1)
    return render(workdir), json.loads((workdir / "metrics.json").read_text())


def test_page_needs_nothing_but_itself(streets):
    page, _ = streets
    assert page.references
    assert all(ref.startswith(("data:image/png;base64,", "#")) for ref in page.references)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", page.source))
    assert "@import" not in page.source
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("svg") == 5
    assert page.tags.count("img") == 2


def test_page_escapes_names(streets):
    page, _ = streets
    assert "<b>R&D $x$</b>" in page.text
    assert "<b>R&D" not in page.source
    assert "&lt;b&gt;R&amp;D $x$&lt;/b&gt;" in page.source


def test_page_tells_the_headline_from_the_results(streets):
    page, metrics = streets
    drop, plain = metrics["results"][:2]
    assert f"its drop head reaches a mean IoU of {100 * drop['mean_iou']:.1f}%" in page.text
    tail = [
        iou
        for iou, about in zip(drop["iou"], metrics["classes"], strict=True)
        if iou is not None and about["train_pixel_share"] < 0.01
    ]
    assert f"Over the {len(tail)} tail classes" in page.text
    assert f"it is {100 * np.mean(tail):.1f}%" in page.text
    pixels = np.array(drop["pixels"])
    constant = pixels.max() / pixels.sum() / (pixels > 0).sum()
    assert f"would score {100 * constant:.1f}%" in page.text
    assert f"The plain head of the same network scores {100 * plain['mean_iou']:.1f}%" in page.text
    assert "Absent from val, neither labelled nor predicted there" in page.text
    assert "train (1 of 19 classes)" in page.text


def test_page_has_every_class_and_how_to_reproduce(streets):
    page, metrics = streets
    for about in metrics["classes"]:
        assert about["name"] in page.text
    assert metrics["command"] in page.text
    assert "6 min 52 s" in page.text
    assert "jax 0.10.2, flax 0.12.8" in page.text
    assert "The whole configuration" in page.text
    assert '"momentum": 0.9' in page.text


def test_page_of_a_plain_run_says_nothing_of_heads_and_context(tmp_path):
    page = render(
        write_run(tmp_path / "run", CAMVID, "camvid", dropclass=False, splits=("test",), samples=1)
    )
    assert "trained in the plain way" in page.text
    assert "drop head" not in page.text.lower()
    assert "context" not in page.text.lower()
    assert "1 class is never predicted (IoU 0): Pedestrian" in page.text


def test_page_of_other_views_compares_them_with_whole_images(tmp_path):
    run = write_run(tmp_path / "run", CAMVID, splits=("val",), steps=0, samples=0)
    metrics = json.loads((run / "metrics.json").read_text())
    assert "Seen in other ways" not in render(run).text
    drop, plain = metrics["results"]
    mean = drop["mean_iou"]
    metrics["view_results"] = [
        {**drop, "inference": "flip & <slide>", "mean_iou": mean + 0.0123},
        {**drop, "inference": "scales 2", "mean_iou": mean - 0.02},
        {**plain, "inference": "scales 2"},
    ]
    (run / "metrics.json").write_text(json.dumps(metrics))
    page = render(run)
    assert "Seen in other ways" in page.text
    assert f"flip & <slide>{100 * mean + 1.23:.1f}+1.2" in page.text
    assert f"scales 2{100 * mean - 2:.1f}-2.0" in page.text
    assert f"whole{100 * mean:.1f}" in page.text
    assert f"reaches a mean IoU of {100 * mean:.1f}%" in page.text
    assert f"scales 2{100 * plain['mean_iou']:.1f}0.0" in page.text


def test_page_of_metrics_alone(tmp_path):
    run = write_run(tmp_path / "run", dropclass=False, splits=("val",), steps=0, samples=0)
    (run / "config.json").unlink()
    page = render(run)
    assert page.tags.count("svg") == 3
    assert "img" not in page.tags
    assert "The course of training" not in page.text


def test_half_a_line_and_a_lost_loss_are_told(tmp_path):
    run = write_run(tmp_path / "run", CAMVID, dropclass=False, splits=("val",), samples=0)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"kind":"train","step":610,"loss":NaN,"lr":0.1}\n')
        file.write('{"kind":"train","step":620,"loss":null,"lr":0.1}\n{"kind":"tra')
    page = render(run)
    assert "The loss was not finite at 2 logged steps" in page.text
    assert "1 unreadable line was left out of metrics.jsonl" in page.text


def says(confusion, lines=(), other=None) -> str:
    entries = [entry_of(confusion, "val", "drop")]
    entries += [entry_of(other, "val", "plain")] if other is not None else []
    found = wording.findings(entries, classes_of(CAMVID), None, lines)
    return re.sub("<.*?>", "", " ".join(found))


def test_findings_say_that_a_network_answers_one_class():
    pixels = np.array([about["train_pixels"] for about in classes_of(CAMVID)])
    constant = np.zeros((11, 11))
    constant[:, 3] = pixels
    text = says(constant)
    assert "no better than always answering the commonest class (2.7% against 2.7%)" in text
    assert "10 classes are never predicted (IoU 0): Sky, Building," in text
    assert "no better" not in says(np.diag(pixels))
    assert "never predicted" not in says(np.diag(pixels))


def test_findings_compare_the_heads_both_ways():
    good, bad = np.eye(11) * 100, np.eye(11) * 100 + 10
    assert "below the drop head" in says(good, other=bad)
    assert "above the drop head" in says(bad, other=good)
    assert "level with the drop head" in says(good, other=good)


def test_findings_point_at_a_better_step_only_if_there_was_one():
    confusion = np.eye(11) * 100 + 10
    last = entry_of(confusion, "val", "drop")["mean_iou"]
    line = {"kind": "eval", "split": "val", "head": "drop"}
    lines = [line | {"step": 200, "mean_iou": last + 0.1}, line | {"step": 400, "mean_iou": last}]
    assert f"{100 * last + 10:.1f}% at step 200, 10.0 points above" in says(confusion, lines)
    lines[0]["mean_iou"] = last - 0.1
    assert "at step 200" not in says(confusion, lines)


def test_gap_in_words():
    classes = classes_of(CAMVID)
    good = entry_of(np.eye(11) * 100, "val", "drop")
    bad = entry_of(np.eye(11) * 100 + 10, "val_out", "drop")
    assert "loses 68.7 points" not in wording.gap(bad, good, classes)
    assert "gains" in wording.gap(bad, good, classes)
    assert "loses" in wording.gap(good, bad, classes)
    assert "keeps its IoU" in wording.gap(good, good, classes)


@pytest.mark.parametrize(
    ("seconds", "words"), [(4.4, "4 s"), (412, "6 min 52 s"), (3600 * 26 + 61, "26 h 1 min")]
)
def test_duration(seconds, words):
    assert wording.duration(seconds) == words


def test_missing_and_broken_runs_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="is not a directory"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"metrics\.json is missing"):
        write_report(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        write_report(tmp_path)
    (tmp_path / "metrics.json").write_text('{"dataset": "streets"}')
    with pytest.raises(UserError, match="has no 'model'"):
        write_report(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", CAMVID, dropclass=False, splits=("val",), steps=0, samples=0)

    def refuse(path, text):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(run_report, "write_text", refuse)
    with pytest.raises(UserError, match=f"workdir {run} cannot be written: Read-only file system"):
        write_report(run)


def test_command_fails_in_one_line(tmp_path):
    for arguments, words in [([], "--workdir"), ([f"--workdir={tmp_path}"], "metrics.json")]:
        command = [sys.executable, "-m", "dropclass_jax.report", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
