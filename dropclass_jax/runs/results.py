"""What an evaluation leaves in a run's folder: scores, counts of every image, sample pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from dropclass_jax import data, report
from dropclass_jax.evaluation import boundary, inference, metrics, summary
from dropclass_jax.reporting import table
from dropclass_jax.runs import records, rundir

HEADS = tuple(inference.HEADS)


class Evaluation(NamedTuple):
    """What one pass over a split gives.

    Attributes:
      confusions: ``{head: [K, K] int64}``, all images together.
      boundaries: ``{head: [K, 2] int64}``, likewise: intersections and unions near the contours.
      ids: ``[N]`` str, the images' names.
      counts: ``{head: [N, K, 3] int64}``, hits, labelled and predicted pixels of each image.
      samples: a few examples: ``image``, ``label``, ``prediction`` and ``id``.
    """

    confusions: dict[str, np.ndarray]
    boundaries: dict[str, np.ndarray]
    ids: np.ndarray
    counts: dict[str, np.ndarray]
    samples: list[dict[str, Any]]


def entries(
    split: str,
    evaluation: Evaluation,
    views: inference.Views = inference.WHOLE,
    heads: Iterable[str] = HEADS,
) -> list[dict[str, Any]]:
    """``metrics.json``'s entries of one split, the model's own head first."""
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
        for head in sorted(evaluation.confusions)  # 'drop' before 'plain'
        if head in heads
    ]


def write(
    workdir: Path,
    config: ConfigDict,
    dataset: data.Dataset,
    step: int,
    evaluations: Mapping[str, Evaluation],
    heads: Iterable[str] = HEADS,
    views: inference.Views = inference.WHOLE,
) -> dict[str, Any]:
    """Write ``metrics.json``, ``metrics.csv``, ``images.npz``, ``samples.npz``, ``report.html``.

    Results of the same step that lie there for other splits, heads or views are kept; those of
    another step are not. Those of whole images are the run's ``results``, of which there are counts
    and samples as well; those of any other views stand apart, as ``view_results``.

    Args:
      workdir: the run's folder.
      config: the run's config.
      dataset: what it was evaluated on.
      step: of the checkpoint.
      evaluations: by split.
      heads: those that were asked for.
      views: how the images were shown to the network.

    Returns:
      What was written to ``metrics.json``.
    """
    old = _read_old(workdir, step)
    fresh = [
        entry
        for split, evaluation in evaluations.items()
        for entry in entries(split, evaluation, views, heads)
    ]
    train_pixels = dataset.class_pixels["train"]
    content = {
        "dataset": dataset.info.name,
        "model": config.model.name,
        "dropclass": config.dropclass.enabled,
        "seed": config.seed,
        "step": step,
        "command": old.get("command") or records.command(),
        "device": records.device_name(),
        "versions": records.versions(),
        **records.goodput(workdir, config.batch_size),
        "classes": [
            {"name": name, "color": color, "train_pixels": pixels, "train_pixel_share": share}
            for name, color, pixels, share in zip(
                dataset.info.classes,
                dataset.info.colors,
                train_pixels,
                train_pixels / max(train_pixels.sum(), 1),
                strict=True,
            )
        ],
        "results": old.get("results", []),
        "view_results": old.get("view_results", []),
    }
    if not old:  # or what lies there is of another step
        for name in ("images.npz", "samples.npz"):
            (workdir / name).unlink(missing_ok=True)
    kind = "results" if views == inference.WHOLE else "view_results"
    content[kind] = _merge(content[kind], fresh, list(dataset.splits))
    content = rundir.finite(content)
    for entry in content["results"] + content["view_results"]:
        means = summary.group_means(entry, content["classes"])
        entry["groups"] = {group: mean for group, (mean, _) in means.items()}
    if kind == "results":
        _write_counts(workdir / "images.npz", evaluations, heads)
        _write_samples(workdir / "samples.npz", evaluations)
    rundir.write_json(workdir / "metrics.json", content)
    table.write_csv(workdir / "metrics.csv", content)
    if content["results"]:
        report.write_report(workdir)
    return content


def _read_old(workdir: Path, step: int) -> dict[str, Any]:
    """What ``metrics.json`` says of the same step; nothing where it is of another."""
    try:
        old = json.loads((workdir / "metrics.json").read_text())
    except (OSError, ValueError):
        return {}
    return old if old.get("step") == step else {}


def _merge(
    old: list[dict[str, Any]], fresh: list[dict[str, Any]], splits: list[str]
) -> list[dict[str, Any]]:
    """Entries in the order of splits, heads and views; a fresh one takes an old one's place."""

    def key(entry: Mapping[str, Any]) -> tuple[int, str, str]:
        return splits.index(entry["split"]), entry["head"], entry.get("inference", summary.WHOLE)

    merged = {key(entry): entry for entry in old + fresh}
    return [merged[at] for at in sorted(merged)]


def _write_counts(path: Path, evaluations: Mapping[str, Evaluation], heads: Iterable[str]) -> None:
    """``SPLIT/ids`` str [N] and ``SPLIT/HEAD/counts`` int64 [N, K, 3] of every image."""
    arrays = _read_arrays(path)
    for split, evaluation in evaluations.items():
        if not np.array_equal(arrays.get(f"{split}/ids"), evaluation.ids):  # of other data
            arrays = {key: array for key, array in arrays.items() if _split_of(key) != split}
        arrays[f"{split}/ids"] = evaluation.ids
        arrays |= {
            f"{split}/{head}/counts": counts
            for head, counts in evaluation.counts.items()
            if head in heads
        }
    _write_arrays(path, arrays)


def _write_samples(path: Path, evaluations: Mapping[str, Evaluation]) -> None:
    arrays = _read_arrays(path)
    arrays = {key: array for key, array in arrays.items() if _split_of(key) not in evaluations}
    for split, evaluation in evaluations.items():
        for n, sample in enumerate(evaluation.samples):
            arrays |= {f"{split}/{n}/{name}": value for name, value in sample.items()}
    _write_arrays(path, arrays)


def _split_of(key: str) -> str:
    return key.split("/")[0]


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    with np.load(path) as arrays:
        return dict(arrays)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    temporary.replace(path)


def print_tables(
    content: Mapping[str, Any],
    heads: Iterable[str] | None = None,
    views: inference.Views = inference.WHOLE,
) -> None:
    """Print one table a result; for a DropClass model the drop head's alone unless asked.

    Results of other views than whole images are compared with those, where they are there.

    Args:
      content: of ``metrics.json``.
      heads: whose results.
      views: which results.
    """
    heads = tuple(heads or (("drop",) if content["dropclass"] else ("plain",)))
    of_whole = {(entry["split"], entry["head"]): entry for entry in content["results"]}
    shown, baselines = list(of_whole.values()), {}
    if views != inference.WHOLE:
        name = inference.describe(views)
        shown = [entry for entry in content["view_results"] if entry["inference"] == name]
        baselines = of_whole
    shown = [entry for entry in shown if entry["head"] in heads]
    for entry in shown:
        baseline = baselines.get((entry["split"], entry["head"]))
        print()
        print(table.class_table(entry, content["classes"], baseline))
    by_split = {entry["split"]: entry for entry in shown if entry["head"] == heads[0]}
    inside, outside = report.CONTEXT_SPLITS
    if {inside, outside} <= by_split.keys():
        print()
        print(table.context_gap_table(by_split[inside], by_split[outside], content["classes"]))
