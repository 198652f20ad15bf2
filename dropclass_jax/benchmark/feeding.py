"""Is the accelerator ever waiting? Training fed by the pipeline, against one batch held ready.

The loop is the training command's: the next batch is fetched and sent while the device is busy with
the last one, whose loss is awaited a step later. What the pipeline reads are drawn images, encoded
in memory as files of their size are (see ``data.bench``), with the recipe's scales, crop and flip.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from dropclass_jax import cores
from dropclass_jax.benchmark import text, timing
from dropclass_jax.benchmark.case import Case, compiled_step, new_state, random_batch
from dropclass_jax.benchmark.section import Options
from dropclass_jax.benchmark.timing import Run
from dropclass_jax.data import pipeline
from dropclass_jax.data.augment import Augmentation
from dropclass_jax.data.source import PreparedSource
from dropclass_jax.data_tools import bench

TITLE = "Input pipeline against the step"

Batches = Iterator[Mapping[str, Any]]


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Time the training loop on the pipeline and on one batch.

    Returns:
      ``images``, what was read; ``threads``; summaries of ``held`` and ``fed`` (seconds a step) and
      of ``times_held``; ``waiting_share``: of the fed loop's time, what it waits for batches; and
      the pipeline's own ``images_per_second`` beside those that the steps take.
    """
    name, source = _images(case)
    threads = len(cores.usable())

    def stream() -> Batches:
        return pipeline.train_iterator(
            source,
            seed=0,
            batch_size=case.batch,
            augmentation=Augmentation(case.size, bench.RECIPE),
            num_threads=threads,
        )

    batch = jax.device_put(random_batch(case))
    waited: list[float] = []
    fed = stream()
    runs = {
        "held": _loop(case, lambda: batch),
        "fed": _loop(case, lambda: _arrays(next(fed)), waited),
    }
    seconds = timing.in_turns(runs, options.repeats)
    alone = [
        bench.images_per_second(stream(), case.batch, seconds=1.0, skip=threads + 3)
        for _ in range(1 if options.quick else 3)
    ]
    return {
        "images": name,
        "threads": threads,
        "held": timing.summary(seconds["held"]),
        "fed": timing.summary(seconds["fed"]),
        "times_held": timing.ratio(seconds["fed"], seconds["held"]),
        # The first two calls warmed up.
        "waiting_share": timing.summary(waited[-options.repeats :]),
        "images_per_second": timing.summary(alone),
        "images_per_second_of_steps": case.batch / timing.summary(seconds["held"])["median"],
    }


def _images(case: Case) -> tuple[str, PreparedSource]:
    """Drawn images that a crop fits into, the smallest such size of ``data.bench``."""
    fitting = [
        name
        for name, size in bench.SIZES.items()
        if size.shape[0] >= case.height and size.shape[1] >= case.width
    ]
    name = (fitting or list(bench.SIZES))[0]
    return name, bench.drawn_source(bench.SIZES[name])


def _arrays(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: batch[name] for name in ("image", "label")}


def _loop(case: Case, fetch: Callable[[], Any], waited: list[float] | None = None) -> Run:
    """``train.train``'s loop; notes the share of its time that it spent in ``fetch``."""
    program = compiled_step(case, "dropclass").step
    current, key = new_state(case, "dropclass"), jax.random.key(0)

    def run(calls: int) -> None:
        nonlocal current
        start, fetching, before = time.perf_counter(), 0.0, None
        for _ in range(calls):
            began = time.perf_counter()
            batch = fetch()
            fetching += time.perf_counter() - began
            current, scalars = program(current, batch, key)
            if before is not None:
                float(before["loss"])
            before = scalars
        jax.block_until_ready(before)
        if waited is not None:
            waited.append(fetching / (time.perf_counter() - start))

    return run


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """A few sentences for each network."""
    out = []
    for case, result in results:
        rate, needed = result["images_per_second"], result["images_per_second_of_steps"]
        out += [
            "",
            f"{case}; images: {result['images']}, {result['threads']} threads",
            f"  a step with its batch held ready {text.seconds(result['held']['median'])}, fed by "
            f"the pipeline {text.ratio(result['times_held'])}; it waits for batches "
            f"{text.percent(result['waiting_share']['median'])} of the time",
            f"  the pipeline alone makes {rate['median']:.3g} images/s, the steps take "
            f"{needed:.3g}: {text.times(rate['median'] / needed)}",
        ]
    return out
