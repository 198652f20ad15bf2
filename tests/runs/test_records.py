"""What a run remembers of its starts, and how much of its time counted."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from dropclass_jax.runs import provenance, records, starts


def train_record(step, images_per_second):
    return {"kind": "train", "step": step, "images_per_second": images_per_second}


def test_goodput_counts_repeated_steps_once(tmp_path):
    begun = starts.begin(tmp_path, 0)
    # 10 steps of 8 images at 4 a second: 20 s; then a kill takes back all after step 10.
    records.append(tmp_path, [train_record(10, 4.0), train_record(15, 4.0)])
    starts.update(tmp_path, begun, 35.0)
    records.forget_after(tmp_path, 10)
    begun = starts.begin(tmp_path, 10)
    records.append(tmp_path, [train_record(20, 8.0)])  # 10 s
    starts.update(tmp_path, begun, 25.0)

    found = starts.goodput(tmp_path, batch_size=8)
    assert found == {"seconds": 60.0, "productive_seconds": 30.0, "goodput": 0.5}
    assert [start["step"] for start in starts.starts(tmp_path)] == [0, 10]


def steps_of(workdir):
    return [record["step"] for record in records.read(workdir)[0]]


def test_half_a_line_does_not_take_the_next_one_with_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records.append(tmp_path, [train_record(1, 4.0)])
    path.write_text(path.read_text() + '{"kind": "tr')
    records.append(tmp_path, [train_record(3, 4.0)])
    assert steps_of(tmp_path) == [1, 3]
    assert records.read(tmp_path)[1] == 1


UNREADABLE = [
    b"",
    b'{"kind": "tr',
    b"[]",
    b"null",
    b'"kind"',
    b"\xff\xfe",
    b'{"step": 4}',
    b"[" * 9999,
]


@pytest.mark.parametrize("line", UNREADABLE)
def test_what_cannot_be_read_is_moved_aside_and_leaves_a_mark(tmp_path, line):
    """Not once, and not only where it is noticed: whoever reads the history is told of the hole."""
    records.append(tmp_path, [train_record(step, 4.0) for step in (2, 4, 6, 8)])
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1] = line
    path.write_bytes(b"\n".join(lines))
    told = []
    for _ in range(2):
        records.forget_after(tmp_path, 7, 2, told.append)
        assert steps_of(tmp_path) == [2, 6]
        assert records.read(tmp_path)[1] == (1 if line else 0)
    if line:
        assert told == [f"{path}: lines that cannot be read were moved to damaged_metrics.jsonl"]
        assert (tmp_path / "damaged_metrics.jsonl").read_bytes() == line + b"\n"


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_history_that_was_cut_is_told(tmp_path, kept):
    """With half a line at its end or without: what lies before the checkpoint is not made again."""
    steps = (2, 4, 6, 8, 10)
    records.append(tmp_path, [train_record(step, 4.0) for step in steps])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:kept])[:-1])
    whole = max(kept - 1, 0)
    told = []
    records.forget_after(tmp_path, 9, 2, told.append)
    assert steps_of(tmp_path) == list(steps[:whole])
    assert records.read(tmp_path)[1] == 1
    assert f"no record of the training from step {2 * whole + 1} to 9" in told[0]


def test_what_a_kill_cuts_is_written_again_and_not_lost(tmp_path):
    records.append(tmp_path, [train_record(step, 4.0) for step in (2, 4, 6)])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 8')
    records.forget_after(tmp_path, 7, 2, pytest.fail)
    assert steps_of(tmp_path) == [2, 4, 6]
    assert records.read(tmp_path)[1] == 0


def test_no_part_of_a_line_is_left_where_the_disk_is_full(tmp_path):
    script = (
        "import pathlib, resource, sys; from dropclass_jax.runs import records\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (110, 110))\n"
        "for n in range(9): records.append(pathlib.Path(sys.argv[1]), [{'kind': 'x', 'step': n}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "OSError" in done.stderr
    assert steps_of(tmp_path) == [0, 1, 2, 3]  # of 25 bytes each
    assert records.read(tmp_path)[1] == 0


@pytest.mark.parametrize(
    "content", ["", "[]", "null", '{"starts": 3}', '{"starts": [3]}', '{"starts": [{}]}', '{"sta']
)
def test_a_damaged_list_of_starts_is_begun_anew(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    assert starts.starts(tmp_path) == []
    begun = starts.begin(tmp_path, 3)
    (tmp_path / "run.json").write_text(content)
    starts.update(tmp_path, begun, 9.0)
    assert [(start["step"], start["seconds"]) for start in starts.starts(tmp_path)] == [(3, 9.0)]


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
