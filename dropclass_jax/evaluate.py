"""Score a run's last checkpoint, or another.

python -m dropclass_jax.evaluate --workdir=RUN [--split=val] [--head=drop|plain]
    [--checkpoint=best] [--mode=slide] [--window=H,W] [--stride=H,W] [--scales=0.75,1,1.25]
    [--flip] [--batch_size=N]
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from dropclass_jax import data
from dropclass_jax.cli import app, view_flags
from dropclass_jax.data import pipeline
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import boundary, inference
from dropclass_jax.experiment import build
from dropclass_jax.parallel import pmap, preemption
from dropclass_jax.runs import checkpoint, results, rundir, trained
from dropclass_jax.runs.results import Evaluation
from dropclass_jax.training import state

NUM_SAMPLES = 4


def evaluate_batches(
    eval_step: Callable[..., Any],
    variables: Any,
    batches: Iterable[Mapping[str, Any]],
    sample_at: Collection[int] = (),
    stop: Callable[[], Any] = preemption.never,
) -> Evaluation | None:
    """Count every batch of a split, into one confusion matrix a head and image by image.

    What is kept grows by K x 3 numbers an image, and by no picture.

    Args:
      eval_step: ``step.eval_step``, by ``parallel.pmap_eval``.
      variables: the model's, one replica.
      batches: from ``pipeline.eval_iterator``: the last one is padded, none is dropped. With
        several processes, this one's part.
      sample_at: positions of the examples to keep as pictures, with the predictions of the model's
        own head: ``drop`` where there is one. Of several processes each keeps those of its part.
      stop: asked after every batch; see ``preemption.stop_requests``.

    Returns:
      What all processes together found; None where it was stopped.
    """
    totals: Any = None
    parts = []  # of every batch: ids, which of them are images, and their counts
    samples = []
    for n, batch in enumerate(batches):
        if stop():
            return None
        arrays = {name: batch[name] for name in ("image", "label")}
        arrays["distance"] = boundary.distance(batch["size"])
        counted, examples = eval_step(variables, pmap.shard(arrays))
        counted = jax.tree.map(lambda count: np.asarray(count, np.int64), counted)
        totals = counted if totals is None else jax.tree.map(np.add, totals, counted)
        counts = {
            head: pmap.unshard(np.asarray(found["counts"])) for head, found in examples.items()
        }
        parts.append((batch["id"], batch["valid"], counts))
        local = len(batch["valid"])
        first = (n * jax.process_count() + jax.process_index()) * local
        rows = [row for row in np.flatnonzero(batch["valid"]) if first + row in sample_at]
        if rows:
            predicted = examples.get("drop", examples["plain"])["prediction"]
            samples += _samples(batch, np.asarray(pmap.unshard(predicted)), rows)
    ids, valid, counts = jax.tree.map(lambda *rows: np.stack(rows), *parts)  # [n, b, ...]
    valid, counts = jax.tree.map(pmap.gather_batches, (valid, counts))
    return Evaluation(
        confusions={head: count["confusion"] for head, count in totals.items()},
        boundaries={head: count["boundary"] for head, count in totals.items()},
        ids=pmap.gather_texts(ids)[valid],
        counts={head: rows[valid].astype(np.int64) for head, rows in counts.items()},
        samples=samples,
    )


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
    stop: Callable[[], Any] = preemption.never,
) -> Evaluation | None:
    """``evaluate_batches`` over a split of a data set, with samples from all over it.

    Raises:
      UserError: the data set has no such split.
    """
    check_split(dataset, split)
    source = dataset.splits[split]
    batches = pipeline.eval_iterator(
        source,
        batch_size=batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    # Neighbours in a split are often neighbours in a video, and look the same. Of several processes
    # the first shows the pictures, so they are taken from its part of each batch.
    local = batch_size // jax.process_count()
    spread = np.linspace(0, len(source) - 1, num_samples).astype(int)
    sample_at = {int(i // batch_size * batch_size + i % local) for i in spread}
    return evaluate_batches(eval_step, variables, batches, sample_at, stop)


def evaluate_run(
    workdir: Path,
    splits: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    data_dir: str | None = None,
    which: str = "last",
    views: inference.Views = inference.WHOLE,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Score a checkpoint of a run and write the results into its folder.

    Args:
      workdir: the run's folder.
      splits: of its data set; all of ``config.eval.splits`` by default.
      heads: ``drop`` or ``plain``; all that the model has by default.
      data_dir: the data's source folder, if it has moved.
      which: the checkpoint: ``last``, ``best`` or a step.
      views: how the images are shown to the network.
      batch_size: images at once, over all devices; ``config.eval.batch_size`` by default.

    Returns:
      What was written to ``metrics.json``.

    Raises:
      UserError: the folder holds no run or no checkpoint, or not such a split or head; or views or
        a batch size that are out of range.
    """
    inference.check(views)
    config = rundir.read_config(workdir)
    if data_dir is not None:
        config.data.dir = data_dir
    if batch_size is not None:
        config.eval.batch_size = batch_size
    for head in heads or ():
        trained.check_head(workdir, config, head)
    dataset = build.load_data(config)
    rundir.check_classes(workdir, dataset.info.classes)
    built = build.build(config, dataset)
    shapes = state.init_shapes(built.model)
    variables, step = checkpoint.restore_variables(workdir, dict(shapes), which)
    eval_step = pmap.pmap_eval(partial(built.eval_step, views=views))
    evaluations = {
        split: evaluate_split(eval_step, variables, dataset, split, config.eval.batch_size)
        for split in splits or config.eval.splits
    }
    heads = heads or results.HEADS
    return results.write(workdir, config, dataset, step, evaluations, heads, views)


def main(argv: list[str]) -> None:
    """The command."""
    given = flags.FLAGS
    workdir = Path(given.workdir)
    splits = [given.split] if given.split else None
    heads = [given.head] if given.head else None
    views = view_flags.read(rundir.read_config(workdir).augment.crop)
    content = evaluate_run(
        workdir, splits, heads, given.data_dir, given.checkpoint, views, given.batch_size
    )
    shown = {
        kind: [entry for entry in content[kind] if splits is None or entry["split"] in splits]
        for kind in ("results", "view_results")
    }
    results.print_tables({**content, **shown}, heads, views)
    written = ["metrics.json", "metrics.csv"]
    written += ["images.npz"] if views == inference.WHOLE else []
    written += ["report.html"] if content["results"] else []
    print(f"\nwritten: {workdir}/{', '.join(written)}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
    flags.DEFINE_string("split", None, "One split; all of config.eval.splits by default.")
    flags.DEFINE_enum(
        "head", None, list(results.HEADS), "One head; all that the model has by default."
    )
    flags.DEFINE_string("data_dir", None, "The data's source folder, if it has moved.")
    flags.DEFINE_string("checkpoint", "last", "Which: last, best (by mean IoU) or a step.")
    flags.DEFINE_integer("batch_size", None, "Images at once; config.eval.batch_size by default.")
    view_flags.define()
    flags.adopt_module_key_flags(view_flags)  # so that --help lists them
    app.run(main)
