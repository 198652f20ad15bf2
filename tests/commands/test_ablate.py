"""A sweep from its file to its figure, on the tiny network."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from html_page import Page

from dropclass_jax import ablate
from dropclass_jax.comparison import intervals
from dropclass_jax.errors import UserError
from dropclass_jax.experiment.config import from_values, load_config
from dropclass_jax.reporting import sweep_figures, sweep_page, sweep_summary
from dropclass_jax.runs import records, rundir
from dropclass_jax.runs.results import try_metrics
from dropclass_jax.sweeps import jobs, plan, slurm

PROGRAM = (sys.executable, tiny.__file__)
SPEC = "configs/streets.py:tiny"
ARMS = {"plain": {"dropclass.enabled": False}, "dropclass": {}}


@pytest.fixture
def config(tmp_path, named_tiny):
    """Four steps on a few small scenes."""
    config = load_config(SPEC)
    config.data.prepared_dir = str(tmp_path / "prepared")
    config.data.options.update(train=8, val=2, val_out=2)
    config.augment.crop = (16, 16)
    config.update(total_steps=4, log_every=1)
    config.eval.every_steps = 4
    config.checkpoint.every_steps = 2
    return config


@pytest.fixture
def one_device(monkeypatch):
    """Of every run, as a user has it; and no run draws its page."""
    jax.devices()  # of this process all eight, before the environment says otherwise
    for name, value in tiny.environment(devices=1).items():
        monkeypatch.setenv(name, value)


def test_a_sweep_that_is_stopped_and_continued(config, tmp_path, one_device, monkeypatch, capsys):
    folder = tmp_path / "sweep"
    arms = plan.Sweep("Does it help?", ARMS)
    runs = plan.plan(arms, config, folder, seeds=(0, 1))
    plan.check(runs)
    show = ablate._Show.running

    def stop(self, now):
        """Once two runs are over and a third has taken a step."""
        show(self, now)
        if self._ended == 2 and any(records.read(runs[n].workdir)[0] for n in (2, 3)):
            os.kill(os.getpid(), signal.SIGTERM)

    places = jobs.slots(min(2, os.cpu_count()), [])
    with monkeypatch.context() as patch:
        patch.setattr(ablate._Show, "running", stop)
        assert ablate.train(runs, SPEC, folder, places, PROGRAM) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; the same command continues" in capsys.readouterr().out
    finished = [run.name for run in runs if plan.is_finished(run)]
    assert finished[:2] == ["plain/seed0", "dropclass/seed0"]
    before = {name: (folder / name / "metrics.json").stat().st_mtime_ns for name in finished}

    todo = [run for run in runs if run.name not in finished]
    assert ablate.train(todo, SPEC, folder, places, PROGRAM) == 0
    assert all(map(plan.is_finished, runs))
    assert {n: (folder / n / "metrics.json").stat().st_mtime_ns for n in finished} == before
    for run in runs:
        steps = [r["step"] for r in records.read(run.workdir)[0] if r["kind"] == "train"]
        assert steps == [1, 2, 3, 4]
        assert from_values(rundir.read_config(run.workdir)).to_dict() == run.config.to_dict()

    capsys.readouterr()
    ablate.report(runs, arms, SPEC, folder)
    shown = capsys.readouterr().out
    assert re.search(r"^plain +2 .* reference ", shown, re.MULTILINE)
    assert re.search(r"^dropclass, drop head +2 ", shown, re.MULTILINE)
    assert re.search(r"^dropclass, plain head +2 ", shown, re.MULTILINE)
    content = json.loads((folder / "sweep.json").read_text())
    scores = [
        next(r["mean_iou"] for r in try_metrics(run.workdir)["results"]
             if (r["split"], r["head"]) == ("val", "plain"))
        for run in runs if run.arm == "plain"
    ]  # fmt: skip
    assert content["rows"][0]["scores"]["mean_iou"]["seeds"] == scores
    assert content["rows"][1]["scores"]["mean_iou"]["difference"]["verdict"]
    assert (folder / "sweep.png").stat().st_size > 10_000
    page = Page((folder / "report.html").read_text())
    assert page.tags.count("svg") == 1
    assert "dropclass.enabled=False" in page.text

    def refuse(*args):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(sweep_page, "write", refuse)
    with pytest.raises(UserError, match=f"--dir={folder} cannot be written: Read-only file system"):
        ablate.report(runs, arms, SPEC, folder)

    config.optim.lr = 0.5
    with pytest.raises(UserError, match=r"plain/seed0 holds a run of another config: optim\.lr"):
        plan.is_finished(plan.plan(arms, config, folder, seeds=(0,))[0])


def test_a_failed_arm_is_told_and_the_others_go_on(tmp_path, capsys, config):
    """With a program that fails for one arm, in one line, and leaves nothing for the other."""
    arms = plan.Sweep("Why?", {"good": {}, "bad": {}, "next": {"init.path": "{sweep}/bad/seed0"}})
    runs = plan.plan(arms, config, tmp_path / "sweep", seeds=(0,))
    code = "import sys; print('error: no such thing\\nbye'); sys.exit('/bad/' in sys.argv[2])"
    program = (sys.executable, "-c", code)
    assert ablate.train(runs, SPEC, tmp_path / "sweep", jobs.slots(1, []), program) == 1
    shown = capsys.readouterr().out
    assert "good/seed0: done, 1/3" in shown
    assert "bad/seed0: FAILED, 2/3: exit code 1: no such thing; log: " in shown
    assert "next/seed0: FAILED, 3/3: not started, as bad/seed0 failed" in shown
    with pytest.raises(UserError, match=r"no run of the sweep in .* is finished"):
        ablate.report(runs, arms, SPEC, tmp_path / "sweep")


def test_slurm_takes_waves_of_runs(tmp_path, config):
    """A task of an array calls launch/slurm.sbatch with the arguments of its run."""
    arms = plan.Sweep("Why?", {"a": {}, "b": {"init.path": "{sweep}/a/seed{seed}"}, "c c": {}})
    folder = tmp_path / "a sweep"
    runs = plan.plan(arms, config, folder, seeds=(0, 1))
    waves = ablate.waves(runs)
    assert [[run.name for run in wave] for wave in waves] == [
        ["a/seed0", "c c/seed0", "a/seed1", "c c/seed1"],
        ["b/seed0", "b/seed1"],
    ]
    submit = slurm.write(folder, waves, SPEC).splitlines()
    first, second = shlex.split(submit[0]), shlex.split(submit[1])
    assert first[-1].rstrip(")") == str(folder / "wave0.sbatch")
    assert "--dependency=afterok:$wave0" in second
    script = (folder / "wave0.sbatch").read_text()
    assert "#SBATCH --array=0-3\n" in script
    shared = re.findall("^#SBATCH --(?!job-name).*$", Path("launch/slurm.sbatch").read_text(), re.M)
    assert set(shared) < set(script.splitlines())

    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "slurm.sbatch").write_text('printf "%s\\n" "$@"\n')
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "1", "SLURM_SUBMIT_DIR": str(tmp_path)}
    got = subprocess.run(
        ["bash", folder / "wave0.sbatch"], env=environment, capture_output=True, text=True
    )
    assert got.stdout.splitlines() == plan.arguments(SPEC, runs[1])


COMMAND = [sys.executable, "-m", "dropclass_jax.ablate"]


def result(arm, head, seed, value, split="val", tail=0.1, steps=7, family=""):
    """A finished run's part of what is compared, on two classes."""
    classes = [
        {"name": "road", "train_pixel_share": 0.995},
        {"name": "sign", "train_pixel_share": 0.005},
    ]
    entry = {"split": split, "head": head, "mean_iou": value, "iou": [2 * value - tail, tail]}
    lines = [{"kind": "train", "images_per_second": speed} for speed in (1.0, 4.0, 8.0)]
    content = {"classes": classes, "results": [entry]}
    return sweep_summary.Result(arm, family or arm, seed, steps, content, lines, 8, {})


