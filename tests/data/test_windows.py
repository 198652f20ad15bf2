"""Which 16-bit values become 0 and 255, and what that costs each class."""

from __future__ import annotations

import fabricate
import numpy as np
import pytest

from dropclass_jax import data
from dropclass_jax.data import windows
from dropclass_jax.errors import UserError


def test_a_window_maps_its_ends_and_what_is_beyond_them():
    values = np.array([0, 99, 100, 101, 355, 610, 611, 65535], np.uint16).reshape(1, 8, 1)
    # 510 values onto 255: a half rounds up.
    expected = [0, 0, 0, 1, 128, 255, 255, 255]
    assert windows.to_8bit(values, (100, 610)).ravel().tolist() == expected
    identity = np.arange(256, dtype=np.uint16).reshape(1, -1, 1)
    assert windows.to_8bit(identity, (0, 255)).ravel().tolist() == list(range(256))
    full = np.array([0, 65535, 257 * 40], np.uint16).reshape(1, -1, 1)
    assert windows.to_8bit(full, windows.parse("full")).ravel().tolist() == [0, 255, 40]


def test_a_window_leaves_out_a_thousandth_on_either_side():
    counts = np.zeros(65536, np.int64)
    counts[1000:2000] = 10  # 10,000 pixels
    counts[[5, 60000]] = 5  # dead and hot ones: half of a thousandth each
    low, high = windows.window_of(counts)
    assert (low, high) == (1000, 1999)
    counts[[5, 60000]] = 50
    assert windows.window_of(counts) == (5, 60000)


def test_a_window_of_one_value_is_no_division_by_zero():
    for value in (0, 7, 65535):
        counts = np.zeros(65536, np.int64)
        counts[value] = 3
        low, high = windows.window_of(counts)
        assert 0 <= low < high <= 65535


@pytest.mark.parametrize("text", ["", "sets", "0", "5:5", "9:3", "0:65536", "-1:5", "1.5:3"])
def test_a_bad_window_is_named(text):
    with pytest.raises(UserError, match=r"window is 'set', 'image', 'full' or LOW:HIGH"):
        windows.parse(text)


def spread(low: int, high: int, each: int) -> np.ndarray:
    """The histogram of values from low to high, so many of each."""
    counts = np.zeros(65536, np.int64)
    counts[low : high + 1] = each
    return counts


def test_a_window_is_widened_for_a_rare_class():
    """A lesion of 0.04 % of the values, brighter than all else."""
    tissue, lesion = spread(1000, 4999, 1000), spread(5000, 6599, 1)
    assert windows.window_of(tissue + lesion) == (1004, 4997)  # which cuts the lesion
    low, high = windows.choose({0: tissue, 1: lesion})
    assert (low, high) == (1004, 6583)  # all but 1 % of it
    values = windows.describe({0: tissue, 1: lesion}, 2, (low, high))
    assert values.cut[1][1] == pytest.approx(0.01)
    assert not windows.warnings(["tissue", "lesion"], values)
    # What nobody labelled does not count as a class, but as values.
    assert windows.choose({0: tissue, 255: lesion}) == (1004, 4997)


def test_a_window_is_not_widened_where_that_costs_the_others_too_much():
    tissue, implant = spread(1000, 1999, 4000), spread(50_000, 50_999, 1)
    counts = {0: tissue, 1: implant}
    window = windows.choose(counts)
    assert window == (1001, 1999)
    values = windows.describe(counts, 3, window)
    assert values.cut[1] == [0, 1]
    assert values.cut[2] == [0, 0]  # a class that is nowhere
    (line,) = windows.warnings(["tissue", "implant", "ghost"], values)
    assert line.startswith("warning: 100% of the values of implant lie above the window and become")
    wide = tuple(map(int, line.split("window=")[1].split(" keeps")[0].split(":")))
    assert wide[0] == 1001
    assert 50_990 <= wide[1] < 51_300
    assert "keeps them, and 5 grey levels of 256" in line
    assert not windows.warnings(["a", "b", "c"], windows.describe(counts, 3, wide))
    dark = windows.describe(
        {0: spread(40_000, 41_000, 9), 1: spread(0, 10, 1)}, 2, (40_000, 41_000)
    )
    assert (
        "100% of the values of b lie below the window and become 0"
        in windows.warnings("ab", dark)[0]
    )


def test_256_values_are_never_too_many():
    counts = {0: spread(300, 300, 10_000), 1: spread(301, 500, 1)}
    low, high = windows.choose(counts)
    assert low <= 300
    assert high >= 498


def test_histograms_by_class_before_and_after():
    image = np.array([[[0], [1000], [2000]], [[3000], [4000], [9]]], np.uint16)
    label = np.array([[0, 0, 1], [1, 1, 255]], np.uint8)
    counts = windows.total([windows.by_class(image, label), {}, windows.by_class(image, label)])
    assert sorted(counts) == [0, 1, 255]
    assert counts[0][[0, 1000]].tolist() == [2, 2]
    values = windows.describe(counts, 2, (1000, 3000))
    before, after = np.array(values.before), np.array(values.after)
    np.testing.assert_allclose(before.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-6)
    assert after[0, 0] == 1  # both values of class 0 became 0
    np.testing.assert_allclose(after[1, [128, 255]], [1 / 3, 2 / 3], atol=1e-6)
    np.testing.assert_allclose(values.cut, [[0.5, 0], [0, 1 / 3]], atol=1e-6)
    assert windows.from_json(values._asdict()) == values


def test_a_set_keeps_the_histograms_of_its_classes(tmp_path, capsys):
    source = tmp_path / "mine"
    fabricate.write_folder(source)
    for path in (source / "images").rglob("*.png"):
        label = fabricate.values("abcd".index(path.stem), 3)
        deep = 1000 + fabricate.image("abcd".index(path.stem)).astype(np.uint16)
        deep[label == 2] += 20_000  # a third of the pixels: never cut
        path.write_bytes(fabricate.encode(deep))
    dataset = data.load("folder", source, tmp_path / "prepared")
    low, high = dataset.info.window
    assert (low, high) == dataset.values.window
    assert low < 1010
    assert 21_240 < high <= 21_255
    after = np.array(dataset.values.after)
    assert after[0, 10:].sum() == after[2, :240].sum() == 0
    assert "warning" not in capsys.readouterr().out
    # A window of one's own may cut a class, and is told so.
    data.load("folder", source, tmp_path / "prepared", window="1000:1255")
    out = capsys.readouterr().out
    assert "warning: 100% of the values of class_2 lie above the window and become 255" in out
    assert data.load("folder", source, tmp_path / "prepared", window="image").values is None
