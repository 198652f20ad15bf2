"""Time that saving a checkpoint blocks the training loop, and until it is on the disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dropclass_jax.benchmark import text, timing
from dropclass_jax.benchmark.case import Case, compiled_step, new_state, random_batch
from dropclass_jax.benchmark.section import Options
from dropclass_jax.runs import checkpoint

TITLE = "Checkpoints"


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Train and save by turns, in a temporary folder.

    Returns:
      Summaries in seconds of ``step``, of ``blocked`` (the call that starts to save), and of
      ``written`` (from there until all of it is on the disk, while nothing else goes on);
      ``state_bytes``.
    """
    program = compiled_step(case, "dropclass").step
    batch, key = jax.device_put(random_batch(case)), jax.random.key(0)
    current = new_state(case, "dropclass")
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(current))
    seconds: dict[str, list[float]] = {"step": [], "blocked": [], "written": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        checkpoint.manager(Path(folder)) as checkpoints,
    ):
        for turn in range(options.repeats + 1):
            current = current.replace(step=jnp.int32(turn + 1))
            start = time.perf_counter()
            current, scalars = program(current, batch, key)
            jax.block_until_ready((current, scalars))
            trained = time.perf_counter()
            checkpoint.save(checkpoints, current)
            saved = time.perf_counter()
            checkpoint.finish(checkpoints)
            if turn:  # the first one sets things up
                seconds["step"].append(trained - start)
                seconds["blocked"].append(saved - trained)
                seconds["written"].append(time.perf_counter() - trained)
    return {"state_bytes": size, **{name: timing.summary(v) for name, v in seconds.items()}}


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """A line for each network."""
    out = []
    for case, result in results:
        blocked, step = result["blocked"]["median"], result["step"]["median"]
        out += [
            "",
            f"{case}: saving {text.mebibytes(result['state_bytes'])} holds the loop up for "
            f"{text.seconds(blocked)} ({text.spread(result['blocked'])}), "
            f"{blocked / step:.2f} of a step; on the disk after "
            f"{text.seconds(result['written']['median'])}",
        ]
    return out
