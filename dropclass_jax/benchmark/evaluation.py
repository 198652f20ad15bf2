"""Images a second of evaluation: the whole image at once, and through a sliding window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dropclass_jax.benchmark import text, timing
from dropclass_jax.benchmark.case import (
    IMAGE_MEAN,
    IMAGE_STD,
    VARIANTS,
    Case,
    network,
    new_state,
    random_batch,
)
from dropclass_jax.benchmark.section import Options
from dropclass_jax.benchmark.timing import Run
from dropclass_jax.evaluation import boundary, inference
from dropclass_jax.evaluation.step import eval_step
from dropclass_jax.ops import cpu_compiler
from dropclass_jax.reporting.text_table import aligned

TITLE = "Evaluation"


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Time the step that ``evaluate`` takes: every head of the network, and all that is counted.

    The window is half as high and half as wide as the image and moves by half of itself, so that
    nine of them cover it.

    Returns:
      ``{name: {"images_per_second": summary, "seconds": summary}}``.
    """
    window = inference.Views(
        window=(case.height // 2, case.width // 2), stride=(case.height // 4, case.width // 4)
    )
    runs = {f"{variant}, whole image": _run(case, variant) for variant in VARIANTS[:2]}
    if not options.quick:
        runs["dropclass, sliding window"] = _run(case, "dropclass", window)
    seconds = timing.in_turns(runs, options.repeats)
    return {
        name: {
            "images_per_second": timing.summary([case.batch / value for value in values]),
            "seconds": timing.summary(values),
        }
        for name, values in seconds.items()
    }


def _run(case: Case, variant: str, views: inference.Views = inference.WHOLE) -> Run:
    evaluate = jax.jit(
        partial(
            eval_step,
            model=network(case, variant),
            num_classes=case.classes,
            image_mean=jnp.asarray(IMAGE_MEAN),
            image_std=jnp.asarray(IMAGE_STD),
            views=views,
        )
    )
    variables = new_state(case, variant).variables
    distance = boundary.distance(np.tile(case.size, (case.batch, 1)))
    batch = jax.device_put({**random_batch(case), "distance": distance})
    compiled = cpu_compiler.compile_forward(evaluate.lower(variables, batch))

    def run(calls: int) -> None:
        for _ in range(calls):
            result = compiled(variables, batch)
        jax.block_until_ready(result)

    return run


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """The table."""
    out = []
    for case, result in results:
        rows = [
            [
                name,
                f"{one['images_per_second']['median']:.3g}",
                text.seconds(one["seconds"]["median"]),
                text.spread(one["seconds"]),
            ]
            for name, one in result.items()
        ]
        header = ["", "images/s", "a batch", "quartiles"]
        out += ["", str(case), *aligned(header, rows)]
    return out
