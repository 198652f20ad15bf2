"""What a sweep found: a row for every arm and head, over its seeds.

Everything here is a pure function of the runs' `metrics.json` and `metrics.jsonl`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dropclass_jax import intervals, resampling
from dropclass_jax.intervals import Estimate
from dropclass_jax.reporting import summary
from dropclass_jax.reporting.summary import Entry

MAIN_SPLITS = ("val",)  # the one that is compared, if there is one of that name; else the first
RESAMPLES = 4_000  # draws of the images for every arm
OUT_SPLIT = "val_out"  # the same classes out of their usual context


class Result(NamedTuple):
    """A finished run.

    Attributes:
      arm: the arm's name.
      seed: the run's.
      metrics: the content of `metrics.json`.
      lines: those of `metrics.jsonl`.
      batch_size: examples a step.
      counts: `{split: {head: [N, K, 3]}}`, hits, labelled and predicted pixels of each image, of
        splits whose images are the same in all runs; see `resampling.compare`.
    """

    arm: str
    seed: int
    metrics: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    batch_size: int
    counts: Mapping[str, Mapping[str, np.ndarray]]


class Score(NamedTuple):
    """A score of an arm.

    Attributes:
      name: a key of `SCORES`.
      seeds: its value in each run, 0..1.
      mean: with the interval over the seeds.
      deviation: the sample standard deviation over the seeds.
      difference: from the reference arm, with its interval; None for the reference itself.
    """

    name: str
    seeds: list[float]
    mean: Estimate
    deviation: float
    difference: Estimate | None

    @property
    def verdict(self) -> str:
        """What the difference is, in words."""
        if self.difference is None:
            return "reference"
        if math.isnan(self.difference.low):
            return "unknown"
        if not self.difference.is_clear:
            return "within noise"
        return "higher" if self.difference.value > 0 else "lower"


class Row(NamedTuple):
    """An arm as one of its heads reads it.

    Attributes:
      arm: its name.
      head: which head predicts.
      heads: how many heads the arm's network has.
      seeds: of its runs.
      steps: of training.
      scores: by name; those that its split has.
      seconds_per_step: the median over all that the runs recorded; None where they recorded none.
    """

    arm: str
    head: str
    heads: int
    seeds: list[int]
    steps: int
    scores: dict[str, Score]
    seconds_per_step: float | None

    @property
    def label(self) -> str:
        """`ARM`, and which head where it has two."""
        return self.arm if self.heads == 1 else f"{self.arm}, {self.head} head"


# Names of scores in files, and in tables.
SCORES = {
    "mean_iou": "mIoU",
    "head": "head",
    "medium": "medium",
    "tail": "tail",
    "out_of_context": "val_out",
    "context_gap": "gap",
}


def main_split(results: Sequence[Result]) -> str:
    """The split by which arms are compared."""
    splits = [entry["split"] for entry in results[0].metrics["results"]]
    return next((name for name in MAIN_SPLITS if name in splits), splits[0])


def rows(results: Sequence[Result]) -> list[Row]:
    """A row an arm and head, in the arms' order, the head that predicts first.

    Args:
      results: of one or more arms, the reference's first; every arm has one or more seeds.
    """
    split = main_split(results)
    arms: dict[str, list[Result]] = {}
    for result in results:
        arms.setdefault(result.arm, []).append(result)
    made: list[Row] = []
    reference = None  # its runs and head
    for arm, runs in arms.items():
        heads = sorted({e["head"] for run in runs for e in run.metrics["results"]})  # drop first
        for head in heads:
            values = [scores_of(run, split, head) for run in runs]
            scores = {name: [v[name] for v in values if v.get(name) is not None] for name in SCORES}
            scores = {name: seeds for name, seeds in scores.items() if seeds}
            differences = {}
            if reference is not None:
                known = {name: score.seeds for name, score in made[0].scores.items()}
                differences = _by_seeds(known, scores, same_runs=arm == made[0].arm)
                differences |= _by_images(*reference, runs, head, split)
            made.append(
                Row(
                    arm,
                    head,
                    len(heads),
                    [run.seed for run in runs],
                    runs[0].metrics["step"],
                    {
                        name: Score(
                            name,
                            seeds,
                            intervals.of_mean(seeds),
                            intervals.deviation(seeds),
                            differences.get(name),
                        )
                        for name, seeds in scores.items()
                    },
                    seconds_per_step(runs),
                )
            )
            reference = reference or (runs, head)
    return made


def _by_seeds(
    a: Mapping[str, list[float]], b: Mapping[str, list[float]], same_runs: bool
) -> dict[str, Estimate]:
    """Differences `b - a` with intervals for other seeds on the same images."""
    differences = {}
    for name in a.keys() & b.keys():
        if same_runs and len(a[name]) == len(b[name]):
            differences[name] = intervals.of_mean(np.subtract(b[name], a[name]))
        else:
            differences[name] = intervals.of_difference(b[name], a[name])
    return differences


def _by_images(
    a: Sequence[Result], head_a: str, b: Sequence[Result], head_b: str, split: str
) -> dict[str, Estimate]:
    """Those for other seeds and other images, of the scores for which this can be known."""
    if min(len(a), len(b)) == 1:  # nothing is known of other seeds
        return {}
    masks = summary.group_masks(a[0].metrics["classes"])
    differences = {}
    for name, names in ((split, ("mean_iou", *masks)), (OUT_SPLIT, ("out_of_context",))):
        sides = [
            [run.counts.get(name, {}).get(head) for run in runs]
            for runs, head in ((a, head_a), (b, head_b))
        ]
        if any(counts is None for side in sides for counts in side):
            continue
        found = resampling.compare(
            *map(np.stack, sides), masks, same_runs=a is b, resamples=RESAMPLES
        )
        for m, score in enumerate(names):
            value = float(found.b[m] - found.a[m])
            differences[score] = Estimate(value, float(found.low[m]), float(found.high[m]))
    return differences


def scores_of(run: Result, split: str, head: str) -> dict[str, float | None]:
    """The scores of one run by `SCORES`'s names; None for one that there is not."""
    entries = {(entry["split"], entry["head"]): entry for entry in run.metrics["results"]}
    entry: Entry | None = entries.get((split, head))
    if entry is None:
        return {}
    groups = summary.group_means(entry, run.metrics["classes"])
    found = {"mean_iou": entry["mean_iou"], **{group: groups[group][0] for group in groups}}
    outside = entries.get((OUT_SPLIT, head))
    if outside and split != OUT_SPLIT:
        found["out_of_context"] = outside["mean_iou"]
        found["context_gap"] = summary.mean_present(summary.context_gaps(entry, outside))
    return found


def seconds_per_step(runs: Sequence[Result]) -> float | None:
    """The median time of a step, over all that some runs recorded."""
    seconds = [
        run.batch_size / line["images_per_second"]
        for run in runs
        for line in run.lines
        if line["kind"] == "train" and line.get("images_per_second")
    ]
    return statistics.median(seconds) if seconds else None