def test_rows_say_what_is_noise():
    results = [
        *(result("plain", "plain", s, v) for s, v in enumerate((0.30, 0.31, 0.32))),
        *(result("worse", "plain", s, v) for s, v in enumerate((0.20, 0.21, 0.22))),
        *(result("same", "plain", s, v) for s, v in enumerate((0.29, 0.32, 0.33))),
        result("once", "plain", 0, 0.9),
    ]
    rows = sweep_summary.rows(results)
    assert [row.label for row in rows] == ["plain", "worse", "same", "once"]
    verdicts = [row.scores["mean_iou"].verdict for row in rows]
    assert verdicts == ["reference", "lower", "within noise", "unknown"]
    worse = rows[1].scores["mean_iou"]
    assert worse.difference.value == pytest.approx(-0.1)
    half = 2.7764 * (2 * 0.01**2 / 3) ** 0.5  # Welch's, of equal deviations: 4 degrees of freedom
    assert worse.difference.high == pytest.approx(-0.1 + half, rel=1e-4)
    assert worse.mean.low == pytest.approx(0.21 - 4.3027 * 0.01 / 3**0.5, rel=1e-4)
    assert worse.deviation == pytest.approx(0.01)
    assert rows[0].scores["tail"].seeds == [0.1] * 3
    assert rows[0].seconds_per_step == 2.0  # the median of 8, 2 and 1
    assert "out_of_context" not in rows[0].scores


