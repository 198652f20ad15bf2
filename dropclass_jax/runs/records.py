"""What a run's numbers depend on, and how much of its time went into them: ``run.json``."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import optax
import orbax.checkpoint

from dropclass_jax.runs import rundir

_FILE = "run.json"


def begin(workdir: Path, step: int) -> None:
    """Record that a process has started, or continued, a run at a step."""
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
    rundir.write_json(workdir / _FILE, {"starts": [*starts(workdir), record]})


def update(workdir: Path, seconds: float) -> None:
    """Note how long the current start has lasted: a kill gives no other chance to."""
    records = starts(workdir)
    records[-1]["seconds"] = seconds
    rundir.write_json(workdir / _FILE, {"starts": records})


def starts(workdir: Path) -> list[dict[str, Any]]:
    """The starts of a run, in order; none where nothing is recorded."""
    try:
        return json.loads((workdir / _FILE).read_text())["starts"]
    except (OSError, ValueError, KeyError):
        return []


def goodput(workdir: Path, batch_size: int) -> dict[str, float]:
    """How much of a run's time brought it forward.

    Steps that a kill took back, and were trained again, count once.

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
    for record in rundir.records(workdir):
        if record["kind"] == "train":
            productive += (record["step"] - last) * batch_size / record["images_per_second"]
            last = record["step"]
    ratio = productive / total if total else 0.0
    return {"seconds": total, "productive_seconds": productive, "goodput": ratio}


def command() -> str:
    """The command as its user gave it: ``python -m dropclass_jax.train --config=...``."""
    module = Path(sys.argv[0]).with_suffix("")
    module = module.parent if module.name == "__main__" else module
    program = f"python -m {module.parent.name}.{module.name}"
    return shlex.join([*program.split(), *sys.argv[1:]])


def device_name() -> str:
    """``'4 x NVIDIA H100'``: how many devices, and their kind."""
    kind = jax.devices()[0].device_kind
    if jax.default_backend() == "cpu":
        kind = f"CPU ({platform.machine()}, {os.cpu_count()} cores)"
    return f"{jax.device_count()} x {kind}"


def versions() -> dict[str, str]:
    """The versions that a number depends on."""
    modules = {"jax": jax, "flax": flax, "optax": optax, "orbax": orbax.checkpoint, "numpy": np}
    return {"python": platform.python_version(), **{k: m.__version__ for k, m in modules.items()}}


def revision() -> str | None:
    """The git revision of the code, with ``-dirty`` where it was changed; None outside of git."""
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        # Only where the package itself is tracked: not some repository that a venv lies in.
        tracked = [*git[:3], "ls-files", "--error-unmatch", Path(__file__).name]
        subprocess.run(tracked, check=True, capture_output=True, timeout=10)
        return subprocess.run(
            git, check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
