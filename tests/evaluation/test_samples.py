"""The pictures of a split: rare classes are on them."""

import numpy as np

from dropclass_jax.evaluation import samples

# Class 0 is everywhere, 1 is rare, 2 the rarest of those that occur, 3 occurs in training alone.
COUNTS = np.array([
    [90, 0, 0, 0],
    [80, 9, 0, 0],
    [70, 1, 2, 0],
    [60, 0, 3, 0],
    [95, 2, 0, 0],
])  # fmt: skip
TRAIN = np.array([1000, 50, 20, 1])


def test_every_class_has_its_best_picture_the_rarest_first():
    assert samples.choose(COUNTS, TRAIN, 1) == [3]
    assert samples.choose(COUNTS, TRAIN, 3) == [3, 1, 4]


def test_no_class_has_a_second_before_all_have_one():
    assert samples.choose(COUNTS, TRAIN, 5) == [3, 1, 4, 2, 0]
    assert samples.choose(COUNTS[:, :1], TRAIN[:1], 3) == [4, 0, 1]


def test_one_picture_will_do_for_two_classes():
    counts = np.array([[5, 4, 4], [5, 3, 3], [9, 0, 0]])
    assert samples.choose(counts, counts.sum(axis=0), 3) == [0, 2, 1]


def test_images_without_a_labelled_pixel_are_not_shown():
    assert samples.choose(np.array([[0, 0], [0, 4], [0, 0]]), np.array([1, 1]), 4) == [1]


def test_which_training_pixels_there_are_decides_what_is_rare():
    assert samples.choose(COUNTS, np.array([1, 50, 20, 1000]), 2) == [4, 3]
