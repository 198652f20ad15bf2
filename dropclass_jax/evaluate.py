"""Score a run's latest checkpoint.

python -m dropclass_jax.evaluate --workdir=RUN [--split=val] [--head=drop|plain]
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from dropclass_jax import (
    checkpoint,
    command,
    data,
    experiment,
    metrics,
    parallel,
    report,
    rundir,
)
from dropclass_jax.data import pipeline
from dropclass_jax.errors import UserError
from dropclass_jax.reporting import table

NUM_SAMPLES = 4

HEADS = ("plain", "drop")


class Evaluation(NamedTuple):
    """What one pass over a split gives.

    Attributes:
      confusions: ``{head: [K, K] int64}``.
      images: how many were scored.
      samples: a few examples: ``image``, ``label``, ``prediction`` and ``id``.
    """

    confusions: dict[str, np.ndarray]
    images: int
    samples: list[dict[str, Any]]


def evaluate_batches(
    eval_step: Callable[..., Any],
    variables: Any,
    batches: Iterable[Mapping[str, Any]],
    sample_at: Collection[int] = (),
) -> Evaluation:
    """Count every batch of a split into one confusion matrix a head.

    Args:
      eval_step: from ``parallel.pmap_eval``.
      variables: the model's, one replica.
      batches: from ``pipeline.eval_iterator``: the last one is padded, none is dropped.
      sample_at: positions of the examples to keep as pictures, with the predictions of the model's
        own head: ``drop`` where there is one.
    """
    confusions: dict[str, np.ndarray] = {}
    images, samples = 0, []
    for batch in batches:
        arrays = parallel.shard({"image": batch["image"], "label": batch["label"]})
        counts, predictions = eval_step(variables, arrays)
        for head, count in counts.items():
            confusions[head] = confusions.get(head, 0) + np.asarray(count, np.int64)
        rows = [row for row in np.flatnonzero(batch["valid"]) if images + row in sample_at]
        if rows:
            predicted = parallel.unshard(predictions.get("drop", predictions["plain"]))
            samples += _samples(batch, np.asarray(predicted), rows)
        images += int(np.sum(batch["valid"]))
    return Evaluation(confusions, images, samples)


def _samples(
    batch: Mapping[str, Any], predicted: np.ndarray, rows: Iterable[int]
) -> list[dict[str, Any]]:
    """Some examples of a batch at their own sizes."""
    samples = []
    for i in rows:
        height, width = batch["size"][i]
        sample = {
            "image": batch["image"][i],
            "label": batch["label"][i],
            "prediction": predicted[i],
        }
        sample = {name: array[:height, :width] for name, array in sample.items()}
        samples.append({**sample, "id": str(batch["id"][i])})
    return samples


def check_split(dataset: data.Dataset, split: str) -> None:
    """Refuse a split that a data set does not have, or has no labels of.

    Raises:
      UserError: lists the splits that there are, or says which has no labels.
    """
    if split not in dataset.splits:
        raise UserError(
            f"data set {dataset.info.name} has no split {split!r}; it has "
            f"{', '.join(dataset.splits)}"
        )
    if not dataset.class_pixels[split].any():
        raise UserError(
            f"split {split!r} of data set {dataset.info.name} has no labelled pixel: choose another"
        )


def evaluate_split(
    eval_step: Callable[..., Any],
    variables: Any,
    dataset: data.Dataset,
    split: str,
    batch_size: int,
    num_samples: int = NUM_SAMPLES,
) -> Evaluation:
    """``evaluate_batches`` over a split of a data set, with samples from all over it.

    Raises:
      UserError: the data set has no such split.
    """
    check_split(dataset, split)
    source = dataset.splits[split]
    batches = pipeline.eval_iterator(source, batch_size=batch_size)
    # Neighbours in a split are often neighbours in a video, and look the same.
    sample_at = {int(i) for i in np.linspace(0, len(source) - 1, num_samples)}
    return evaluate_batches(eval_step, variables, batches, sample_at)


def result_entries(
    split: str, evaluation: Evaluation, heads: Iterable[str] = HEADS
) -> list[dict[str, Any]]:
    """``metrics.json``'s entries of one split, the model's own head first."""
    entries = []
    for head in sorted(evaluation.confusions):  # 'drop' before 'plain'
        if head in heads:
            confusion = evaluation.confusions[head]
            about = {"split": split, "head": head, "images": evaluation.images}
            entries.append({**about, **metrics.scores(confusion), "confusion": confusion})
    return entries


def write_results(
    workdir: Path,
    config: ConfigDict,
    dataset: data.Dataset,
    step: int,
    evaluations: Mapping[str, Evaluation],
    heads: Iterable[str] = HEADS,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Write ``metrics.json``, ``metrics.csv``, ``samples.npz`` and ``report.html``.

    Results of the same step that lie there for other splits or heads are kept.

    Returns:
      What was written to ``metrics.json``.
    """
    train_pixels = dataset.class_pixels["train"]
    old = _read_old(workdir, step)
    entries = [
        entry
        for split, evaluation in evaluations.items()
        for entry in result_entries(split, evaluation, heads)
    ]
    fresh = {(entry["split"], entry["head"]) for entry in entries}
    kept = [e for e in old.get("results", []) if (e["split"], e["head"]) not in fresh]
    order = list(dataset.splits)
    content = {
        "dataset": dataset.info.name,
        "model": config.model.name,
        "dropclass": config.dropclass.enabled,
        "seed": config.seed,
        "step": step,
        "command": old.get("command") or _command(),
        "device": device_name(),
        "versions": versions(),
        "seconds": old.get("seconds") if seconds is None else seconds,
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
        "results": sorted(entries + kept, key=lambda e: (order.index(e["split"]), e["head"])),
    }
    if content["seconds"] is None:
        del content["seconds"]
    content = rundir.finite(content)
    rundir.write_json(workdir / "metrics.json", content)
    table.write_csv(workdir / "metrics.csv", content)
    _write_samples(workdir / "samples.npz", evaluations)
    report.write_report(workdir)
    return content


