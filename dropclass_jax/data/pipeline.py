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
from typing import Any

import grain
import numpy as np

from dropclass_jax.data import allocator, augment, sampling
from dropclass_jax.data.augment import Augmentation
from dropclass_jax.data.cache import CachedSource, Source
from dropclass_jax.data.sampling import Sampler
from dropclass_jax.errors import UserError
from dropclass_jax.ops.labels import IGNORE_LABEL


def train_iterator(
    source: Source,
    *,
    seed: int,
    batch_size: int,
    augmentation: Augmentation,
    sampler: Sampler = sampling.AS_THEY_COME,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int | None = None,
    prefetch: int = 2,
    cache_bytes: int = 0,
) -> grain.DatasetIterator:
    """Augmented batches without end, each epoch in its own order.

    The stream of examples runs through the set again and again, newly shuffled each time, and is
    cut into batches as it comes: a batch may hold the end of one epoch and the start of the next.
    To continue it exactly, anywhere and in any number of processes, start at a later step.

    In memory at once are the batches made ahead and those being made (``check_memory``), one
    decoded image a thread, and ``cache_bytes``.

    Args:
      source: the split to train on.
      seed: decides order, sampling and augmentation, together with the step; 0..2**32 - 1.
      batch_size: examples in a global batch, over all processes.
      augmentation: what may happen to an example; its crop h, w is the examples' size.
      sampler: which examples are drawn by class instead of as they come.
      start_step: how many global batches to pass over; nothing is read for it.
      process_index: which process this is.
      process_count: how many processes share the global batch of B; each gets b = B / count.
      num_threads: threads that make batches, one batch each; default: one a core, at most 16.
      prefetch: batches made ahead; at least one a thread.
      cache_bytes: keep decoded images in memory up to this size; changes nothing but the speed.

    Returns:
      An iterator of ``image`` uint8 [b, h, w, 3], ``label`` uint8 [b, h, w] and ``id`` str [b].

    Raises:
      UserError: at sizes that do not fit each other, or the machine's memory.
    """
    local = _local_batch_size(batch_size, process_count)
    if len(source) == 0:
        raise UserError("the training split holds no images")
    augment.check(augmentation)
    if not 0 <= seed < 2**32:
        raise UserError(f"seed {seed}: want 0..{2**32 - 1}")
    options = _read_options(num_threads, prefetch)
    if hasattr(source, "shapes"):
        cache_bytes = min(cache_bytes, decoded_bytes(source.shapes))
    check_memory(
        local, augmentation.crop, batches_in_memory(options.num_threads, prefetch), cache_bytes
    )
    if cache_bytes:
        source = CachedSource(source, cache_bytes)
    example = functools.partial(
        train_example, source=source, sampler=sampler, augmentation=augmentation
    )
    indices = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    # An endless stream has no remainder; without saying so its length in batches of 1 overflows.
    batches = indices.random_map(example).batch(local, drop_remainder=True, batch_fn=stack)
    first = start_step * process_count + process_index
    return iter(batches[first::process_count].to_iter_dataset(options))


def train_example(
    index: int,
    rng: np.random.Generator,
    *,
    source: Source,
    sampler: Sampler,
    augmentation: Augmentation,
) -> dict[str, Any]:
    """One example of the stream: ``image`` uint8 [h, w, 3], ``label`` uint8 [h, w], ``id``.

    Args:
      index: the example of the source that comes at this position.
      rng: the position's own; the only source of randomness.
      source: the split to train on.
      sampler: whether another example is drawn instead.
      augmentation: what may happen to it.
    """
    draws = augment.draw(rng, augmentation)
    index, focus = sampling.choose(sampler, index, rng.random(sampling.VARIATES))
    return augment.apply(source[index], draws, augmentation, focus)


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
    check_memory(local, shape, batches_in_memory(options.num_threads, prefetch))
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
    allocator.keep_freed_memory()
    if num_threads is None:
        num_threads = min(len(os.sched_getaffinity(0)), 16)
    return grain.ReadOptions(num_threads, max(prefetch, num_threads))


def batches_in_memory(num_threads: int, prefetch: int = 2) -> int:
    """How many batches there are at once, at most."""
    # Those made ahead, the single examples of those being made, and the one that is trained on.
    return max(prefetch, num_threads) + num_threads + 1


def machine_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def decoded_bytes(shapes: np.ndarray) -> int:
    """Bytes of decoded images of these heights and widths, [..., 2]: three channels and a label."""
    return 4 * int(np.prod(shapes, axis=-1, dtype=np.int64).sum())


def batch_bytes(batch_size: int, shape: tuple[int, int], batches: int) -> int:
    """Bytes of some batches of uint8: three channels and the label."""
    return batch_size * batches * decoded_bytes(np.array(shape))


def check_memory(
    batch_size: int,
    shape: tuple[int, int],
    batches: int,
    cache_bytes: int = 0,
    memory: int | None = None,
) -> None:
    """Refuse batches that cannot fit, before the first is made.

    Args:
      batch_size: examples in a batch of this process.
      shape: height and width of an example.
      batches: batches that are in memory at once.
      cache_bytes: what decoded images may take besides.
      memory: bytes to fit into; default: all that the machine has.

    Raises:
      UserError: names the sizes, what they need and what there is.
    """
    memory = machine_memory() if memory is None else memory
    needed = batch_bytes(batch_size, shape, batches) + cache_bytes
    if needed > memory:
        cache = f" and a cache of {cache_bytes / 2**30:.1f} GiB" if cache_bytes else ""
        raise UserError(
            f"{batches} batches of {batch_size} images of {shape[0]}x{shape[1]}{cache} need "
            f"{needed / 2**30:.1f} GiB, but there is {memory / 2**30:.1f} GiB of memory: "
            f"lower the crop, the batch size{', the cache' if cache_bytes else ''} or the threads"
        )
