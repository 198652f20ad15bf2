"""Evaluate a whole split, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dropclass_jax import data
from dropclass_jax.data import pipeline
from dropclass_jax.evaluation import boundary
from dropclass_jax.evaluation import samples as rare_samples
from dropclass_jax.parallel import pmap, preemption, processes

NUM_SAMPLES = 4


def evaluate_batches(
    eval_step: Callable[..., Any],
    variables: Any,
    batches: Iterable[Mapping[str, Any]],
    sample_at: Sequence[int] = (),
    stop: Callable[[], Any] = preemption.never,
) -> Evaluation | None:
    """Evaluate batches: one confusion matrix per output, and the counts of each image.

    Memory grows by K x 3 numbers an image; pictures are kept of the samples only.

    Args:
      eval_step: ``step.eval_step``, by ``parallel.pmap_eval``.
      variables: the model's, one replica.
      batches: from ``pipeline.eval_iterator``: the last one is padded, none is dropped. With
        several processes, this one's part.
      sample_at: positions of the examples to keep as pictures, with the predictions of the model's
        own head: ``drop`` where there is one.
      stop: called after every batch; see ``preemption.stop_requests``.

    Returns:
      The result over all processes; None where it was stopped.
    """
    totals: Any = None
    parts = []  # of every batch: ids, which of them are images, and their counts
    kept = {}
    for n, batch in enumerate(batches):
        if stop():
            return None
        arrays = {name: batch[name] for name in ("image", "label")}
        arrays["distance"] = boundary.distance(batch["size"])
        counted, examples = eval_step(variables, pmap.shard(arrays))
        counted = jax.tree.map(lambda count: np.asarray(count, np.int64), counted)
        totals = counted if totals is None else jax.tree.map(np.add, totals, counted)
        counts = {
            head: pmap.unshard(np.asarray(example["counts"])) for head, example in examples.items()
        }
        parts.append((batch["id"], batch["valid"], counts))
        local = len(batch["valid"])
        first = (n * jax.process_count() + jax.process_index()) * local
        predicted = examples.get("drop", examples["plain"])["prediction"]
        for row in range(local):
            if first + row in sample_at:
                kept[first + row] = _sample(batch, predicted, row)
    ids, valid, counts = jax.tree.map(lambda *rows: np.stack(rows), *parts)  # [n, b, ...]
    valid, counts = jax.tree.map(processes.gather_batches, (valid, counts))
    ids = processes.gather_texts(ids)[valid]
    samples = []
    for position in sample_at:
        sample = kept.get(position) or _sample(batch, predicted, 0)  # any, of the same shapes
        owner = position // local % jax.process_count()
        samples.append(_cut_to_size(processes.broadcast(sample, owner), str(ids[position])))
    return Evaluation(
        confusions={head: count["confusion"] for head, count in totals.items()},
        boundaries={head: count["boundary"] for head, count in totals.items()},
        ids=ids,
        counts={head: rows[valid].astype(np.int64) for head, rows in counts.items()},
        samples=samples,
    )


def _sample(
    batch: Mapping[str, np.ndarray], predicted: jax.Array, row: int
) -> dict[str, np.ndarray]:
    """One example of this process's part of a batch, copied: a view would keep the whole batch."""
    sample = {name: np.array(batch[name][row]) for name in ("image", "label", "size")}
    return {**sample, "prediction": np.array(np.asarray(pmap.unshard(predicted))[row])}


def _cut_to_size(sample: Mapping[str, np.ndarray], name: str) -> dict[str, Any]:
    """A sample without its padding."""
    height, width = sample["size"]
    cut = {key: np.asarray(sample[key])[:height, :width] for key in sample if key != "size"}
    return {**cut, "id": name}


def evaluate_split(
    eval_step: Callable[..., Any],
    variables: Any,
    dataset: data.Dataset,
    split: str,
    batch_size: int,
    num_samples: int = NUM_SAMPLES,
    stop: Callable[[], Any] = preemption.never,
) -> Evaluation | None:
    """``evaluate_batches`` over a split of a data set; its samples show the rarest classes.

    Raises:
      UserError: the data set has no such split.
    """
    dataset.check_split(split)
    source = dataset.splits[split]
    batches = pipeline.eval_iterator(
        source,
        batch_size=batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    sample_at = rare_samples.choose(source.class_pixels, dataset.class_pixels["train"], num_samples)
    return evaluate_batches(eval_step, variables, batches, sample_at, stop)


class Evaluation(NamedTuple):
    """The result of one pass over a split.

    Attributes:
      confusions: ``{head: [K, K] int64}``, all images together.
      boundaries: ``{head: [K, 2] int64}``, likewise: intersections and unions near the contours.
      ids: ``[N]`` str, the images' names.
      counts: ``{head: [N, K, 3] int64}``, hits, labelled and predicted pixels of each image.
      samples: a few examples, in the order asked for: ``image`` uint8 ``[H, W, 3]``, ``label`` and
        ``prediction`` ``[H, W]``, and ``id``.
    """

    confusions: dict[str, np.ndarray]
    boundaries: dict[str, np.ndarray]
    ids: np.ndarray
    counts: dict[str, np.ndarray]
    samples: list[dict[str, Any]]
