"""A training step in a process of its own: what a start costs, and other numbers of devices.

    python -m dropclass_jax.benchmark.fresh_process '{"case": {...}, "variant": ..., "steps": 3}'

prints one JSON object. As in training the step goes over all devices of the process.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax

from dropclass_jax import allocator
from dropclass_jax.benchmark import text
from dropclass_jax.benchmark.case import Case, new_state, random_batch, train_step
from dropclass_jax.benchmark.section import Skipped
from dropclass_jax.cli import compilation
from dropclass_jax.ops import axis, cpu_compiler
from dropclass_jax.parallel import pmap

COMMAND = (sys.executable, "-m", "dropclass_jax.benchmark.fresh_process")


def ask(
    case: Case, variant: str, steps: int = 0, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Take training steps in a fresh process.

    Args:
      case: a ``Case``; its batch is that of all devices.
      variant: one of ``VARIANTS``.
      steps: how many to time after the first.
      environment: set in the process, besides this one's.

    Returns:
      ``first_step_seconds``, from the start of the process to the end of the first step;
      ``compile_seconds``, of the step alone; and ``step_seconds``, a list.

    Raises:
      Skipped: the process failed; the message is the last line it printed.
    """
    request = json.dumps({"case": dataclasses.asdict(case), "variant": variant, "steps": steps})
    start = time.time()
    done = subprocess.run(
        [*COMMAND, request],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        said = text.last_line(done.stderr or done.stdout)
        raise Skipped(f"a process of its own failed: {said[:200]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    answer["first_step_seconds"] = answer.pop("first_step_at") - start
    return answer


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the process does."""
    case = Case(**request["case"])
    step = pmap.pmap_step(train_step(case, request["variant"], axis.AXIS))
    current = pmap.replicate(new_state(case, request["variant"]))
    batch, key = pmap.shard(random_batch(case)), pmap.replicate(jax.random.key(0))
    start = time.perf_counter()
    compiled = cpu_compiler.compile_step(step.lower(current, batch, key))
    compiling = time.perf_counter() - start
    current, scalars = jax.block_until_ready(compiled(current, batch, key))
    first_step_at = time.time()
    seconds = []
    for _ in range(request["steps"]):
        start = time.perf_counter()
        current, scalars = compiled(current, batch, key)
        jax.block_until_ready((current, scalars))
        seconds.append(time.perf_counter() - start)
    return {
        "devices": jax.device_count(),
        "first_step_at": first_step_at,
        "compile_seconds": compiling,
        "step_seconds": seconds,
    }


if __name__ == "__main__":
    allocator.keep_all_freed_memory()  # as every command does
    compilation.keep()
    print(json.dumps(answer(json.loads(sys.argv[1]))))
