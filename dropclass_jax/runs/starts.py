"""The starts of a run and how long each lasted, ``run.json``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from dropclass_jax.files import read_object, write_json
from dropclass_jax.runs import records
from dropclass_jax.runs.provenance import command, device_name, revision, versions

NAME = "run.json"


def begin(workdir: Path, step: int) -> list[dict[str, Any]]:
    """Record that a run was started, or continued, at a step.

    Returns:
      The starts of the run, this one last.

    Raises:
      OSError: the record cannot be written.
    """
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "step": step,
        "command": command(),
        "device": device_name(),
        "processes": jax.process_count(),
        "versions": versions(),
        "seconds": 0.0,
    }
    if found := revision():
        record["revision"] = found
    begun = [*starts(workdir), record]
    write_json(workdir / NAME, {"starts": begun})
    return begun


def update(workdir: Path, begun: Sequence[Mapping[str, Any]], seconds: float) -> None:
    """Record how long the current start has lasted; called again and again, as a kill may come.

    Args:
      workdir: the run's folder.
      begun: what ``begin`` returned; the file may be lost or damaged meanwhile.
      seconds: since the process started.

    Raises:
      OSError: the record cannot be written.
    """
    write_json(workdir / NAME, {"starts": [*begun[:-1], {**begun[-1], "seconds": seconds}]})


def starts(workdir: Path) -> list[dict[str, Any]]:
    """The starts of a run, in order; none where nothing is recorded that can be read."""
    found = (read_object(workdir / NAME) or {}).get("starts")
    if not isinstance(found, list):
        return []
    return [s for s in found if isinstance(s, dict) and isinstance(s.get("seconds"), (int, float))]


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
        speed = record.get("images_per_second")
        if record["kind"] == "train" and isinstance(speed, (int, float)) and speed > 0:
            productive += (record["step"] - last) * batch_size / speed
            last = record["step"]
    ratio = productive / total if total else 0.0
    return {"seconds": total, "productive_seconds": productive, "goodput": ratio}
