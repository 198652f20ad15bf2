"""Input pipeline (grain): batches as a pure function of ``(seed, step)``.

Neither the number of threads nor the number of processes changes the content of a global batch:
grain batches a random-access map, so that batch n is the same whichever thread or process computes
it. Process p of P takes local batches p, p + P, p + 2P, ...; those of one step, concatenated, are
the global batch that a single process would get. Batches are uint8; normalise them on the device.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np

from dropclass_jax import allocator
from dropclass_jax.data import augment, ordered, sampling
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
    """An infinite stream of augmented batches, reshuffled every epoch.

    The stream of examples is cut into batches across epochs: a batch may hold the end of one epoch
    and the start of the next. To resume exactly, on any machine and with any number of processes,
    pass the step to continue from as ``start_step``.

    Memory holds the prefetched batches and those being made (see ``check_memory``), one decoded
    image per thread, and the cache of ``cache_bytes``.

    Args:
      source: the split to train on.
      seed: decides order, sampling and augmentation, together with the step; 0..2**32 - 1.
      batch_size: B, examples in a global batch, over all processes.
      augmentation: settings of the augmentation; its crop h, w is the size of the examples.
      sampler: which share of the examples is drawn by class instead of in shuffled order.
      start_step: how many global batches to skip, without reading them.
      process_index: index of this process, from 0.
      process_count: number of processes that share the global batch; each gets b = B / count.
      num_threads: threads that make batches, one batch each; default: one per core, at most 16.
      prefetch: batches made in advance; at least one per thread.
      cache_bytes: memory for decoded images; affects the speed alone.

    Returns:
      An iterator of ``image`` uint8 [b, h, w, 3], ``label`` uint8 [b, h, w] and ``id`` str [b].

    Raises:
      UserError: the split is empty, a setting is out of its range, the batch size is no multiple of
        the number of processes, or the batches do not fit into the machine's memory.
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
    # An infinite stream has no remainder; without drop_remainder its length in batches of 1
    # overflows.
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
      index: the example of the source at this position of the stream.
      rng: the generator of this position; the only source of randomness.
      source: the split to train on.
      sampler: decides whether another example is drawn by class instead.
      augmentation: settings of the augmentation.
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
    """Every example of a split once, in order, uncropped and unscaled, in batches of one shape.

    Images smaller than the split's largest height H and width W are padded at the bottom and on the
    right with 0, labels with 255, so that the model compiles for one shape, the same on all
    processes. The last batch is filled up with examples that are all padding. All processes get the
    same number of batches, ``ceil(len(source) / batch_size)``.

    Args:
      source: the split to evaluate.
      batch_size: B, examples in a global batch, over all processes.
      process_index: index of this process, from 0.
      process_count: number of processes that share the global batch; each gets b = B / count.
      num_threads: threads that make batches, one batch each; default: one per core, at most 16.
      prefetch: batches made in advance; at least one per thread.

    Returns:
      An iterator of ``image`` uint8 [b, H, W, 3], ``label`` uint8 [b, H, W], ``id`` str [b],
      ``size`` int32 [b, 2], the height and width without padding, and ``valid`` bool [b], False
      where the whole example is padding (then ``size`` is 0 and ``id`` is empty).

    Raises:
      UserError: the batch size is no multiple of the number of processes, or the batches do not fit
        into the machine's memory.
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
        num_threads = ordered.THREADS
    return grain.ReadOptions(num_threads, max(prefetch, num_threads))


def batches_in_memory(num_threads: int, prefetch: int = 2) -> int:
    """The largest number of batches that are in memory at once."""
    # The prefetched ones, the examples of those being made, and the one in use.
    return max(prefetch, num_threads) + num_threads + 1


def machine_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def decoded_bytes(shapes: np.ndarray) -> int:
    """Bytes of decoded images with labels, uint8, from their heights and widths, [..., 2]."""
    return 4 * int(np.prod(shapes, axis=-1, dtype=np.int64).sum())


def batch_bytes(batch_size: int, shape: tuple[int, int], batches: int) -> int:
    """Bytes of a number of batches of images with labels, uint8."""
    return batch_size * batches * decoded_bytes(np.array(shape))


def check_memory(
    batch_size: int,
    shape: tuple[int, int],
    batches: int,
    cache_bytes: int = 0,
    memory: int | None = None,
) -> None:
    """Check that the batches fit into memory, before the first is made.

    Args:
      batch_size: examples in a batch of this process.
      shape: height and width of an example.
      batches: batches that are in memory at once.
      cache_bytes: bytes of the cache of decoded images, in addition.
      memory: available bytes; default: the machine's whole memory.

    Raises:
      UserError: they do not fit; names the sizes, the memory needed and the memory there is.
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
