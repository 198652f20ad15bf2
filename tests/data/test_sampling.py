"""Class-uniform sampling: every class as likely, and the other positions as before."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dropclass_jax.data import sampling
from dropclass_jax.errors import UserError

# Image 0 holds class 0; 1 holds 0 and 1; 2 to 9 hold 0; class 2 is nowhere; 9 holds 3 as well.
PIXELS = np.zeros((10, 4), int)
PIXELS[:, 0] = 50
PIXELS[1, 1] = 1
PIXELS[9, 3] = 7


def test_a_class_then_one_of_its_images():
    sampler = sampling.class_uniform(PIXELS, share=1.0)
    assert [(k, images.tolist()) for k, images in sampler.images] == [
        (0, list(range(10))),
        (1, [1]),
        (3, [9]),
    ]
    assert sampling.choose(sampler, 5, (0.5, 0.0, 0.99)) == (9, 0)
    assert sampling.choose(sampler, 5, (0.5, 0.34, 0.99)) == (1, 1)
    assert sampling.choose(sampler, 5, (0.5, 0.99, 0.0)) == (9, 3)


def test_the_share_and_the_classes_are_as_promised():
    rng = np.random.default_rng(0)
    sampler = sampling.class_uniform(PIXELS, share=0.5)
    drawn = [sampling.choose(sampler, -1, rng.random(sampling.VARIATES)) for _ in range(1200)]
    kept = [index for index, focus in drawn if focus is None]
    assert set(kept) == {-1}
    assert abs(len(kept) - 600) < 87  # 5 standard deviations
    counts = Counter(focus for _, focus in drawn if focus is not None)
    assert counts.keys() == {0, 1, 3}
    assert all(abs(count - 200) < 66 for count in counts.values())
    assert all(PIXELS[index, focus] for index, focus in drawn if focus is not None)


def test_without_class_crops_only_the_image_is_drawn():
    sampler = sampling.class_uniform(PIXELS, share=1.0, crop=False)
    assert sampling.choose(sampler, 5, (0.5, 0.34, 0.99)) == (1, None)


def test_off_is_as_they_come():
    assert sampling.choose(sampling.AS_THEY_COME, 5, (0.0, 0.3, 0.9)) == (5, None)
    assert sampling.choose(sampling.class_uniform(PIXELS, 0.0), 5, (0.0, 0.3, 0.9)) == (5, None)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_makes_no_sense_is_refused(share):
    with pytest.raises(UserError, match="class_uniform"):
        sampling.class_uniform(PIXELS, share)


def test_a_split_without_labels_is_refused():
    with pytest.raises(UserError, match="no image"):
        sampling.class_uniform(np.zeros((3, 2)), 0.5)
    sampling.class_uniform(np.zeros((3, 2)), 0.0)
