"""One example: a view, a crop rule and a jitter, each with its own draws."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from dropclass_jax.data import augment, photometric, transforms
from dropclass_jax.data.augment import Augmentation
from dropclass_jax.data.crops import CropRule
from dropclass_jax.data.photometric import USUAL, JitterRange
from dropclass_jax.errors import UserError

RECIPE = transforms.scales((0.5, 2.1), 0.1)
PLAIN = Augmentation(crop=(16, 16), scales=RECIPE)
ALL = PLAIN._replace(jitter=USUAL, crop_rule=CropRule(0.5, (1.0,) * 5, 0.6))


def example(height: int = 20, width: int = 30) -> dict:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (height, width, 3), dtype=np.uint8)
    return {
        "image": image,
        "label": rng.integers(0, 5, (height, width)).astype(np.uint8),
        "id": "a",
    }


def shown(augmentation: Augmentation, seed: int, focus: int | None = None) -> dict:
    return augment.augment(example(), np.random.default_rng(seed), augmentation, focus)


def test_it_shows_one_view_and_keeps_the_rest():
    element = example()
    got = augment.augment(element, np.random.default_rng(3), PLAIN)
    view = transforms.draw_view(np.random.default_rng(3), (20, 30), crop=(16, 16), scales=RECIPE)
    np.testing.assert_array_equal(got["image"], transforms.view_image(element["image"], view))
    np.testing.assert_array_equal(got["label"], transforms.view_label(element["label"], view))
    assert got["id"] == "a"
    assert (got["image"].dtype, got["image"].shape) == (np.uint8, (16, 16, 3))
    assert (got["label"].dtype, got["label"].shape) == (np.uint8, (16, 16))


@pytest.mark.parametrize("seed", range(8))
def test_jitter_changes_colours_and_nothing_else(seed):
    plain, jittered = shown(PLAIN, seed), shown(PLAIN._replace(jitter=USUAL), seed)
    np.testing.assert_array_equal(plain["label"], jittered["label"])
    rng = np.random.default_rng(seed)
    rng.random(transforms.VIEW_VARIATES)
    expected = photometric.jitter_image(plain["image"], photometric.draw_jitter(rng, USUAL))
    padding = (plain["image"] == 0).all(axis=-1)  # the image itself is nowhere black
    np.testing.assert_array_equal(
        jittered["image"], np.where(padding[..., None], 0, expected).astype(np.uint8)
    )


def test_no_option_changes_what_another_draws():
    for seed in range(10):
        rngs = [np.random.default_rng(seed) for _ in range(5)]
        draws = [
            augment.draw(rng, augmentation)
            for rng, augmentation in zip(
                rngs,
                (
                    ALL,
                    ALL._replace(jitter=JitterRange()),
                    ALL._replace(crop_rule=CropRule()),
                    ALL._replace(flip=False, scales=(Fraction(1),)),
                    PLAIN,
                ),
                strict=True,
            )
        ]
        for other in draws[1:]:
            np.testing.assert_array_equal(other.view, draws[0].view)
            assert other.crop.coin == draws[0].crop.coin
            np.testing.assert_array_equal(other.crop.pixels, draws[0].crop.pixels)
        assert draws[2].jitter == draws[0].jitter == draws[3].jitter
        assert len({rng.random() for rng in rngs}) == 1  # and whatever is drawn next


def test_a_crop_rule_moves_image_and_label_together():
    element = example()
    element["image"] = np.repeat(50 * element["label"][..., None], 3, axis=2)
    rule = CropRule(1.0, (1.0,) * 5, 0.3)
    still = Augmentation(crop=(6, 7), crop_rule=rule)
    for seed in range(20):
        got = augment.augment(element, np.random.default_rng(seed), still)
        np.testing.assert_array_equal(got["image"][..., 0], 50 * got["label"])


def test_a_focus_is_in_the_crop():
    element = example()
    element["label"][:] = 0
    element["label"][11, 22] = 4
    small = PLAIN._replace(crop=(4, 4), scales=(Fraction(1),))
    for seed in range(20):
        got = augment.augment(element, np.random.default_rng(seed), small, focus=4)
        assert (got["label"] == 4).any()


def test_the_source_is_left_alone():
    element = example()
    for key in ("image", "label"):
        element[key].setflags(write=False)  # as a cache keeps it
    for seed in range(10):
        augment.augment(element, np.random.default_rng(seed), ALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": (0, 8)}, r"crop \(0, 8\)"),
        ({"jitter": JitterRange(contrast=2)}, "contrast"),
        ({"crop_rule": CropRule(rare=2)}, "rare_crop"),
    ],
)
def test_values_that_make_no_sense_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        augment.check(PLAIN._replace(**change))
    augment.check(ALL)
