"""What a sweep found: a row for every arm and head, over its seeds.

Everything here is a pure function of the runs' `metrics.json` and `metrics.jsonl`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dropclass_jax import intervals
from dropclass_jax.intervals import Estimate
from dropclass_jax.reporting import summary
from dropclass_jax.reporting.summary import Entry

MAIN_SPLITS = ("val",)  # the one that is compared, if there is one of that name; else the first
OUT_SPLIT = "val_out"  # the same classes out of their usual context


class Result(NamedTuple):
    """A finished run.

    Attributes:
      arm: the arm's name.
      seed: the run's.
      metrics: the content of `metrics.json`.
      lines: those of `metrics.jsonl`.
      batch_size: examples a step.
    """

    arm: str
    seed: int
    metrics: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    batch_size: int


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
    for arm, runs in arms.items():
        heads = sorted({e["head"] for run in runs for e in run.metrics["results"]})  # drop first
        for head in heads:
            values = [scores_of(run, split, head) for run in runs]
            reference = made[0].scores if made else {}
            scores = {}
            for name in SCORES:
                seeds = [value[name] for value in values if value.get(name) is not None]
                if seeds:
                    scores[name] = _score(name, seeds, reference.get(name))
            made.append(
                Row(
                    arm,
                    head,
                    len(heads),
                    [run.seed for run in runs],
                    runs[0].metrics["step"],
                    scores,
                    seconds_per_step(runs),
                )
            )
    return made


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


def _score(name: str, seeds: list[float], reference: Score | None) -> Score:
    difference = intervals.of_difference(seeds, reference.seeds) if reference else None
    return Score(name, seeds, intervals.of_mean(seeds), intervals.deviation(seeds), difference)
