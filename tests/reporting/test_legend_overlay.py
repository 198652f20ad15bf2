"""The key beside a prediction: what it lists, and that its size depends on no prediction."""

from __future__ import annotations

import numpy as np

from dropclass_jax.reporting import legend_overlay, pictures

NAMES = ("sky", "road", "a class with a very long name indeed", "pole", "car")
COLORS = ((0, 0, 255), (255, 0, 0), (0, 200, 0), (90, 90, 90), (200, 200, 0))
SHARES = np.array([0.2, 0.5, 0.0, 0.1, 0.2])


def listed(rows: list[legend_overlay.Row]) -> list[tuple[int | None, str, float]]:
    return [(row.index, row.text, round(row.share, 6)) for row in rows]


def test_what_occurs_is_listed_the_largest_first():
    assert listed(legend_overlay.key_rows(SHARES, NAMES, 9)) == [
        (1, "road", 0.5), (0, "sky", 0.2), (4, "car", 0.2), (3, "pole", 0.1),
    ]  # fmt: skip


def test_what_does_not_fit_has_one_line():
    assert listed(legend_overlay.key_rows(SHARES, NAMES, 3)) == [
        (1, "road", 0.5), (0, "sky", 0.2), (None, "2 others", 0.3),
    ]  # fmt: skip


def test_every_class_in_its_place_if_all_fit():
    rows = legend_overlay.key_rows(SHARES, NAMES, 5, every_class=True)
    assert [row.index for row in rows] == [0, 1, 2, 3, 4]
    assert rows[2].text == "a class with a very long na…"
    few = legend_overlay.key_rows(SHARES, NAMES, 4, every_class=True)
    assert [row.index for row in few] == [1, 0, 4, 3]


def test_the_picture_is_beside_a_key_of_fixed_width():
    image = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    sizes = set()
    for classes in ([0], [1, 3], [0, 1, 2, 3, 4]):
        label = np.resize(np.array(classes, np.uint8), image.shape[:2])
        shown = legend_overlay.legend_overlay(image, label, NAMES, COLORS)
        blend = pictures.overlay(image, label, COLORS)
        # Four times as large: the least whole factor that makes it high enough.
        np.testing.assert_array_equal(shown[:400:4, :600:4], blend)
        key = shown[:, 600:]
        for k, color in enumerate(COLORS):
            assert (key == color).all(axis=-1).any() == (k in classes)
        sizes.add(shown.shape)
    assert len(sizes) == 1
    assert sizes.pop()[0] == 400


def test_a_strip_is_not_enlarged_beyond_reason():
    image = np.zeros((2, 900, 3), np.uint8)
    shown = legend_overlay.legend_overlay(image, np.ones((2, 900), np.uint8), NAMES, COLORS)
    assert len(shown) == 360
    np.testing.assert_array_equal(shown[:4, :1800], np.broadcast_to((128, 0, 0), (4, 1800, 3)))
    assert (shown[4:, :1800] == 255).all()


def test_a_high_picture_is_not_enlarged():
    image = np.zeros((500, 20, 3), np.uint8)
    shown = legend_overlay.legend_overlay(image, np.ones((500, 20), np.uint8), NAMES, COLORS)
    np.testing.assert_array_equal(shown[:, :20], np.broadcast_to((128, 0, 0), (500, 20, 3)))
