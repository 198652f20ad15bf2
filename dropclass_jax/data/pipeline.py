"""Batches from a source, by grain: a pure function of ``(seed, step)``.

Neither the number of threads nor the number of processes changes what is in a batch: grain batches
a random access map, so that batch n is the same whoever computes it, and process p of P takes
every P-th local batch, starting at its own. Concatenated, they are the global batch of one process.
Batches are uint8, to be normalised on the device.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import grain
import numpy as np

from dropclass_jax.data import transforms
from dropclass_jax.errors import UserError

IGNORE_LABEL = transforms.IGNORE_LABEL


class Source(Protocol):
    """Random access to examples: ``image`` uint8 [H, W, 3], ``label`` uint8 [H, W], ``id`` str.

    ``shapes``, int64 [N, 2], is optional: heights and widths, where they are known without reading.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


def train_iterator(
    source: Source,
    *,
    seed: int,
    batch_size: int,
    crop: tuple[int, int],
    scale_range: tuple[float, float] = (0.5, 2.1),
    scale_step: float = 0.1,
    flip: bool = True,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int | None = None,
    prefetch: int = 2,
) -> grain.DatasetIterator:
    """Augmented batches without end, each epoch in its own order.

    The stream of examples runs through the set again and again, newly shuffled each time, and is
    cut into batches as it comes: a batch may hold the end of one epoch and the start of the next.
    To continue it exactly, anywhere and in any number of processes, start at a later step.

    Args:
      source: the split to train on.
      seed: decides order and augmentation, together with the step; 0..2**32 - 1.
      batch_size: examples in a global batch, over all processes.
      crop: height h and width w of the examples.
      scale_range: lowest and highest scale of the random scaling.
      scale_step: distance between scales.
      flip: mirror half of the examples.
      start_step: how many global batches to pass over; nothing is read for it.
      process_index: which process this is.
      process_count: how many processes share the global batch of B; each gets b = B / count.
      num_threads: threads that make batches, one batch each; default: one a core, at most 16.
      prefetch: batches made ahead; at least one a thread.

    Returns:
      An iterator of ``image`` uint8 [b, h, w, 3], ``label`` uint8 [b, h, w] and ``id`` str [b].

    Raises:
      UserError: at sizes that do not fit each other, or the machine's memory.
    """
    local = _local_batch_size(batch_size, process_count)
    if len(source) == 0:
        raise UserError("the training split holds no images")
    if min(crop) < 1:
        raise UserError(f"crop {tuple(crop)}: want a height and a width above 0")
    if not 0 <= seed < 2**32:
        raise UserError(f"seed {seed}: want 0..{2**32 - 1}")
    options = _read_options(num_threads, prefetch)
    check_memory(local, crop, _batches_in_memory(options))
    augment = functools.partial(
        transforms.augment,
        crop=tuple(crop),
        scales=transforms.scales(scale_range, scale_step),
        flip=flip,
    )
    examples = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    # An endless stream has no remainder; without saying so its length in batches of 1 overflows.
    batches = examples.random_map(augment).batch(local, drop_remainder=True, batch_fn=stack)
    first = start_step * process_count + process_index
    return iter(batches[first::process_count].to_iter_dataset(options))


def eval_iterator(
    source: Source,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int | None = None,
    prefetch: int = 2,
) -> grain.DatasetIterator:
    """Every example once, in order, whole and unscaled, in batches of one shape.

    A split of images of several sizes is padded to its largest height and width, on the right and
    below, with 0 (labels: 255): one shape is one compilation, and the same on all processes. The
    last batch is filled up with examples that are all padding. All processes see the same number
    of batches, ``ceil(len(source) / batch_size)``.

    Args:
      source: the split to evaluate.
      batch_size: examples in a global batch, over all processes.
      process_index: which process this is.
      process_count: how many processes share the global batch of B; each gets b = B / count.
      num_threads: threads that make batches, one batch each; default: one a core, at most 16.
      prefetch: batches made ahead; at least one a thread.

    Returns:
      An iterator of ``image`` uint8 [b, H, W, 3], ``label`` uint8 [b, H, W], ``id`` str [b],
      ``size`` int32 [b, 2], the height and width without padding, and ``valid`` bool [b], False
      where the whole example is padding (then ``size`` is 0 and ``id`` is empty).

    Raises:
      UserError: at a batch size that does not fit the processes, or the machine's memory.
    """
    local = _local_batch_size(batch_size, process_count)
    shape = largest_shape(source)
    options = _read_options(num_threads, prefetch)
    check_memory(local, shape, _batches_in_memory(options))
    num_batches = -(-len(source) // batch_size)
    pad = functools.partial(_padded_example, source=source, shape=shape)
    examples = grain.MapDataset.range(num_batches * batch_size).map(pad)
    batches = examples.batch(local, batch_fn=stack)
    return iter(batches[process_index::process_count].to_iter_dataset(options))


def stack(examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Stack examples of one shape along a new first axis."""
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


def largest_shape(source: Source) -> tuple[int, int]:
    """The largest height and the largest width of a split; (1, 1) if it is empty."""
    shapes = getattr(source, "shapes", None)
    if shapes is None:
        shapes = [source[i]["label"].shape for i in range(len(source))]
    return tuple(int(n) for n in np.max(shapes, axis=0)) if len(shapes) else (1, 1)


def _padded_example(index: int, *, source: Source, shape: tuple[int, int]) -> dict[str, Any]:
    image = np.zeros((*shape, 3), np.uint8)
    label = np.full(shape, IGNORE_LABEL, np.uint8)
    valid = index < len(source)
    size, name = (0, 0), ""
    if valid:
        example = source[index]
        size, name = example["label"].shape, example["id"]
        image[: size[0], : size[1]] = example["image"]
        label[: size[0], : size[1]] = example["label"]
    return {
        "image": image,
        "label": label,
        "id": name,
        "size": np.array(size, np.int32),
        "valid": np.bool_(valid),
    }


def _local_batch_size(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"batch_size {batch_size} cannot be shared by {process_count} process(es): "
            f"choose a multiple of {process_count}"
        )
    return batch_size // process_count


def _read_options(num_threads: int | None, prefetch: int) -> grain.ReadOptions:
    if num_threads is None:
        num_threads = min(len(os.sched_getaffinity(0)), 16)
    return grain.ReadOptions(num_threads, max(prefetch, num_threads))


def _batches_in_memory(options: grain.ReadOptions) -> int:
    # Those made ahead, the single examples of those being made, and the one that is trained on.
    return options.prefetch_buffer_size + options.num_threads + 1


def machine_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(
    batch_size: int, shape: tuple[int, int], batches: int, memory: int | None = None
) -> None:
    """Refuse batches that cannot fit, before the first is made.

    Args:
      batch_size: examples in a batch of this process.
      shape: height and width of an example.
      batches: batches that are in memory at once.
      memory: bytes to fit into; default: all that the machine has.

    Raises:
      UserError: names the sizes, what they need and what there is.
    """
    memory = machine_memory() if memory is None else memory
    needed = batch_size * shape[0] * shape[1] * 4 * batches  # three channels and the label, uint8
    if needed > memory:
        raise UserError(
            f"{batches} batches of {batch_size} images of {shape[0]}x{shape[1]} need "
            f"{needed / 2**30:.1f} GiB, but there is {memory / 2**30:.1f} GiB of memory: "
            "lower the crop, the batch size or the threads"
        )
