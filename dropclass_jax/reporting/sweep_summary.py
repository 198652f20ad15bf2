"""Results of a sweep: a row for every arm and head, over its seeds.

Everything here is a pure function of the runs' `metrics.json` and `metrics.jsonl`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dropclass_jax.comparison import bootstrap, intervals
from dropclass_jax.comparison.intervals import Estimate
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import summary
from dropclass_jax.evaluation.inference import OUTPUTS
from dropclass_jax.evaluation.summary import Entry

MAIN_SPLITS = ("val",)  # the one that is compared, if there is one of that name; else the first
RESAMPLES = 4_000  # draws of the images for every arm
OUT_SPLIT = "val_out"  # the same classes out of their usual context


class Result(NamedTuple):
    """A finished run.

    Attributes:
      arm: the arm's name.
      family: equal for arms that differ in nothing but the length of training.
      seed: the run's.
      steps: of training, with those of the run that it started from.
      metrics: the content of `metrics.json`.
      lines: those of `metrics.jsonl`.
      batch_size: examples a step.
      counts: `{split: {head: [N, K, 3]}}`, hits, labelled and predicted pixels of each image, of
        splits whose images are the same in all runs; see `bootstrap.compare`.
    """

    arm: str
    family: str
    seed: int
    steps: int
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
    """One output of an arm.

    Attributes:
      arm: its name.
      family: see `Result`.
      head: which head predicts.
      heads: how many heads the arm's network has.
      seeds: of the runs that were scored by this head.
      steps: see `Result`.
      against: the label of the row that it is compared with; None for the first.
      scores: by name; those that its split has.
      seconds_per_step: the median over all that the runs recorded; None where they recorded none.
    """

    arm: str
    family: str
    head: str
    heads: int
    seeds: list[int]
    steps: int
    against: str | None
    scores: dict[str, Score]
    seconds_per_step: float | None

    @property
    def label(self) -> str:
        """`ARM`, and which head where it has two."""
        return _label(self.arm, self.head, self.heads)


def _label(arm: str, head: str, heads: int) -> str:
    return arm if heads == 1 else f"{arm}, {head} head"


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
    """The split by which arms are compared: one that all runs were scored on.

    Raises:
      UserError: there is none.
    """
    scored = [[entry["split"] for entry in run.metrics["results"]] for run in results]
    splits = [name for name in scored[0] if all(name in of_run for of_run in scored)]
    if not splits:
        raise UserError(
            "the runs of the sweep were scored on no split in common: evaluate all of them on one, "
            "python -m dropclass_jax.evaluate --workdir=RUN --split=NAME"
        )
    return next((name for name in MAIN_SPLITS if name in splits), splits[0])


class _Reading(NamedTuple):
    """The runs of an arm that have an output, read by it; `values` are `{score: [of each run]}`."""

    runs: list[Result]
    head: str
    heads: int
    values: dict[str, list[float]]

    @property
    def label(self) -> str:
        return _label(self.runs[0].arm, self.head, self.heads)

    @property
    def networks(self) -> list[tuple[str, int]]:
        return [(run.arm, run.seed) for run in self.runs]


def rows(results: Sequence[Result]) -> list[Row]:
    """A row an arm and head, in the arms' order, the head that predicts first.

    Each is compared with the first arm; where arms were trained for different numbers of steps,
    with one of the first arm's family that took as many, if there is one.

    Args:
      results: of one or more arms, the reference's first; every arm has one or more seeds.
    """
    split = main_split(results)
    arms: dict[str, list[Result]] = {}
    for result in results:
        arms.setdefault(result.arm, []).append(result)
    readings = []
    for runs in arms.values():
        scored = {entry["head"] for run in runs for entry in run.metrics["results"]}
        heads = 2 if runs[0].metrics.get("dropclass") else len(scored)
        for head in OUTPUTS:
            read = [(run, scores_of(run, split, head)) for run in runs]
            read = [(run, scores) for run, scores in read if scores.get("mean_iou") is not None]
            if not read:
                continue
            values = {
                name: [scores[name] for _, scores in read if scores.get(name) is not None]
                for name in SCORES
            }
            values = {name: of_runs for name, of_runs in values.items() if of_runs}
            readings.append(_Reading([run for run, _ in read], head, heads, values))
    return [_row(reading, _reference(reading, readings), split) for reading in readings]


def _reference(reading: _Reading, readings: Sequence[_Reading]) -> _Reading | None:
    first, run = readings[0], reading.runs[0]
    if reading is first:
        return None
    like_first = (
        other
        for other in readings
        if (other.runs[0].family, other.head) == (first.runs[0].family, first.head)
        and other.runs[0].steps == run.steps
        and other is not reading
    )
    return next(like_first, first)


def _row(reading: _Reading, reference: _Reading | None, split: str) -> Row:
    differences = {}
    if reference is not None:
        differences = _by_seeds(reference, reading) | _by_images(reference, reading, split)
    first = reading.runs[0]
    return Row(
        first.arm,
        first.family,
        reading.head,
        reading.heads,
        [run.seed for run in reading.runs],
        first.steps,
        reference and reference.label,
        {
            name: Score(
                name,
                values,
                intervals.of_mean(values),
                intervals.deviation(values),
                differences.get(name),
            )
            for name, values in reading.values.items()
        },
        seconds_per_step(reading.runs),
    )


def _by_seeds(a: _Reading, b: _Reading) -> dict[str, Estimate]:
    """Differences `b - a` with intervals for other seeds on the same images."""
    differences = {}
    for name in a.values.keys() & b.values.keys():
        of_a, of_b = a.values[name], b.values[name]
        if a.networks == b.networks and len(of_a) == len(of_b):  # two heads of each network
            differences[name] = intervals.of_mean(np.subtract(of_b, of_a))
        else:
            differences[name] = intervals.of_difference(of_b, of_a)
    return differences


def _by_images(a: _Reading, b: _Reading, split: str) -> dict[str, Estimate]:
    """Those for other seeds and other images, of the scores for which this can be known."""
    if min(len(a.runs), len(b.runs)) == 1:  # nothing is known of other seeds
        return {}
    masks = summary.group_masks(a.runs[0].metrics["classes"])
    differences = {}
    for name, scores in ((split, ("mean_iou", *masks)), (OUT_SPLIT, ("out_of_context",))):
        sides = [[run.counts.get(name, {}).get(x.head) for run in x.runs] for x in (a, b)]
        if any(counts is None for side in sides for counts in side):
            continue
        comparison = bootstrap.compare(
            *map(np.stack, sides), masks, same_runs=a.networks == b.networks, resamples=RESAMPLES
        )
        for m, score in enumerate(scores):
            value = float(comparison.b[m] - comparison.a[m])
            differences[score] = Estimate(
                value, float(comparison.low[m]), float(comparison.high[m])
            )
    return differences


def scores_of(run: Result, split: str, head: str) -> dict[str, float | None]:
    """The scores of one run by `SCORES`'s names; None for one that there is not."""
    entries = {(entry["split"], entry["head"]): entry for entry in run.metrics["results"]}
    entry: Entry | None = entries.get((split, head))
    if entry is None:
        return {}
    groups = summary.group_means(entry, run.metrics["classes"])
    scores = {"mean_iou": entry["mean_iou"], **{group: groups[group][0] for group in groups}}
    outside = entries.get((OUT_SPLIT, head))
    if outside and split != OUT_SPLIT:
        scores["out_of_context"] = outside["mean_iou"]
        scores["context_gap"] = summary.mean_present(summary.context_gaps(entry, outside))
    return scores


def seconds_per_step(runs: Sequence[Result]) -> float | None:
    """The median time of a step, over all that some runs recorded."""
    seconds = [
        run.batch_size / line["images_per_second"]
        for run in runs
        for line in run.lines
        if line["kind"] == "train" and line.get("images_per_second")
    ]
    return statistics.median(seconds) if seconds else None
