"""The iterators: what is in a batch depends on (seed, step) and on nothing else."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from dropclass_jax.data import pipeline, sampling, transforms
from dropclass_jax.data.augment import Augmentation
from dropclass_jax.data.crops import CropRule
from dropclass_jax.data.photometric import USUAL
from dropclass_jax.errors import UserError


class Memory:
    """Examples of noise; ``shapes`` is left out, as of any plain list."""

    def __init__(self, shapes: list[tuple[int, int]]):
        rng = np.random.default_rng(0)
        self._examples = [
            {
                "image": rng.integers(1, 256, (*shape, 3), dtype=np.uint8),
                "label": rng.integers(0, 5, shape).astype(np.uint8),
                "id": f"{'x' * i}{i}",
            }
            for i, shape in enumerate(shapes)
        ]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict:
        return dict(self._examples[index])


RECIPE = transforms.scales((0.5, 2.1), 0.1)
TEN = Memory([(24, 32)] * 10)
MIXED = Memory([(8, 12), (10, 9), (7, 7), (10, 4), (3, 12), (9, 9), (8, 8)])

PIXELS = np.array([np.bincount(e["label"].ravel(), minlength=5) for e in TEN])
SAMPLED = {"sampler": sampling.class_uniform(PIXELS, share=0.5)}
EVERYTHING = SAMPLED | {"jitter": USUAL, "crop_rule": CropRule(0.5, (1, 2, 3, 4, 5), 0.24)}


def train(source=TEN, steps: int | None = None, **options):
    """The iterator, or its first batches; options are the augmentation's or the iterator's."""
    augmentation = {"crop": (16, 20), "scales": RECIPE}
    augmentation |= {name: options.pop(name) for name in Augmentation._fields if name in options}
    arguments = {"seed": 3, "batch_size": 4, "num_threads": 0} | options
    iterator = pipeline.train_iterator(
        source, augmentation=Augmentation(**augmentation), **arguments
    )
    return iterator if steps is None else list(itertools.islice(iterator, steps))


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


def test_a_training_batch_has_the_promised_shapes():
    (batch,) = train(steps=1)
    assert (batch["image"].dtype, batch["image"].shape) == (np.uint8, (4, 16, 20, 3))
    assert (batch["label"].dtype, batch["label"].shape) == (np.uint8, (4, 16, 20))
    assert batch["id"].shape == (4,)
    assert batch["id"].dtype.kind == "U"


def test_every_epoch_shows_every_example_once_in_a_new_order():
    ids = np.concatenate([batch["id"] for batch in train(steps=5)])
    epochs = ids[:10], ids[10:]  # batches of 4: the third holds the end of one and the next's start
    assert all(Counter(epoch.tolist()) == Counter(e["id"] for e in TEN) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_an_example_looks_different_in_the_next_epoch():
    images = {}
    for batch in train(steps=5):
        for name, image in zip(batch["id"], batch["image"], strict=True):
            images.setdefault(str(name), []).append(image)
    assert all(not np.array_equal(first, second) for first, second in images.values())


def test_the_seed_decides():
    assert_same(train(steps=6), train(steps=6))
    first, second = train(steps=6), train(steps=6, seed=4)
    assert not np.array_equal(first[0]["image"], second[0]["image"])


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads, options):
    assert_same(train(steps=12, **options), train(steps=12, **options, num_threads=threads))


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_processes_and_devices_share_the_batch_of_one(count, options):
    """The global batch of 8 as 1 x 8, 2 x 4, 4 x 2 and 8 x 1, by slicing."""
    options = {"batch_size": 8, **options}
    parts = [train(steps=7, process_index=i, process_count=count, **options) for i in range(count)]
    assert all(part[0]["image"].shape[0] == 8 // count for part in parts)
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(joined, train(steps=7, **options))


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("steps", [1, 3, 11])
def test_a_later_start_continues_exactly(steps, count, options):
    """Where a run goes on, in as many processes as it likes."""
    whole = train(steps=steps + 3, **options)[steps:]
    parts = [
        train(steps=3, start_step=steps, process_index=i, process_count=count, **options)
        for i in range(count)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)


def test_the_stream_of_examples_does_not_depend_on_the_batch_size():
    def stream(batch_size: int) -> list[dict]:
        batches = train(steps=12 // batch_size, batch_size=batch_size)
        return [{key: b[key][i] for key in b} for b in batches for i in range(batch_size)]

    assert_same(stream(2), stream(6))


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("steps", [0, 2, 6])  # of 2 1/2 steps an epoch: in its middle, too
@pytest.mark.parametrize("threads", [0, 2])
def test_a_restored_iterator_continues_exactly(steps, threads, options):
    options = {"num_threads": threads, "process_index": 1, "process_count": 2, **options}
    iterator = train(**options)
    for _ in range(steps):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    rest = list(itertools.islice(iterator, 5))
    fresh = train(**options)
    next(fresh)  # with batches already made ahead, which must be dropped
    fresh.set_state(state)
    assert_same(itertools.islice(fresh, 5), rest)


@pytest.mark.parametrize("room", [1, 5 * 24 * 32 * 4, 10**9], ids=["none", "half", "all"])
def test_a_cache_changes_nothing(room):
    assert_same(train(steps=12, cache_bytes=room), train(steps=12))
    assert_same(
        train(steps=12, cache_bytes=room, **EVERYTHING, num_threads=3),
        train(steps=12, **EVERYTHING),
    )


def test_a_cache_is_no_larger_than_the_set():
    with pytest.raises(UserError, match=r"a cache of 1000000.0 GiB need .* lower the crop"):
        train(cache_bytes=10**6 * 2**30)
    known = Memory([(24, 32)] * 10)
    known.shapes = np.array([[24, 32]] * 10)
    assert_same(train(known, steps=4, cache_bytes=10**6 * 2**30), train(steps=4))


def test_an_option_leaves_what_the_others_draw():
    everything, without = train(steps=6, **EVERYTHING), train(steps=6, **SAMPLED)
    for batch, plain in zip(everything, without, strict=True):
        np.testing.assert_array_equal(batch["id"], plain["id"])  # the order and the sampling
    plain, jittered = train(steps=6), train(steps=6, jitter=USUAL)
    for batch, other in zip(plain, jittered, strict=True):
        np.testing.assert_array_equal(batch["label"], other["label"])
    assert not np.array_equal(plain[0]["image"], jittered[0]["image"])


def test_sampling_by_class_replaces_a_share_of_the_stream():
    """The others stay where they were, with the pixels that they had."""
    pixels = np.zeros((10, 5), int)
    pixels[7, 2] = pixels[3, 4] = 1  # two classes, each in one image
    sampler = sampling.class_uniform(pixels, share=0.5, crop=False)
    replaced = 0
    for batch, plain in zip(train(steps=50, sampler=sampler), train(steps=50), strict=True):
        for i, (name, usual) in enumerate(zip(batch["id"], plain["id"], strict=True)):
            if name == usual:
                np.testing.assert_array_equal(batch["image"][i], plain["image"][i])
            else:
                replaced += 1
                assert str(name) in {TEN[7]["id"], TEN[3]["id"]}
    # Of 200, half are drawn, and of those a tenth happens to draw what stood there: 90; 5 standard
    # deviations are 35.
    assert abs(replaced - 90) < 35


def test_without_scaling_and_flipping_an_example_is_a_slice():
    originals = {e["id"]: e for e in TEN}
    (batch,) = train(steps=1, scales=(Fraction(1),), flip=False, crop=(24, 32))
    for i, name in enumerate(batch["id"]):
        np.testing.assert_array_equal(batch["image"][i], originals[str(name)]["image"])
        np.testing.assert_array_equal(batch["label"][i], originals[str(name)]["label"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 6, "process_count": 4}, "batch_size 6 .* multiple of 4"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"source": Memory([])}, "no images"),
        ({"crop": (0, 8)}, r"crop \(0, 8\)"),
        ({"seed": -1}, "seed -1"),
        ({"crop": (10**6, 10**6)}, "1000000x1000000 need .* GiB"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_a_mistake_is_refused_before_the_first_batch(options, message):
    with pytest.raises(UserError, match=message):
        train(**options)


def test_check_memory_counts_four_bytes_a_pixel_and_the_cache():
    pipeline.check_memory(2, (10, 10), batches=3, memory=2400)
    with pytest.raises(UserError, match=r"3 batches of 2 images of 10x10 need .* 0.0 GiB"):
        pipeline.check_memory(2, (10, 10), batches=3, memory=2399)
    pipeline.check_memory(2, (10, 10), batches=3, cache_bytes=2**30, memory=2400 + 2**30)
    with pytest.raises(UserError, match=r"10x10 and a cache of 1.0 GiB need .* the cache or"):
        pipeline.check_memory(2, (10, 10), batches=3, cache_bytes=2**30, memory=2399 + 2**30)


def evaluate(source=MIXED, **options):
    arguments = {"batch_size": 4, "num_threads": 0} | options
    return list(pipeline.eval_iterator(source, **arguments))


def test_evaluation_sees_every_example_once_in_order_and_whole():
    batches = evaluate()
    assert [b["valid"].tolist() for b in batches] == [[True] * 4, [True, True, True, False]]
    flat = {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}
    assert flat["image"].shape == (8, 10, 12, 3)  # the largest height, the largest width
    assert flat["label"].shape == (8, 10, 12)
    assert flat["id"].tolist() == [*(e["id"] for e in MIXED), ""]
    assert (flat["size"].dtype, flat["valid"].dtype) == (np.int32, np.bool_)
    for i, example in enumerate(MIXED):
        height, width = flat["size"][i]
        assert (height, width) == example["label"].shape
        np.testing.assert_array_equal(flat["image"][i, :height, :width], example["image"])
        np.testing.assert_array_equal(flat["label"][i, :height, :width], example["label"])
        outside = np.ones((10, 12), bool)
        outside[:height, :width] = False
        assert np.all(flat["label"][i][outside] == 255)
        assert np.all(flat["image"][i][outside] == 0)
    assert np.all(flat["label"][7] == 255)
    assert flat["size"][7].tolist() == [0, 0]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_evaluate_the_batches_of_one(count):
    parts = [evaluate(process_index=i, process_count=count) for i in range(count)]
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)  # strict: the same number of batches everywhere
    ]
    assert_same(joined, evaluate())
    assert_same(evaluate(num_threads=3), evaluate())


def test_a_process_may_have_nothing_but_padding():
    (batch,) = evaluate(Memory([(4, 4)] * 2), process_index=3, process_count=4, batch_size=8)
    assert batch["valid"].tolist() == [False, False]
    assert batch["image"].shape == (2, 4, 4, 3)


def test_an_empty_split_has_no_batches():
    assert evaluate(Memory([])) == []


def test_known_shapes_are_used_instead_of_reading():
    class Unread(Memory):
        shapes = np.array([[30, 5], [6, 40]])

        def __getitem__(self, index: int) -> dict:
            raise AssertionError("read")

    assert pipeline.largest_shape(Unread([(1, 1)] * 2)) == (30, 40)
    huge = Memory([(1, 1)])
    huge.shapes = np.array([[10**7, 10**7]])
    with pytest.raises(UserError, match="GiB"):
        evaluate(huge)
