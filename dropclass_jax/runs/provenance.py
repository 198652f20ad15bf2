"""Provenance of a result: command, device, versions and git revision."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import flax
import jax
import numpy as np
import optax
import orbax.checkpoint


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
        # Only if this package is tracked, not just a repository that a venv happens to lie in.
        tracked = [*git[:3], "ls-files", "--error-unmatch", Path(__file__).name]
        subprocess.run(tracked, check=True, capture_output=True, timeout=10)
        return subprocess.run(
            git, check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
