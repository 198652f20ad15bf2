"""What a run remembers of its starts, and how much of its time counted."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest

from dropclass_jax.runs import provenance, records, starts


def train_record(step, images_per_second):
    return {"kind": "train", "step": step, "images_per_second": images_per_second}


def test_goodput_counts_repeated_steps_once(tmp_path):
    starts.begin(tmp_path, 0)
    # 10 steps of 8 images at 4 a second: 20 s; then a kill takes back all after step 10.
    records.append(tmp_path, [train_record(10, 4.0), train_record(15, 4.0)])
    starts.update(tmp_path, 35.0)
    records.forget_after(tmp_path, 10)
    starts.begin(tmp_path, 10)
    records.append(tmp_path, [train_record(20, 8.0)])  # 10 s
    starts.update(tmp_path, 25.0)

    found = starts.goodput(tmp_path, batch_size=8)
    assert found == {"seconds": 60.0, "productive_seconds": 30.0, "goodput": 0.5}
    assert [start["step"] for start in starts.starts(tmp_path)] == [0, 10]


def test_a_start_says_what_its_numbers_depend_on(tmp_path):
    starts.begin(tmp_path, 0)
    (start,) = starts.starts(tmp_path)
    assert {"python", "jax", "flax", "optax", "orbax", "numpy"} <= start["versions"].keys()
    assert start["versions"]["numpy"] == np.__version__
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", start["time"])
    assert "CPU" in start["device"]
    assert start["processes"] == 1
    assert start["command"].startswith("python -m ")


def test_the_revision_is_that_of_the_code():
    here = ["git", "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(here, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("the tests do not lie in a git checkout")
    assert provenance.revision().removesuffix("-dirty").endswith(done.stdout.strip())


def test_nothing_recorded_is_no_goodput(tmp_path):
    assert starts.goodput(tmp_path, 8)["goodput"] == 0


@pytest.mark.parametrize(
    ("script", "program"),
    [("train.py", "dropclass_jax.train"), ("benchmark/__main__.py", "dropclass_jax.benchmark")],
)
def test_the_command_is_the_one_that_was_typed(script, program, monkeypatch):
    monkeypatch.setattr("sys.argv", [f"/home/me/dropclass_jax/{script}", "--out=a b.json"])
    assert provenance.command() == f"python -m {program} '--out=a b.json'"