def _read_old(workdir: Path, step: int) -> dict[str, Any]:
    try:
        old = json.loads((workdir / "metrics.json").read_text())
    except (OSError, ValueError):
        return {}
    return old if old.get("step") == step else {}


def _write_samples(path: Path, evaluations: Mapping[str, Evaluation]) -> None:
    arrays = dict(np.load(path)) if path.exists() else {}
    arrays = {key: array for key, array in arrays.items() if key.split("/")[0] not in evaluations}
    for split, evaluation in evaluations.items():
        for n, sample in enumerate(evaluation.samples):
            arrays |= {f"{split}/{n}/{name}": value for name, value in sample.items()}
    np.savez_compressed(path, **arrays)


def _command() -> str:
    """The command as its user gave it: ``python -m dropclass_jax.train --config=...``."""
    module = Path(sys.argv[0])
    program = f"python -m {module.parent.name}.{module.stem}"
    return shlex.join([*program.split(), *sys.argv[1:]])


def device_name() -> str:
    """``'4 x NVIDIA H100'``: how many devices, and their kind."""
    kind = jax.devices()[0].device_kind
    if jax.default_backend() == "cpu":
        kind = f"CPU ({platform.machine()}, {os.cpu_count()} cores)"
    return f"{jax.device_count()} x {kind}"


def versions() -> dict[str, str]:
    """The versions that a number depends on."""
    import flax
    import optax

    modules = {"jax": jax, "flax": flax, "optax": optax, "numpy": np}
    return {"python": platform.python_version(), **{k: m.__version__ for k, m in modules.items()}}


def print_tables(content: Mapping[str, Any], heads: Iterable[str] | None = None) -> None:
    """Print one table a result; for a DropClass model the drop head's alone unless asked."""
    heads = heads or (("drop",) if content["dropclass"] else ("plain",))
    shown = [entry for entry in content["results"] if entry["head"] in heads]
    for entry in shown:
        print()
        print(table.class_table(entry, content["classes"]))
    by_split = {entry["split"]: entry for entry in shown if entry["head"] == next(iter(heads))}
    if {"val", "val_out"} <= by_split.keys():
        print()
        print(table.context_gap_table(by_split["val"], by_split["val_out"], content["classes"]))


def evaluate_run(
    workdir: Path,
    splits: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Score a run's latest checkpoint and write the results into its folder.

    Args:
      workdir: the run's folder.
      splits: of its data set; all of ``config.eval.splits`` by default.
      heads: ``drop`` or ``plain``; all that the model has by default.
      data_dir: the data's source folder, if it has moved.

    Returns:
      What was written to ``metrics.json``.

    Raises:
      UserError: the folder holds no run or no checkpoint, or not such a split or head.
    """
    config = rundir.read_config(workdir)
    if data_dir is not None:
        config.data.dir = data_dir
    if "drop" in (heads or ()) and not config.dropclass.enabled:
        raise UserError(f"{workdir} is a plain run and has no drop head; use --head=plain")
    dataset = experiment.load_data(config)
    built = experiment.build(config, dataset)
    shapes = jax.eval_shape(built.model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    variables, step = checkpoint.restore_variables(workdir, dict(shapes))
    eval_step = parallel.pmap_eval(built.eval_step)
    evaluations = {
        split: evaluate_split(eval_step, variables, dataset, split, config.eval.batch_size)
        for split in splits or config.eval.splits
    }
    return write_results(workdir, config, dataset, step, evaluations, heads or HEADS)


def main(argv: list[str]) -> None:
    """The command."""
    workdir = Path(flags.FLAGS.workdir)
    splits = [flags.FLAGS.split] if flags.FLAGS.split else None
    heads = [flags.FLAGS.head] if flags.FLAGS.head else None
    content = evaluate_run(workdir, splits, heads, flags.FLAGS.data_dir)
    shown = [r for r in content["results"] if splits is None or r["split"] in splits]
    print_tables({**content, "results": shown}, heads)
    print(f"\nwritten: {workdir}/metrics.json, metrics.csv, report.html")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
    flags.DEFINE_string("split", None, "One split; all of config.eval.splits by default.")
    flags.DEFINE_enum("head", None, list(HEADS), "One head; all that the model has by default.")
    flags.DEFINE_string("data_dir", None, "The data's source folder, if it has moved.")
    command.run(main)
