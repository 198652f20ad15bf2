"""The work of a ``Case`` in this package, to be timed beside PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dropclass_jax.benchmark import peak_memory
from dropclass_jax.benchmark.case import (
    IMAGE_MEAN,
    IMAGE_STD,
    Case,
    compiled_step,
    network,
    new_state,
    random_batch,
    run_of,
)
from dropclass_jax.benchmark.section import Work
from dropclass_jax.benchmark.timing import Run
from dropclass_jax.evaluation import inference
from dropclass_jax.ops import cpu_compiler
from dropclass_jax.ops.images import normalize
from dropclass_jax.parallel import pmap


def prepare(case: Case, kind: str, torch_compile: bool | None = None) -> Callable[[], Work]:
    """Forward passes or training steps.

    Args:
      case: what to measure.
      kind: ``forward``, or a variant of a step.
      torch_compile: is of no concern here.
    """
    del torch_compile
    if kind == "forward":
        run, compiled = predicting(case)
    else:
        run, compiled = run_of(case, kind), compiled_step(case, kind).step
    run(1)  # starts the threads

    def peak() -> int | None:
        if jax.default_backend() == "cpu":
            return peak_memory.peak_increase(lambda: run(1))
        return pmap.peak_bytes(compiled)

    return lambda: Work(run, peak, {"threads": _threads()})


def predicting(case: Case) -> tuple[Run, jax.stages.Compiled]:
    """Forward passes of the plain network, to a class for every pixel; and what they run."""
    model, variables = network(case, "plain"), new_state(case, "plain").variables

    @jax.jit
    def predict(variables: Any, images: jax.Array) -> jax.Array:
        images = normalize(images, jnp.asarray(IMAGE_MEAN), jnp.asarray(IMAGE_STD))
        scores = inference.scores(inference.forward(model, variables), images)
        return inference.predictions(scores)["plain"]

    images = jax.device_put(random_batch(case)["image"])
    compiled = cpu_compiler.compile_forward(predict.lower(variables, images))

    def run(calls: int) -> None:
        for _ in range(calls):
            result = compiled(variables, images)
        jax.block_until_ready(result)

    return run, compiled


def _threads() -> int | None:
    """How many threads XLA's CPU backend computes with; None where the system does not tell."""
    try:
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    except OSError:  # not Linux, or a thread that ended meanwhile
        return None
    return names.count("tf_XLAEigen") or None
