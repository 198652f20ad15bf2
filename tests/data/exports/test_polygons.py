"""The one function that draws polygons, against masks made by hand and a check of every pixel."""

from __future__ import annotations

import numpy as np
import pytest
from fabricate_exports import picture

from dropclass_jax.data.exports import polygons


def drawn(points, shape=(6, 8), value=1) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    polygons.paint(label, polygons.points_of(points), value)
    return label


def centres_inside(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The even-odd rule, pixel by pixel and edge by edge."""
    inside = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        for row in range(shape[0]):
            y = row + 0.5
            if (y0 <= y) != (y1 <= y):
                crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
                inside[row] ^= np.arange(shape[1]) + 0.5 >= crossing
    return inside


MASKS = {
    "whole pixels": (
        [[1, 1], [4, 1], [4, 3], [1, 3]],
        ("........", ".111....", ".111....", "........", "........", "........"),
    ),
    "less than half a pixel": (
        [1.4, 1.4, 4.6, 1.4, 4.6, 3.4, 1.4, 3.4],
        ("........", ".1111...", ".1111...", "........", "........", "........"),
    ),
    "more than half a pixel": (
        [1.6, 1.6, 4.4, 1.6, 4.4, 3.6, 1.6, 3.6],
        ("........", "........", "..11....", "..11....", "........", "........"),
    ),
    "a triangle": (
        [[0, 0], [6, 0], [0, 6]],
        ("11111...", "1111....", "111.....", "11......", "1.......", "........"),
    ),
    "a hole where it crosses itself": (
        [[0, 0], [6, 0], [6, 5], [2, 5], [2, 2], [4, 2], [4, 4], [0, 4]],
        ("111111..", "111111..", "11..11..", "11..11..", "..1111..", "........"),
    ),
    "over the edges": (
        [[-9, -9], [3, -9], [3, 99], [-9, 99]],
        ("111.....",) * 6,
    ),
    "outside": ([[9, 9], [12, 9], [12, 12]], ("........",) * 6),
    "a line": ([[1, 1], [5, 5]], ("........",) * 6),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_made_by_hand(name):
    points, rows = MASKS[name]
    np.testing.assert_array_equal(drawn(points), picture(*rows))


@pytest.mark.parametrize("seed", range(40))
def test_every_pixel_by_its_centre(seed):
    generator = np.random.default_rng(seed)
    points = generator.uniform(-5, 25, (generator.integers(3, 9), 2))
    if seed % 2:  # through corners and centres of pixels
        points = np.round(2 * points) / 2
    np.testing.assert_array_equal(
        drawn(points, (20, 17)), centres_inside(points, (20, 17)).astype(np.uint8)
    )


def test_neighbours_share_no_pixel_and_leave_no_gap():
    generator = np.random.default_rng(0)
    middle = generator.uniform(3, 12, 2)
    corners = np.array([(0, 0), (15, 0), (15, 15), (0, 15)], float)
    total = sum(drawn([*corners[[i, (i + 1) % 4]], middle], (15, 15)).astype(int) for i in range(4))
    np.testing.assert_array_equal(total, 1)


def test_an_edge_is_met_to_half_a_pixel():
    angles = np.linspace(0, 2 * np.pi, 500)
    ring = np.stack([50 + 30 * np.cos(angles), 40 + 30 * np.sin(angles)], axis=1)
    rows, columns = np.indices((80, 100)) + 0.5
    distance = np.hypot(columns - 50, rows - 40)
    mask = drawn(ring, (80, 100)).astype(bool)
    assert distance[mask].max() <= 30.01
    assert distance[~mask].min() >= 29.99
    ellipse = drawn(polygons.ellipse(50, 40, 30, 30, 17), (80, 100)).astype(bool)
    np.testing.assert_array_equal(ellipse, distance <= 30)


def test_a_turned_rectangle():
    """By 90 degrees clockwise about its first corner, as Label Studio turns."""
    turned = polygons.box(4, 1, 3, 2, 90)
    np.testing.assert_allclose(turned, [(4, 1), (4, 4), (2, 4), (2, 1)], atol=1e-12)
    wide = polygons.ellipse(4, 3, 3, 1, 90)
    np.testing.assert_allclose(np.abs(wide - (4, 3)).max(axis=0), (1, 3), atol=0.01)


@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        ([1, 2, 3], "3 coordinates"),
        ([[1, 2, 3], [4, 5, 6], [7, 8, 9]], "not pairs"),
        ([[1, 2], [3]], "not numbers"),
        (["a", "b"], "not numbers"),
        ([[0, 0], [float("nan"), 1], [2, 2]], "no number"),
        ([[0, 0], [1e300, 1], [2, 2]], "nowhere near"),
        ([[0, 0], [10**400, 1], [2, 2]], "not numbers"),
    ],
)
def test_broken_points_are_refused(points, complaint):
    with pytest.raises(ValueError, match=complaint):
        polygons.points_of(points)


def test_a_huge_polygon_takes_little_memory(monkeypatch):
    generator = np.random.default_rng(0)
    points = generator.uniform(-100, 300, (3_000, 2))
    whole = drawn(points, (100, 200))
    monkeypatch.setattr(polygons, "MOST_CROSSINGS", 500)
    np.testing.assert_array_equal(drawn(points, (100, 200)), whole)
