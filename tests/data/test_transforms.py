"""Random scale, crop and flip: exact small cases, and the geometry that image and label share."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from dropclass_jax.data import transforms
from dropclass_jax.data.transforms import View
from dropclass_jax.errors import UserError

RECIPE = transforms.scales((0.5, 2.1), 0.1)


def picture(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """White noise: the image for which a wrong interpolation weight shows most."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.integers(0, 19, (height, width)).astype(np.uint8)


def whole(shape: tuple[int, int], scale: Fraction) -> View:
    return View(scale, 0, 0, *(transforms.scaled_length(n, scale) for n in shape), False)


def test_scales_are_those_of_the_recipe():
    assert tuple(Fraction(n, 10) for n in range(5, 22)) == RECIPE
    assert transforms.scales((1, 1), 0.25) == (1,)
    assert transforms.scales((0.5, 1.4), 0.4) == (Fraction(1, 2), Fraction(9, 10), Fraction(13, 10))


@pytest.mark.parametrize(
    ("scale_range", "step"), [((0, 2), 0.1), ((2, 1), 0.1), ((1, 2), 0), ((1, 2), -0.1)]
)
def test_scales_that_make_no_sense_are_refused(scale_range, step):
    with pytest.raises(UserError, match="scale_range"):
        transforms.scales(scale_range, step)


def test_nearest_takes_the_pixel_under_the_centre():
    def whole_axis(length: int, scale: Fraction) -> list[int]:
        stop = transforms.scaled_length(length, scale)
        return transforms.nearest(length, scale, 0, stop).tolist()

    assert whole_axis(3, Fraction(2)) == [0, 0, 1, 1, 2, 2]
    assert whole_axis(6, Fraction(1, 2)) == [1, 3, 5]
    assert whole_axis(6, Fraction(1, 3)) == [1, 4]
    assert whole_axis(4, Fraction(3, 2)) == [0, 1, 1, 2, 3, 3]
    assert whole_axis(1, Fraction(1, 3)) == [0]


def test_bilinear_scaling_by_two_is_exact():
    image = np.repeat(np.array([[0, 100, 200]], np.uint8)[..., None], 3, axis=2)
    row = transforms.view_image(image, View(Fraction(2), 0, 0, 1, 6, False))[0, :, 0]
    assert row.tolist() == [0, 25, 75, 125, 175, 200]


@pytest.mark.parametrize("scale", RECIPE, ids=str)
def test_image_and_label_are_not_shifted_against_each_other(scale):
    """On a ramp, the image tells where it was sampled and the label which pixel that lies in."""
    width, step = 25, 10
    label = np.tile(np.arange(width, dtype=np.uint8), (width, 1))
    image = np.repeat((step * label)[..., None], 3, axis=2)
    view = whole(label.shape, scale)
    sampled = transforms.view_image(image, view)[0, :, 0] / step
    inside = (sampled > 0) & (sampled < width - 1)  # elsewhere the edge is repeated
    rounding = 0.5 / step

    def offset(pixels: np.ndarray) -> np.ndarray:
        return (sampled - pixels)[inside]

    # The label is that of the nearest pixel: its centre is at most half a source pixel away.
    assert np.abs(offset(transforms.view_label(label, view)[0])).max() <= 0.5 + rounding

    # The bound can tell: OpenCV's own nearest neighbour is off by half an output pixel.
    opencv = cv2.resize(label, (view.width, view.height), interpolation=cv2.INTER_NEAREST)[0]
    if Fraction(1, 2) < scale < 1:
        assert np.abs(offset(opencv)).max() > 0.5 + rounding