def test_a_row_counts_the_seeds_behind_its_mean():
    """As where one run was evaluated again by one of its heads, or on one more split."""
    results = [result("plain", "plain", seed, 0.3 + seed / 100) for seed in range(3)]
    for seed in range(3):
        both = result("ours", "plain", seed, 0.4 + seed / 100)
        if seed:
            both.metrics["results"].insert(0, {**both.metrics["results"][0], "head": "drop"})
        both.counts["val"] = {e["head"]: np.ones((5, 2, 3), int) for e in both.metrics["results"]}
        results.append(both)
    results[0].metrics["results"].insert(
        0, result("", "plain", 0, 0.9, "extra").metrics["results"][0]
    )
    plain, drop, ours = sweep_summary.rows(results)
    assert (plain.seeds, drop.seeds, ours.seeds) == ([0, 1, 2], [1, 2], [0, 1, 2])
    assert (drop.label, ours.label) == ("ours, drop head", "ours, plain head")
    assert sweep_page._cells([plain, drop, ours])[1][1][1] == "2"
    for row in (plain, drop, ours):
        assert len(row.scores["mean_iou"].seeds) == len(row.seeds)
        assert row.scores["mean_iou"].mean.value == np.mean(row.scores["mean_iou"].seeds)
    between = intervals.of_difference([0.41, 0.42], [0.30, 0.31, 0.32])
    assert drop.scores["mean_iou"].difference == pytest.approx(between)
    (heads,) = sweep_summary.rows(results[3:])[1:]
    assert heads.against == "ours, drop head"
    results[3].metrics["dropclass"] = True  # and that run has no other score
    assert [row.label for row in sweep_summary.rows(results[3:4])] == ["ours, plain head"]
    assert sweep_summary.main_split(results) == "val"
    with pytest.raises(UserError, match="on no split in common: evaluate all of them on one, "):
        sweep_summary.rows([results[0], result("b", "plain", 0, 0.3, "test")])


