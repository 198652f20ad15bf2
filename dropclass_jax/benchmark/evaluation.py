"""Images a second of evaluation: the whole image at once, and through a sliding window."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from dropclass_jax import step
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

TITLE = "Evaluation"

_INFERENCE = "dropclass_jax.inference"


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Time evaluation steps (both heads of a DropClass network, confusion matrices included).

    The window is half as high and half as wide as the image and moves by half of itself, so that
    nine of them cover it.

    Returns:
      ``{name: {"images_per_second": summary, "seconds": summary}}``.
    """
    runs = {f"{variant}, whole image": whole_image(case, variant) for variant in VARIANTS[:2]}
    if importlib.util.find_spec(_INFERENCE) and not options.quick:
        runs["dropclass, sliding window"] = sliding_window(case)
    seconds = timing.in_turns(runs, options.repeats)
    return {
        name: {
            "images_per_second": timing.summary([case.batch / value for value in values]),
            "seconds": timing.summary(values),
        }
        for name, values in seconds.items()
    }


def whole_image(case: Case, variant: str) -> Run:
    """The step that ``evaluate`` takes."""
    evaluate = partial(
        step.eval_step,
        model=network(case, variant),
        num_classes=case.classes,
        image_mean=jnp.asarray(IMAGE_MEAN),
        image_std=jnp.asarray(IMAGE_STD),
    )
    return _repeated(evaluate, new_state(case, variant).variables, case)


def sliding_window(case: Case) -> Run:
    """``inference.scores`` of the images through windows of half their size."""
    inference = importlib.import_module(_INFERENCE)
    model = network(case, "dropclass")
    window = case.height // 2, case.width // 2
    stride = case.height // 4, case.width // 4

    def predict(variables: Any, batch: step.Batch) -> Any:
        def forward(images: jax.Array) -> dict[str, jax.Array]:
            outputs = model.apply(variables, images)
            return {"plain": outputs["logits"], "drop": outputs["logits_drop"]}

        images = step.normalize(batch["image"], jnp.asarray(IMAGE_MEAN), jnp.asarray(IMAGE_STD))
        scores = inference.scores(forward, images, window=window, stride=stride)
        return jax.tree.map(lambda x: jnp.argmax(x, axis=-1).astype(jnp.uint8), scores)

    return _repeated(predict, new_state(case, "dropclass").variables, case)


def _repeated(function: Any, variables: Any, case: Case) -> Run:
    compiled = jax.jit(function)
    batch = jax.device_put(random_batch(case))

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
        out += ["", str(case), *text.table(header, rows)]
    return out
