"""The two sides of a comparison, and what it comes to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dropclass_jax.comparison import bootstrap, differences
from dropclass_jax.comparison.bootstrap import Comparison
from dropclass_jax.comparison.differences import Difference
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import summary
from dropclass_jax.evaluation.inference import OUTPUTS
from dropclass_jax.evaluation.summary import Classes
from dropclass_jax.runs import given_weights, results, rundir
from dropclass_jax.runs.results import read_counts
from dropclass_jax.runs.scored import Scored, check_same


class Side(NamedTuple):
    """Runs of one method, evaluated by one of their outputs on a split.

    Attributes:
      name: what it is called.
      workdirs: the runs' folders.
      head: ``drop`` or ``plain``.
      split: of the data set.
      ids: ``[N]``, the images.
      counts: ``[S, N, K, 3]`` hits, labelled and predicted pixels of each run.
      metrics: the content of the runs' ``metrics.json``.
    """

    name: str
    workdirs: list[Path]
    head: str
    split: str
    ids: np.ndarray
    counts: np.ndarray
    metrics: list[dict[str, Any]]


def read(workdirs: Sequence[Path], split: str | None, head: str | None, name: str) -> Side:
    """Read one side.

    Args:
      workdirs: the folders of one or more runs.
      split: by default ``val``, or the first that the first run was evaluated on.
      head: by default the one that predicts.
      name: what the side is called.

    Raises:
      UserError: a run lacks what is needed, the runs do not fit together, or one is there twice.
    """
    metrics = [results.read_metrics(workdir) for workdir in workdirs]
    split = split or summary.headline(metrics[0])[0]["split"]
    arrays = [read_counts(workdir, split) for workdir in workdirs]
    head = head or next(name for name in OUTPUTS if name in arrays[0][1])
    for workdir, (_, counts) in zip(workdirs, arrays, strict=True):
        if head not in counts:
            raise UserError(
                f"{workdir} has no counts of the {head} head on {split}, only of "
                f"{' and '.join(counts)}"
            )
    heads = {tuple(sorted(counts)) for _, counts in arrays}
    if len(heads) > 1:
        raise UserError(f"{workdirs[0]} and other runs of its side are of DropClass and plain ones")
    sides = [
        Side(name, [workdir], head, split, ids, counts[head][None], [content])
        for workdir, (ids, counts), content in zip(workdirs, arrays, metrics, strict=True)
    ]
    for side in sides[1:]:
        check(sides[0], side)
    _check_copies(workdirs)
    return sides[0]._replace(
        workdirs=list(workdirs),
        counts=np.concatenate([side.counts for side in sides]),
        metrics=metrics,
    )


def _check_copies(workdirs: Sequence[Path]) -> None:
    """Refuse two runs of one config, seed and data: they would pass for seeds that hardly vary."""
    for a, b in itertools.combinations(filter(_config, workdirs), 2):
        given = [(rundir.fingerprint(run), given_weights.kept(run)) for run in (a, b)]
        if given[0] == given[1] and not rundir.config_differences(a, _config(b)):
            raise UserError(
                f"{a} and {b} are runs of the same config, seed and data, which say nothing of "
                "other seeds: name one of them"
            )


def _config(workdir: Path) -> dict[str, Any]:
    """The config of a run; empty where it cannot be read."""
    try:
        return rundir.read_config(workdir)
    except UserError:
        return {}


def check(a: Side, b: Side) -> None:
    """Refuse two sides that were not scored on the same images and classes.

    Raises:
      UserError: says what differs.
    """
    names = [[entry["name"] for entry in side.metrics[0]["classes"]] for side in (a, b)]
    if names[0] != names[1]:
        raise UserError(
            f"{a.workdirs[0]} and {b.workdirs[0]} have different classes, which cannot be compared"
        )
    known = (Scored(side.ids, {side.head: side.counts[0]}, []) for side in (a, b))
    check_same((a.workdirs[0], b.workdirs[0]), a.split, *known)


def compare(a: Side, b: Side, resamples: int = bootstrap.RESAMPLES) -> Outcome:
    """Compare two sides; see ``bootstrap.compare``.

    Raises:
      UserError: they do not fit together.
    """
    check(a, b)
    classes = a.metrics[0]["classes"]
    masks = summary.group_masks(classes)
    same_runs = a.workdirs == b.workdirs
    comparison = bootstrap.compare(
        a.counts, b.counts, masks, same_runs=same_runs, resamples=resamples
    )
    return Outcome(
        (a.name, b.name),
        ([str(path) for path in a.workdirs], [str(path) for path in b.workdirs]),
        (a.head, b.head),
        tuple(sorted({content["step"] for content in side.metrics}) for side in (a, b)),
        a.split,
        len(a.ids),
        resamples,
        classes,
        {group: int(mask.sum()) for group, mask in masks.items()},
        tuple(bootstrap.predicted(side.counts, masks) for side in (a, b)),
        tuple([content.get("command", "-") for content in side.metrics] for side in (a, b)),
        differences.between(a.workdirs, b.workdirs, a.metrics, b.metrics, (a.head, b.head)),
        comparison,
    )


class Outcome(NamedTuple):
    """The result of a comparison; pairs are of the sides A and B.

    Attributes:
      names: of the sides.
      workdirs: the runs' folders.
      heads: which head predicts.
      steps: of training, all there are among the runs.
      split: of the data set.
      images: how many.
      resamples: draws of the images.
      classes: of `metrics.json`.
      groups: how many classes each group has, in the order of the scores.
      predicted: ``[M]``, pixels that all runs of a side predict, score by score.
      commands: that trained the runs.
      differences: what is not the same on both sides, but the folders.
      comparison: from `bootstrap.compare`: the mean, the groups, the classes.
    """

    names: tuple[str, str]
    workdirs: tuple[list[str], list[str]]
    heads: tuple[str, str]
    steps: tuple[list[int], list[int]]
    split: str
    images: int
    resamples: int
    classes: Classes
    groups: dict[str, int]
    predicted: tuple[np.ndarray, np.ndarray]
    commands: tuple[list[str], list[str]]
    differences: list[Difference]
    comparison: Comparison
