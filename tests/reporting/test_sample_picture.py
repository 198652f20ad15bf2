"""The pictures on TensorBoard say what they are."""

from __future__ import annotations

import numpy as np
import pytest

from dropclass_jax.reporting.sample_picture import GAP, LINE, sample_picture

NAMES = ("sky", "road", "car", "pole")
COLORS = ((0, 0, 255), (255, 0, 0), (0, 200, 0), (90, 90, 90))


def sample(height=50, width=100, name="berlin_1"):
    label = np.zeros((height, width), np.uint8)
    label[height // 2 :] = 1
    prediction = np.full((height, width), 2, np.uint8)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {"image": image, "label": label, "prediction": prediction, "id": name}


def draw(of, answer_of="drop head"):
    return sample_picture(of, NAMES, COLORS, answer_of)


def test_image_label_and_answer_stand_side_by_side():
    shown = sample()
    picture = draw(shown)
    top, width = 2 * LINE, 400 + GAP  # of panels that are four times as large
    panels = [picture[top : top + 200 : 4, n * width : n * width + 400 : 4] for n in range(3)]
    colors = np.array(COLORS, np.uint8)
    np.testing.assert_array_equal(panels[0], shown["image"])
    np.testing.assert_array_equal(panels[1], colors[shown["label"]])
    np.testing.assert_array_equal(panels[2], colors[shown["prediction"]])
    listed = picture[top:, 3 * width :].reshape(-1, 3)
    for color, is_there in zip(COLORS, (True, True, True, False), strict=True):
        assert (listed == color).all(axis=-1).any() == is_there


def test_ignored_pixels_are_striped():
    shown = sample()
    shown["label"][:5] = 255
    stripes = draw(shown)[2 * LINE : 2 * LINE + 20 : 4, 400 + GAP : 800 + GAP : 4]
    assert {tuple(color) for color in stripes.reshape(-1, 3)} == {(0, 0, 0), (110, 110, 110)}


def test_the_title_names_the_image_and_the_heading_the_head():
    picture = draw(sample())
    other = draw(sample(name="berlin_2"))
    assert (picture[:LINE] != other[:LINE]).any()
    np.testing.assert_array_equal(picture[LINE:], other[LINE:])
    plain = draw(sample(), "plain head")
    third = slice(2 * (400 + GAP), 3 * (400 + GAP))
    assert (picture[LINE : 2 * LINE, third] != plain[LINE : 2 * LINE, third]).any()
    np.testing.assert_array_equal(np.delete(picture, third, 1), np.delete(plain, third, 1))


@pytest.mark.parametrize("shape", [(1024, 2048), (3, 4000), (4000, 3), (900, 40), (1, 1)])
def test_no_size_makes_it_too_large_or_fails(shape):
    picture = draw(sample(*shape, name="a/very/long/path/" * 20))
    assert picture.dtype == np.uint8
    assert len(picture) <= 1200 + 2 * LINE
    assert 3 * (180 + GAP) < picture.shape[1] < 3 * (800 + GAP) + 300


def test_all_classes_of_many_are_listed():
    """The list is as high as it takes; the rarest is its end."""
    colors = [(k, 3, 7) for k in range(60)]
    label = np.arange(60, dtype=np.uint8)[None].repeat(8, 0)
    shown = {"image": np.zeros((8, 60, 3), np.uint8), "label": label, "prediction": label, "id": ""}
    key = sample_picture(shown, [f"c{k}" for k in range(60)], colors, "drop head")
    listed = {tuple(color) for color in key[:, 3 * (420 + GAP) :].reshape(-1, 3)}
    assert set(colors) <= listed