@pytest.mark.parametrize("shape", [(60, 80), (37, 53)], ids=str)
@pytest.mark.parametrize("scale", RECIPE, ids=str)
def test_a_view_is_the_scaled_image_cropped(shape, scale):
    image, label = picture(*shape)
    factor = float(scale)
    scaled = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    height, width = (transforms.scaled_length(n, scale) for n in shape)
    rng = np.random.default_rng(1)
    for _ in range(30):
        view = transforms.draw_view(rng, shape, crop=(17, 23), scales=(scale,), flip=False)
        window = np.s_[view.top : view.top + 17, view.left : view.left + 23]
        got = transforms.view_image(image, view)
        assert np.abs(got.astype(int) - scaled[:height, :width][window]).max() <= 1
        all_of_it = transforms.view_label(label, whole(shape, scale))
        np.testing.assert_array_equal(transforms.view_label(label, view), all_of_it[window])


@pytest.mark.parametrize("scale", RECIPE, ids=str)
def test_nearest_agrees_with_opencvs_exact_one(scale):
    length = 120  # a multiple of 10: the scaled length is exact, and so is OpenCV's geometry
    scaled = transforms.scaled_length(length, scale)
    assert scaled == length * scale
    got = transforms.nearest(length, scale, 0, scaled)
    axis = np.arange(length, dtype=np.uint8)[None]
    opencv = cv2.resize(axis, (scaled, 1), interpolation=cv2.INTER_NEAREST_EXACT)[0]
    tie = np.array([Fraction(2 * d + 1, 2) / scale == int(got[d]) for d in range(scaled)])
    np.testing.assert_array_equal(got[~tie], opencv[~tie])
    assert np.all((got - opencv)[tie] <= 1)  # on the border of two pixels, either is right


def test_an_unscaled_view_is_a_slice():
    image, label = picture(9, 11)
    view = View(Fraction(1), 2, 3, 4, 5, False)
    np.testing.assert_array_equal(transforms.view_image(image, view), image[2:6, 3:8])
    np.testing.assert_array_equal(transforms.view_label(label, view), label[2:6, 3:8])


def test_padding_is_on_the_right_and_below():
    image, label = picture(4, 5)
    view = View(Fraction(1), 0, 0, 6, 7, False)
    padded_image = np.pad(image, ((0, 2), (0, 2), (0, 0)))
    padded_label = np.pad(label, ((0, 2), (0, 2)), constant_values=255)
    np.testing.assert_array_equal(transforms.view_image(image, view), padded_image)
    np.testing.assert_array_equal(transforms.view_label(label, view), padded_label)


def test_a_flip_mirrors_columns_of_both():
    image, label = picture(30, 40)
    view = View(Fraction(7, 5), 3, 4, 20, 60, False)
    flipped = view._replace(flip=True)
    for see, pixels in ((transforms.view_image, image), (transforms.view_label, label)):
        np.testing.assert_array_equal(see(pixels, flipped), see(pixels, view)[:, ::-1])


def test_views_are_drawn_over_the_whole_range():
    rng = np.random.default_rng(0)
    draw = {"shape": (10, 12), "crop": (7, 8)}
    views = [transforms.draw_view(rng, **draw, scales=(Fraction(1),)) for _ in range(500)]
    assert {v.top for v in views} == set(range(4))
    assert {v.left for v in views} == set(range(5))
    assert 200 < sum(v.flip for v in views) < 300
    assert not any(
        v.flip
        for v in (transforms.draw_view(rng, **draw, scales=RECIPE, flip=False) for _ in range(20))
    )
    views = [transforms.draw_view(rng, **draw, scales=RECIPE) for _ in range(500)]
    assert {v.scale for v in views} == set(RECIPE)
    small = [v for v in views if v.scale == Fraction(1, 2)]
    assert {(v.top, v.left) for v in small} == {(0, 0)}  # 5x6 pixels, padded


def test_no_option_changes_what_another_draws():
    def draw(**options) -> View:
        arguments = {"crop": (8, 8), "scales": RECIPE, "flip": True} | options
        return transforms.draw_view(np.random.default_rng(5), (40, 40), **arguments)

    assert draw(flip=False) == draw()._replace(flip=False)
    assert draw(crop=(80, 8)).left == draw().left
    assert draw(crop=(80, 8)).flip == draw().flip
