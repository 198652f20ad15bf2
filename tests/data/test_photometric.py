"""Photometric jitter: exact tables, and draws that cover their ranges."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from dropclass_jax.data import photometric
from dropclass_jax.data.photometric import USUAL, Jitter, JitterRange
from dropclass_jax.errors import UserError


def grey(*levels: int) -> np.ndarray:
    return np.repeat(np.array([levels], np.uint8)[..., None], 3, axis=2)


def pixel(*rgb: int) -> np.ndarray:
    return np.array([[rgb]], np.uint8)


def test_nothing_to_do_returns_the_image_itself():
    image = grey(0, 100, 255)
    assert photometric.jitter_image(image, Jitter()) is image


@pytest.mark.parametrize(
    ("jitter", "expected"),
    [
        (Jitter(brightness=20.4), (20, 120, 255)),
        (Jitter(brightness=-32), (0, 68, 223)),
        (Jitter(contrast=1.5), (0, 150, 255)),
        (Jitter(contrast=0.5), (0, 50, 128)),
        (Jitter(brightness=200, contrast=0.5), (100, 128, 128)),  # clipped before the contrast
        # Without a change of saturation or hue between them, first and last are the same.
        (Jitter(brightness=200, contrast=0.5, contrast_last=True), (100, 128, 128)),
    ],
)
def test_brightness_and_contrast_are_exact(jitter, expected):
    got = photometric.jitter_image(grey(0, 100, 255), jitter)
    np.testing.assert_array_equal(got, grey(*expected))
    assert got.dtype == np.uint8


def test_saturation_and_hue_are_exact_on_primaries():
    red = pixel(255, 0, 0)
    for turn, rgb in ((60, (0, 255, 0)), (120, (0, 0, 255)), (30, (255, 255, 0))):
        np.testing.assert_array_equal(photometric.jitter_image(red, Jitter(hue=turn)), pixel(*rgb))
        np.testing.assert_array_equal(photometric.jitter_image(pixel(*rgb), Jitter(hue=-turn)), red)
    np.testing.assert_array_equal(
        photometric.jitter_image(red, Jitter(saturation=0)), pixel(255, 255, 255)
    )
    # A saturation of 51 grows to 76.5, rounded to even: 255 - 76 = 179.
    np.testing.assert_array_equal(
        photometric.jitter_image(pixel(255, 204, 204), Jitter(saturation=1.5)),
        pixel(255, 179, 179),
    )
    np.testing.assert_array_equal(
        photometric.jitter_image(grey(9, 90), Jitter(saturation=1.5, hue=40)), grey(9, 90)
    )


def test_hue_turns_as_python_turns_it():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    got = photometric.jitter_image(image, Jitter(hue=25)) / 255
    for (r, g, b), after in zip(image.reshape(-1, 3) / 255, got.reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        expected = colorsys.hsv_to_rgb((h + 50 / 360) % 1, s, v)
        # 8-bit hue and saturation: half a step of 2 degrees is 1/60 of a sector, 4 grey levels.
        np.testing.assert_allclose(after, expected, atol=6 / 255)


def test_contrast_last_sees_the_recoloured_pixel():
    jitter = Jitter(contrast=1.5, saturation=1.25)
    image = pixel(200, 40, 40)
    # First: (255, 60, 60), whose saturation of 195 grows to 243.75: 255 - 244 = 11.
    np.testing.assert_array_equal(photometric.jitter_image(image, jitter), pixel(255, 11, 11))
    # Last: the saturation of 204 grows to 255, and (200, 0, 0) is brightened.
    last = jitter._replace(contrast_last=True)
    np.testing.assert_array_equal(photometric.jitter_image(image, last), pixel(255, 0, 0))


def test_draws_fill_their_ranges_and_each_is_off_half_of_the_time():
    rng = np.random.default_rng(0)
    draws = [photometric.draw_jitter(rng, USUAL) for _ in range(2000)]
    for name, low, high, off in (
        ("brightness", -32, 32, 0),
        ("contrast", 0.5, 1.5, 1),
        ("saturation", 0.5, 1.5, 1),
        ("hue", -18, 18, 0),
    ):
        values = np.array([getattr(draw, name) for draw in draws])
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
        # Of 2000 coins 1000 are heads, give or take 5 standard deviations of 22; hue is also 0
        # once in 37 when it is on.
        assert abs(np.count_nonzero(values == off) - 1000) < 150
    hues = {draw.hue for draw in draws}
    assert hues == set(range(-18, 19))
    assert abs(sum(draw.contrast_last for draw in draws) - 1000) < 112


@pytest.mark.parametrize("name", JitterRange._fields)
def test_one_range_changes_no_other_draw(name):
    for seed in range(20):
        usual = photometric.draw_jitter(np.random.default_rng(seed), USUAL)
        without = photometric.draw_jitter(np.random.default_rng(seed), USUAL._replace(**{name: 0}))
        assert without == usual._replace(**{name: getattr(Jitter(), name)})


def test_no_ranges_draw_nothing():
    rng = np.random.default_rng(0)
    for _ in range(20):
        draw = photometric.draw_jitter(rng, JitterRange())
        assert draw._replace(contrast_last=False) == Jitter()


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"brightness": -1}, "jitter brightness -1: want a number from 0 .* to 255"),
        ({"contrast": 1.5}, "jitter contrast 1.5"),
        ({"hue": 2.5}, "jitter hue 2.5: want a whole number"),
        ({"hue": 91}, "jitter hue 91"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(ranges, message):
    with pytest.raises(UserError, match=message):
        photometric.check(JitterRange(**ranges))
    photometric.check(USUAL)
