"""Slurm array jobs for the runs of a sweep; each task runs ``launch/slurm.sbatch``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from dropclass_jax.sweeps import plan
from dropclass_jax.sweeps.plan import Run

# Slurm reads options from the submitted file alone, so that those of launch/slurm.sbatch are here
# too. The task itself (srun, requeueing, its checks) is that script's.
_SCRIPT = """#!/usr/bin/env bash
# Task N of the array trains the run of line N, counted from 0, of {tasks}.
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --output={log}
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
line=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {tasks})
eval "set -- $line"
exec bash launch/slurm.sbatch "$@"
"""


def write(folder: Path, waves: Sequence[Sequence[Run]], spec: str) -> str:
    """Write one array job per wave of runs.

    Args:
      folder: the sweep's, which every node must see.
      waves: runs in groups; a wave needs what the ones before it give.
      spec: the config that the runs are told apart from.

    Returns:
      The commands that submit them.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for n, runs in enumerate(waves):
        tasks, script = folder / f"wave{n}.tasks", folder / f"wave{n}.sbatch"
        words = (shlex.join(plan.arguments(spec, run)) for run in runs)
        tasks.write_text("".join(f"{line}\n" for line in words))
        script.write_text(
            _SCRIPT.format(
                tasks=shlex.quote(str(tasks)),
                log=shlex.quote(f"{folder}/slurm-%A_%a.log"),
                name=shlex.quote(folder.name),
                last=len(runs) - 1,
            )
        )
        after = f"--dependency=afterok:$wave{n - 1} --kill-on-invalid-dep=yes " if n else ""
        lines.append(
            f"wave{n}=$(sbatch --parsable {after}--gpus-per-node=1 {shlex.quote(str(script))})"
        )
    return "\n".join(lines)
