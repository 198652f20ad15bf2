"""Kill a run again and again, and see that it ends as one that was never killed.

    python tests/soak.py KILLS [SEED]          what `bash launch/soak.sh` starts

Each start is killed by SIGKILL at a moment drawn at random: while it starts, trains, saves or
evaluates. The runs are of the tiny network, so that a kill costs seconds.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tiny

from dropclass_jax.runs import checkpoint, records

MOMENTS = ("starting", "training", "saving", "evaluating")
# Long enough for something to be under way at every moment.
SETTINGS = {
    "total_steps": 24, "log_every": 1, "eval.every_steps": 6, "checkpoint.every_steps": 3,
    "data.options.val": 24,
}  # fmt: skip


def start(workdir: Path, prepared: Path) -> subprocess.Popen:
    """Start, or continue, the run."""
    return subprocess.Popen(
        tiny.command(workdir, prepared, **SETTINGS),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=tiny.environment(),
    )  # fmt: skip


def finish(process: subprocess.Popen) -> None:
    """Wait for a run to end; anything but success is shown and raised."""
    output = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f"a run ended with {process.returncode}:\n{output}")


def kill_at(process: subprocess.Popen, workdir: Path, moment: str, rng: random.Random) -> None:
    """Kill a run that has just been started at about a moment, unless it ends before."""
    steps = rng.randint(1, 4)
    if moment != "starting":
        for line in process.stdout:
            if moment == "evaluating" and line.startswith("step") and "/24" in line:
                step = int(line.split()[1].split("/")[0])
                if step % SETTINGS["eval.every_steps"] == 0:
                    break
            elif line.startswith("step") and "/24" in line:
                steps -= 1
                if steps == 0:
                    break
    if moment == "saving":
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and process.poll() is None:
            if any("tmp" in path.name for path in workdir.glob("checkpoints/*")):
                break
    time.sleep(rng.uniform(0, 3 if moment == "starting" else 0.05))
    process.send_signal(signal.SIGKILL)
    process.communicate()


def outcome(workdir: Path) -> dict:
    """Everything about a finished run that must not depend on how often it was stopped."""
    lines = [
        {key: value for key, value in record.items() if key != "images_per_second"}
        for record in records.read(workdir)[0]
    ]
    return {
        "variables": checkpoint.read_weights(workdir),
        "history": lines,
        "results": json.loads((workdir / "metrics.json").read_text())["results"],
        "best": checkpoint.read_best(workdir),
    }


def compare(killed: Path, whole: Path) -> None:
    """Assert that two runs are equal, to the last bit."""
    ours, theirs = outcome(killed), outcome(whole)
    variables, expected = ours.pop("variables"), theirs.pop("variables")
    assert variables.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(variables[name], value, err_msg=name)
    assert ours == theirs


def soak(folder: Path, kills: int, seed: int, say=lambda text: None) -> list[str]:
    """Run once in peace and once with ``kills`` kills, and compare; returns the moments."""
    rng = random.Random(seed)
    prepared, whole, killed = (folder / name for name in ("prepared", "whole", "killed"))
    finish(start(whole, prepared))
    moments = []
    while len(moments) < kills:
        process = start(killed, prepared)
        moment = MOMENTS[len(moments) % len(MOMENTS)]
        kill_at(process, killed, moment, rng)
        moments.append(moment)
        done = "its end" if (killed / "metrics.json").exists() else "the kill"
        say(f"{len(moments)}/{kills}: {moment}, to {done}")
        if done == "its end":  # once more from the start, to be killed on
            compare(killed, whole)
            killed = folder / f"killed{len(moments)}"
    finish(start(killed, prepared))
    compare(killed, whole)
    return moments


if __name__ == "__main__":
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 10_000
    print(f"{kills} kills, seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        soak(Path(folder), kills, seed, say=lambda text: print(text, flush=True))
    print(f"equal to a run that was never killed, after {kills} kills")
