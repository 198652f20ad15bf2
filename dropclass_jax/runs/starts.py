"""The starts of a run and how long each lasted, ``run.json``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jax

from dropclass_jax.files import write_json
from dropclass_jax.runs import records
from dropclass_jax.runs.provenance import command, device_name, revision, versions

_FILE = "run.json"


def begin(workdir: Path, step: int) -> None:
    """Record that a run was started, or continued, at a step."""
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "step": step,
        "command": command(),
        "device": device_name(),
        "processes": jax.process_count(),
        "versions": versions(),
        "seconds": 0.0,
    }
    if git_revision := revision():
        record["revision"] = git_revision
    write_json(workdir / _FILE, {"starts": [*starts(workdir), record]})


def update(workdir: Path, seconds: float) -> None:
    """Record how long the current start has lasted; called again and again, as a kill may come."""
    records = starts(workdir)
    records[-1]["seconds"] = seconds
    write_json(workdir / _FILE, {"starts": records})


def starts(workdir: Path) -> list[dict[str, Any]]:
    """The starts of a run, in order; none where nothing is recorded."""
    try:
        return json.loads((workdir / _FILE).read_text())["starts"]
    except (OSError, ValueError, KeyError):
        return []


def goodput(workdir: Path, batch_size: int) -> dict[str, float]:
    """Share of a run's time that was spent on training steps which count.

    Steps that were lost by a kill and trained again count once.

    Args:
      workdir: the run's folder.
      batch_size: examples a step, over all devices.

    Returns:
      ``seconds``, the time of all starts together, from the first line of each to the last thing
      it recorded; ``productive_seconds``, that of the training steps of the run's history; and
      ``goodput``, their ratio, 0 to 1.
    """
    total = sum(start["seconds"] for start in starts(workdir))
    productive, last = 0.0, 0
    for record in records.read(workdir)[0]:
        if record["kind"] == "train":
            productive += (record["step"] - last) * batch_size / record["images_per_second"]
            last = record["step"]
    ratio = productive / total if total else 0.0
    return {"seconds": total, "productive_seconds": productive, "goodput": ratio}
