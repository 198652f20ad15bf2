"""``bench``: both sides do the same work, and what is printed is what was measured."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from dropclass_jax.data import transforms
from dropclass_jax.data.augment import Augmentation
from dropclass_jax.data_tools import bench
from dropclass_jax.errors import UserError

TINY = bench.Size((40, 60), ".png", (), (24, 32), images=5, length=12)


@pytest.fixture(scope="module")
def case():
    return bench.Case("tiny", bench.drawn_source(TINY), tuple(range(5)), 12, TINY.crop)


def test_drawn_images_are_records_of_their_size(case):
    assert len(case.source) == 5
    assert case.source.shapes.tolist() == [[40, 60]] * 5
    example = case.source[3]
    assert (example["image"].shape, example["image"].dtype) == ((40, 60, 3), np.uint8)
    assert example["label"].shape == (40, 60)
    assert not np.array_equal(example["image"], case.source[2]["image"])


@pytest.mark.parametrize("scale", bench.RECIPE, ids=str)
def test_the_plain_loop_shows_what_the_pipeline_shows(case, scale):
    element = case.source[0]
    rng = np.random.default_rng(0)
    for _ in range(5):
        view = transforms.draw_view(rng, (40, 60), crop=TINY.crop, scales=(scale,))
        plain = bench.plain_example(element, view)
        image = transforms.view_image(element["image"], view)
        assert np.abs(plain["image"].astype(int) - image).max() <= 1
        label = transforms.view_label(element["label"], view)
        assert label.shape == plain["label"].shape
        if scale in (1, 2):  # elsewhere OpenCV's nearest neighbour is off by half a pixel
            np.testing.assert_array_equal(plain["label"], label)


def test_the_plain_loop_sees_every_image_once_an_epoch(case):
    augmentation = Augmentation((40, 60), flip=False)
    batches = list(itertools.islice(bench.plain_batches(case.source, augmentation, 5), 2))
    images = sorted(example["image"].tobytes() for example in case.source)
    for batch in batches:
        assert sorted(image.tobytes() for image in batch["image"]) == images
    assert not np.array_equal(batches[0]["image"], batches[1]["image"])


def test_a_few_images_stand_for_many(case):
    many = bench.Repeated(case.source, (4, 1), 5)
    assert [many[i]["id"] for i in range(len(many))] == ["4", "1", "4", "1", "4"]


def test_every_variant_makes_batches_of_one_shape(case):
    variants = bench.variants(case, batch_size=2, threads=2)
    assert list(variants) == [
        "plain loop, 1 thread",
        "pipeline, 1 thread",
        "pipeline, 2 threads",
        "pipeline, 2 threads, cached",
    ]
    assert len(bench.variants(case, batch_size=2, threads=1)) == 3
    for begin in variants.values():
        batch = next(begin())
        assert batch["image"].shape == (2, 24, 32, 3)
        assert batch["label"].shape == (2, 24, 32)


def test_a_rate_is_images_over_the_time_they_took(monkeypatch):
    ticks = itertools.count(step=0.5)  # each look at the clock is half a second later
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(ticks))
    pulled = itertools.count()
    stream = ({"n": next(pulled)} for _ in itertools.count())
    # Started at 0; batches after 0.5, 1.0, 1.5 and 2.0; over at 2.5.
    assert bench.images_per_second(stream, batch_size=4, seconds=2.2, skip=3) == 4 * 4 / 2.5
    assert next(pulled) == 3 + 4


def test_bounds_of_memory(case):
    # Two made ahead, two being made and one in use, of 3 crops; two decoded images; 5 in a cache.
    batches, image = 5 * 3 * 24 * 32 * 4, 40 * 60 * 4
    assert bench.decoded_bytes(case) == 5 * image
    assert bench.memory_bytes(case, 3, threads=2) == batches + 2 * image
    assert bench.memory_bytes(case, 3, threads=2, cache_bytes=7) == batches + 2 * image + 7


def test_it_prints_medians_and_spread_or_json(monkeypatch, capsys):
    monkeypatch.setattr(bench, "SIZES", {"camvid": TINY})
    short = ["--repeats", "3", "--seconds", "0.01", "--threads", "2", "--batch-size", "2"]
    assert bench.main(lambda: None, [*short, "--json"]) == 0
    (case,) = (content := json.loads(capsys.readouterr().out))["cases"]
    assert (content["threads"], content["batch_size"]) == (2, 2)
    assert (case["shape"], case["crop"]) == ([40, 60], [24, 32])
    plain, *_, cached = case["results"]
    assert plain["times_the_plain_loop"]["all"] == [1, 1, 1]
    for turn in range(3):
        ratio = cached["images_per_second"]["all"][turn] / plain["images_per_second"]["all"][turn]
        assert cached["times_the_plain_loop"]["all"][turn] == pytest.approx(ratio)
    for row in case["results"]:
        rate = row["images_per_second"]
        assert len(rate["all"]) == 3
        assert rate["lowest"] <= rate["median"] <= rate["highest"]
        assert rate["lowest"] > 0
    assert set(case["milliseconds"]) == {"read", "decode image", "decode label", "augment"}
    assert bench.main(lambda: None, [*short, "--size", "camvid"]) == 0
    table = capsys.readouterr().out
    assert "tiny" not in table
    assert "camvid: 40x60 to 24x32" in table
    assert "plain loop, 1 thread" in table


@pytest.mark.parametrize("flag", ["--threads", "--batch-size", "--repeats"])
def test_numbers_out_of_range_are_refused(flag):
    with pytest.raises(UserError, match=f"{flag} 0: want 1 or more"):
        bench.main(lambda: None, [flag, "0"])