def test_every_score_has_its_interval_and_the_page_says_how_it_was_made(tmp_path):
    results = [
        *(result("plain", "plain", s, v, tail=v / 2) for s, v in enumerate((0.30, 0.31, 0.32))),
        *(result("worse", "plain", s, v, tail=v / 2) for s, v in enumerate((0.20, 0.21, 0.22))),
    ]
    facts = {"dataset": "tiny", "model": "net", "versions": {"jax": "0.10.2"}, "device": "2 x X"}
    for r in results:
        r.metrics.update(facts)
    results[0].metrics["versions"] = {"jax": "0.11.0"}
    arms = {"plain": {}, "worse": {"optimizer.lr": 9}}
    command = "python -m dropclass_jax.ablate --dir=<here>"
    shown = sweep_page.write(tmp_path, results, "Which?", arms, "c.py", [], command)
    tail = sweep_summary.rows(results)[1].scores["tail"]
    low, high = (f"{100 * x:.1f}" for x in tail.mean[1:])
    assert f"10.5 [{low}, {high}]" in shown
    low, high = (f"{100 * x:+.1f}" for x in tail.difference[1:])
    assert f"-5.0 [{low}, {high}]" in shown
    page = Page((tmp_path / "report.html").read_text())
    assert f"-5.0 [{low}, {high}]" in page.text
    assert command in page.text
    assert "jax 0.10.2, 0.11.0" in page.text
    assert "2 x X" in page.text


def test_classes_that_are_never_found_are_no_part_of_the_gap():
    run = result("plain", "plain", 0, 0.3, tail=0.0)
    outside = {"split": "val_out", "head": "plain", "mean_iou": 0.2, "iou": [0.4, 0.0]}
    run.metrics["results"].append(outside)
    assert sweep_summary.scores_of(run, "val", "plain")["context_gap"] == pytest.approx(0.2)


def test_a_user_s_mistake_is_one_line(tmp_path):
    arguments = [
        "--sweep=configs/sweeps/alpha.py",
        "--config=configs/streets.py",
        "--config.seed=1",
    ]
    got = subprocess.run(
        [*COMMAND, *arguments, f"--dir={tmp_path}"], capture_output=True, text=True
    )
    assert got.returncode == 2
    assert got.stderr.startswith(
        "error: a sweep sets --config.seed of its runs itself: give --seeds"
    )
    assert got.stderr.count("\n") == 1


def test_arms_are_compared_at_equal_steps():
    """In all: with those of the run that they started from."""
    lengths = [("plain_1x", 7), ("plain_2x", 14), ("drop_1x", 7), ("drop_2x", 14), ("drop_4x", 28)]
    results = [result(arm, "plain", 0, 0.3, steps=steps, family=arm[:4]) for arm, steps in lengths]
    rows = sweep_summary.rows(results)
    against = {row.label: row.against for row in rows}
    assert against == {
        "plain_1x": None,
        "plain_2x": "plain_1x",
        "drop_1x": "plain_1x",
        "drop_2x": "plain_2x",
        "drop_4x": "plain_1x",  # no plain one took as many
    }
    courses = sweep_figures.courses(rows)
    assert {name: [row.steps for row in course] for name, course in courses.items()} == {
        "plain": [7, 14],
        "drop": [7, 14, 28],
    }
    axes = sweep_figures.steps(courses, "val").axes
    plain, drop = (line.get_xdata() for line in axes[0].lines)
    np.testing.assert_allclose(plain, [7, 14], rtol=0.1)
    np.testing.assert_allclose(drop, [7, 14, 28], rtol=0.1)
    assert min(abs(drop[:2] / plain - 1)) > 0.02  # side by side


def test_steps_in_all(tmp_path):
    base = load_config("configs/streets.py")
    arms = plan.load("configs/sweeps/from_plain.py", base)
    runs = plan.plan(arms, base, tmp_path, (0,))
    steps = {run.arm: plan.steps_in_all(run, runs) for run in runs}
    assert steps.pop("plain_1x") == 450
    assert set(steps.values()) == {900}
    families = {plan.family(settings) for settings in arms.arms.values()}
    assert len(families) == len(arms.arms) - 1  # plain_1x and plain_2x


@pytest.mark.parametrize("words", [["0", "x"], [], ["1", "1"], ["0", "00"], ["-1"]])
def test_seeds_are_numbers(words):
    with pytest.raises(UserError, match="--seeds are different whole numbers, as 0,1,2, not"):
        ablate._seeds(words)
    assert ablate._seeds(["0", "7"]) == [0, 7]
