"""Results of an evaluation in a run's folder: scores, counts of every image, sample pictures."""

from __future__ import annotations

import contextlib
import itertools
import json
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dropclass_jax import data
from dropclass_jax.data.info import counted_class_list
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import boundary, inference, metrics, summary
from dropclass_jax.evaluation.inference import OUTPUTS
from dropclass_jax.evaluation.loop import Evaluation
from dropclass_jax.experiment.facts import Facts
from dropclass_jax.files import atomic, finite, read_object, write_json
from dropclass_jax.runs import metrics_check, provenance, records, rundir, starts
from dropclass_jax.runs.scored import Scored, check_same, difference, pixels_of

# What numpy raises for a file of arrays that is missing or damaged.
UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


def entries(
    split: str,
    evaluation: Evaluation,
    views: inference.Views = inference.WHOLE,
    heads: Iterable[str] = OUTPUTS,
) -> list[dict[str, Any]]:
    """The entries of ``metrics.json`` for one split, the output that predicts first."""
    return [
        {
            "split": split,
            "head": head,
            "inference": inference.describe(views),
            "images": len(evaluation.ids),
            **metrics.scores(evaluation.confusions[head]),
            **boundary.scores(evaluation.boundaries[head]),
            "confusion": evaluation.confusions[head],
        }
        for head in OUTPUTS
        if head in evaluation.confusions and head in heads
    ]


def write(
    workdir: Path,
    facts: Facts,
    dataset: data.Dataset,
    step: int,
    evaluations: Mapping[str, Evaluation],
    heads: Iterable[str] = OUTPUTS,
    views: inference.Views = inference.WHOLE,
) -> dict[str, Any]:
    """Write ``metrics.json``, ``images.npz`` and ``samples.npz``.

    Existing results of the same step for other splits, heads or views are kept. Those of another
    step are dropped, and so are those of a split that were made on other images or by other labels,
    which is printed. Results on whole images are the run's ``results``, with counts and samples;
    those of any other views are listed separately, as ``view_results``.

    Args:
      workdir: the run's folder.
      facts: of the run's config.
      dataset: what it was evaluated on.
      step: of the checkpoint.
      evaluations: by split.
      heads: those that were asked for.
      views: how the images were shown to the network.

    Returns:
      What was written to ``metrics.json``.
    """
    old = try_metrics(workdir)
    if old.get("step") != step:
        old = {}
    fresh = [
        entry
        for split, evaluation in evaluations.items()
        for entry in entries(split, evaluation, views, heads)
    ]
    content = {
        "dataset": dataset.info.name,
        "model": facts.model,
        "dropclass": facts.dropclass,
        "seed": facts.seed,
        "step": step,
        "command": old.get("command") or provenance.command(),
        "device": provenance.device_name(),
        "versions": provenance.versions(),
        **starts.goodput(workdir, facts.batch_size),
        "classes": counted_class_list(dataset.counted_info),
        **_still_true(workdir, old, evaluations),
    }
    kind = "results" if views == inference.WHOLE else "view_results"
    content[kind] = _merge(content[kind], fresh, list(dataset.splits))
    content = finite(content)
    for entry in content["results"] + content["view_results"]:
        means = summary.group_means(entry, content["classes"])
        entry["groups"] = {group: mean for group, (mean, _) in means.items()}
    if kind == "results":
        _write_counts(workdir / "images.npz", evaluations, heads)
        _write_samples(workdir / "samples.npz", evaluations)
    write_json(workdir / "metrics.json", content)
    return content


def _still_true(
    workdir: Path, old: Mapping[str, Any], evaluations: Mapping[str, Evaluation]
) -> dict[str, list[dict[str, Any]]]:
    """The old results that may stand beside new ones; the counts and samples of others go, too."""
    kinds = {kind: old.get(kind, []) for kind in ("results", "view_results")}
    if not old:  # or what lies there is of another step
        for name in ("images.npz", "samples.npz"):
            (workdir / name).unlink(missing_ok=True)
    for split, evaluation in evaluations.items():
        before = _scored(workdir, split, kinds["results"] + kinds["view_results"])
        (pixels, *_) = (matrix.sum(axis=1) for matrix in evaluation.confusions.values())
        how = difference(before, Scored(evaluation.ids, evaluation.counts, [pixels]))
        if not how:
            continue
        print(f"{workdir}: the earlier scores of {split} were made {how}: dropped")
        kinds = {
            kind: [entry for entry in entries if entry["split"] != split]
            for kind, entries in kinds.items()
        }
        for path in (workdir / "images.npz", workdir / "samples.npz"):
            _write_arrays(path, _read_arrays(path, without=(split,)))
    return kinds


def _merge(
    old: list[dict[str, Any]], fresh: list[dict[str, Any]], splits: list[str]
) -> list[dict[str, Any]]:
    """Entries ordered by split, head and views; a fresh one replaces an old one.

    Splits that the data no longer has come last.
    """
    splits = list(dict.fromkeys([*splits, *(entry["split"] for entry in old)]))

    def key(entry: Mapping[str, Any]) -> tuple[int, int, str]:
        split, output = splits.index(entry["split"]), OUTPUTS.index(entry["head"])
        return split, output, entry.get("inference", summary.WHOLE)

    merged = {key(entry): entry for entry in old + fresh}
    return [merged[at] for at in sorted(merged)]


def _write_counts(path: Path, evaluations: Mapping[str, Evaluation], heads: Iterable[str]) -> None:
    """``SPLIT/ids`` str [N] and ``SPLIT/HEAD/counts`` int64 [N, K, 3] of every image."""
    arrays = _read_arrays(path)
    for split, evaluation in evaluations.items():
        arrays[f"{split}/ids"] = evaluation.ids
        arrays |= {
            f"{split}/{head}/counts": counts
            for head, counts in evaluation.counts.items()
            if head in heads
        }
    _write_arrays(path, arrays)


