"""Crops placed by class: what they hold, and how often."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from dropclass_jax.data import crops, transforms
from dropclass_jax.data.crops import CropRule
from dropclass_jax.data.transforms import View
from dropclass_jax.errors import UserError

RECIPE = transforms.scales((0.5, 2.1), 0.1)
CROP = (8, 10)
NEVER = CropRule()


def sparse(height: int = 40, width: int = 50, seed: int = 0) -> np.ndarray:
    """Class 0 with one pixel each of classes 1 and 2, and a block of class 3."""
    rng = np.random.default_rng(seed)
    label = np.zeros((height, width), np.uint8)
    label[2:9, 3:12] = 3
    for k in (1, 2):
        label[rng.integers(10, height), rng.integers(width)] = k
    return label


def choose(label, rule=NEVER, scale=Fraction(1), seed=0, focus=None) -> View:
    rng = np.random.default_rng(seed)
    view = transforms.draw_view(rng, label.shape, crop=CROP, scales=(scale,))
    return crops.choose(view, label, rule, crops.draw(rng), focus)


def start(label, scale=Fraction(1), seed=0) -> View:
    return transforms.draw_view(
        np.random.default_rng(seed), label.shape, crop=CROP, scales=(scale,)
    )


def test_the_default_places_nothing_anew():
    label = sparse()
    assert all(choose(label, seed=s) == start(label, seed=s) for s in range(30))


def test_counts_of_classes():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 5), (300, 200), (0, 3)):
        label = rng.integers(0, 256, shape).astype(np.uint8)
        np.testing.assert_array_equal(
            crops.count_classes(label), np.bincount(label.ravel(), minlength=256)
        )
        np.testing.assert_array_equal(
            crops.count_classes(label[:, ::2]), np.bincount(label[:, ::2].ravel(), minlength=256)
        )


def test_counts_beyond_what_float32_holds():
    label = np.zeros((2**13, 2**12), np.uint8)  # 2**25 pixels
    label[-1, -1] = 1
    assert crops.count_classes(label)[:2].tolist() == [2**25 - 1, 1]


@pytest.mark.parametrize("scale", RECIPE, ids=str)
def test_a_crop_over_a_class_holds_it(scale):
    """A single pixel, at every scale that keeps it, and in windows all around it."""
    label = np.zeros((40, 50), np.uint8)
    label[21, 33] = 1
    kept = (transforms.resample_label(label, View(scale, 0, 0, 99, 120, False)) == 1).any()
    corners = set()
    for seed in range(60):
        view = choose(label, scale=scale, seed=seed, focus=1)
        before = start(label, scale, seed)
        assert view._replace(top=0, left=0) == before._replace(top=0, left=0)
        assert (transforms.view_label(label, view) == 1).any() == kept or not kept
        assert transforms.visible(view, label.shape) == transforms.visible(before, label.shape)
        corners.add((view.top, view.left))
    assert kept or scale < 1
    assert len(corners) > 20


def test_the_windows_over_a_pixel_are_all_of_those_that_hold_it():
    label = np.zeros((12, 11), np.uint8)
    label[9, 5] = 1
    got = Counter()
    for seed in range(400):
        view = choose(label, seed=seed, focus=1)
        got[view.top, view.left] += 1
    # Rows 9 - 7 to 12 - 8, columns 0 to 11 - 10.
    assert set(got) == {(top, left) for top in (2, 3, 4) for left in (0, 1)}
    assert min(got.values()) > 30  # of 400 / 6


def test_a_class_that_is_not_there_changes_nothing():
    label = sparse()
    assert choose(label, focus=7) == start(label)
    rule = CropRule(rare=1.0, odds=(0.0, 0.0, 0.0, 0.0, 5.0))
    assert choose(label, rule) == start(label)
    nothing = np.full((40, 50), 255, np.uint8)
    assert choose(nothing, CropRule(rare=1.0, odds=(1.0, 1.0))) == start(nothing)


def test_rare_crops_follow_the_odds_and_the_probability():
    label = sparse(400, 500)  # a window seldom holds a single pixel by chance
    rule = CropRule(rare=0.5, odds=(0.0, 3.0, 1.0, 0.0, 9.0))
    held = Counter()
    for seed in range(800):
        seen = np.unique(transforms.view_label(label, choose(label, rule, seed=seed)))
        held.update(k for k in (1, 2) if k in seen)
    # 300 and 100 are expected; 5 standard deviations are 69 and 47.
    assert abs(held[1] - 300) < 69
    assert abs(held[2] - 100) < 47


def test_inverse_odds():
    assert crops.inverse_odds(np.array([4, 0, 2])) == (0.25, 0.0, 0.5)


def test_a_balanced_crop_is_taken_and_a_full_one_is_not():
    label = np.zeros((40, 50), np.uint8)
    label[:, 25:] = 1
    rule = CropRule(cat_max_ratio=0.75)
    shares, full = [], 0
    for seed in range(200):
        before, after = start(label, seed=seed), choose(label, rule, seed=seed)
        ones = (transforms.view_label(label, before) == 1).mean()
        if max(ones, 1 - ones) < 0.75:
            assert after == before
        else:
            full += 1
        shares.append((transforms.view_label(label, after) == 1).mean())
    assert full > 50
    # Half of the windows at most are balanced ones: 11 in a row that are not are rare.
    good = [max(share, 1 - share) < 0.75 for share in shares]
    assert np.mean(good) > 0.75


def test_ignored_pixels_count_for_nothing_and_the_last_window_is_taken():
    label = np.full((40, 50), 255, np.uint8)
    label[:, ::10] = 0  # one class is never balanced
    view = choose(label, CropRule(cat_max_ratio=0.99))
    rng = np.random.default_rng(0)
    transforms.draw_view(rng, label.shape, crop=CROP, scales=(Fraction(1),))
    draws = crops.draw(rng)
    assert (view.top, view.left) == (int(draws.down[-1] * 33), int(draws.right[-1] * 41))
    label[:, ::4] = 1  # now there are two, a third of the labelled pixels and two
    assert choose(label, CropRule(cat_max_ratio=0.99)) == start(label)


def test_both_rules_together_stay_over_the_class():
    label = sparse(400, 500)
    rule = CropRule(rare=1.0, odds=(0.0, 1.0), cat_max_ratio=0.5)
    for seed in range(30):
        assert (transforms.view_label(label, choose(label, rule, seed=seed)) == 1).any()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"rare": -0.1}, "rare_crop -0.1"),
        ({"rare": 2}, "rare_crop 2"),
        ({"cat_max_ratio": 0}, "cat_max_ratio 0"),
        ({"cat_max_ratio": 1.1}, "cat_max_ratio 1.1"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rule, message):
    with pytest.raises(UserError, match=message):
        crops.check(CropRule(**rule))