def _write_samples(path: Path, evaluations: Mapping[str, Evaluation]) -> None:
    arrays = _read_arrays(path, without=evaluations)
    for split, evaluation in evaluations.items():
        for n, sample in enumerate(evaluation.samples):
            arrays |= {f"{split}/{n}/{name}": value for name, value in sample.items()}
    _write_arrays(path, arrays)


def _split_of(key: str) -> str:
    return key.split("/")[0]


def _read_arrays(path: Path, without: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of a file, but for those of some splits; none of one that cannot be read."""
    try:
        with np.load(path) as arrays:
            return {key: arrays[key] for key in arrays if _split_of(key) not in without}
    except UNREADABLE:
        return {}


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with atomic(path) as file:
        np.savez_compressed(file, **arrays)


def read_counts(workdir: Path, split: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The ids of a split's images, ``[N]``, and ``{head: [N, K, 3]}`` counts.

    Raises:
      UserError: the run was not evaluated on the split, or by an older version.
    """
    try:
        with np.load(workdir / "images.npz") as arrays:
            ids = arrays[f"{split}/ids"]
            counts = {
                head: arrays[f"{split}/{head}/counts"]
                for head in OUTPUTS
                if f"{split}/{head}/counts" in arrays
            }
    except UNREADABLE:
        counts = {}
    if not counts:
        raise UserError(
            f"{workdir} has no counts of the images of {split} (images.npz); make them: "
            f"python -m dropclass_jax.evaluate --workdir={workdir} --split={split}"
        )
    return ids, counts


def common_counts(workdirs: Sequence[Path]) -> list[dict[str, dict[str, np.ndarray]]]:
    """For each run ``{split: {head: [N, K, 3]}}``, of the splits of which all runs have counts.

    Raises:
      UserError: two runs were not scored on the same images of a split and by the same labels.
    """
    read = []
    for workdir in workdirs:
        entries = read_metrics(workdir)["results"]
        splits = dict.fromkeys(entry["split"] for entry in entries)
        read.append({split: _scored(workdir, split, entries) for split in splits})
    for (a, of_a), (b, of_b) in itertools.combinations(zip(workdirs, read, strict=True), 2):
        for split in (split for split in of_a if split in of_b):
            check_same((a, b), split, of_a[split], of_b[split])
    common = [split for split in read[0] if all(split in run and run[split].counts for run in read)]
    return [{split: run[split].counts for split in common} for run in read]


def _scored(workdir: Path, split: str, entries: Iterable[Mapping[str, Any]]) -> Scored:
    """What a run's entries of a split rest on."""
    ids, counts = None, {}
    with contextlib.suppress(UserError):  # of an older version, or none there
        ids, counts = read_counts(workdir, split)
    return Scored(ids, counts, pixels_of(entries, split))


def read_metrics(workdir: Path) -> dict[str, Any]:
    """The content of a run's `metrics.json`.

    Raises:
      UserError: it is missing, is not JSON, or has no results.
    """
    path = workdir / "metrics.json"
    if not workdir.is_dir():
        raise UserError(f"{workdir} is not a directory: give the --workdir of a training run")
    if not path.is_file():
        raise UserError(f"{path} is missing: let the run finish or evaluate it, then report on it")
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): evaluate the run again") from None
    if wrong := metrics_check.fault(metrics):
        raise UserError(f"{path} is not what a run writes: {wrong}; evaluate the run again")
    for key in ("dataset", "model", "dropclass", "step", "classes", "results"):
        if metrics.get(key) in (None, []):
            raise UserError(f"{path} has no {key!r}: evaluate the run again")
    return metrics


def try_metrics(workdir: Path) -> dict[str, Any]:
    """The content of a run's ``metrics.json``; empty where it cannot be read."""
    metrics = read_object(workdir / "metrics.json") or {}
    return {} if metrics_check.fault(metrics) else metrics


def read_samples(workdir: Path) -> dict[str, list[dict[str, Any]]]:
    """The sample pictures of each split, in order, from ``samples.npz``."""
    arrays = _read_arrays(workdir / "samples.npz")
    splits: dict[str, list[dict[str, Any]]] = {}
    names = {key.rsplit("/", 1)[0] for key in arrays}
    for name in sorted(names, key=lambda name: int(name.rsplit("/", 1)[1])):
        sample = {key: arrays[f"{name}/{key}"] for key in ("image", "label", "prediction")}
        sample["id"] = str(arrays[f"{name}/id"])
        splits.setdefault(_split_of(name), []).append(sample)
    return dict(sorted(splits.items()))


class Recorded(NamedTuple):
    """All that a run's folder records of it, for its report.

    Attributes:
      metrics: the content of ``metrics.json``.
      lines: the records of ``metrics.jsonl``.
      unreadable: how many of its lines could not be read.
      samples: see ``read_samples``.
      config: the content of ``config.json``; None where it is missing.
    """

    metrics: dict[str, Any]
    lines: list[dict[str, Any]]
    unreadable: int
    samples: dict[str, list[dict[str, Any]]]
    config: str | None


def read_recorded(workdir: Path) -> Recorded:
    """Read a run's folder.

    Raises:
      UserError: ``metrics.json`` is missing, is not JSON, or has no results.
    """
    metrics = read_metrics(workdir)
    config = rundir.config_text(workdir) if rundir.exists(workdir) else None
    return Recorded(metrics, *records.read(workdir), read_samples(workdir), config)
