"""``stats``: its counts are those of the labels, and what it writes is what training reads."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest

from dropclass_jax import data
from dropclass_jax.data import windows
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.data_tools import stats
from dropclass_jax.errors import UserError
from dropclass_jax.losses import class_weights
from dropclass_jax.reporting import dataset_stats

INFO = DatasetInfo("toy", ("sky", "road", "sign", "ghost"), ((0, 0, 0),) * 4)


class Split:
    """Three images of 10 x 10 by their counts alone."""

    class_pixels = np.array([[60, 39, 1, 0], [90, 9, 0, 0], [0, 80, 0, 0]], np.int32)
    shapes = np.full((3, 2), 10)

    def __len__(self) -> int:
        return 3


TOY = data.Dataset(INFO, {"train": Split()}, {}, "abc")


def test_counts_shares_groups_and_weights():
    content = stats.collect(TOY, "train")
    assert (content["dataset"], content["fingerprint"], content["split"]) == ("toy", "abc", "train")
    assert (content["images"], content["pixels"], content["labelled_pixels"]) == (3, 300, 279)
    classes = content["classes"]
    assert [about["name"] for about in classes] == list(INFO.classes)
    assert [about["pixels"] for about in classes] == [150, 128, 1, 0]
    assert [about["images"] for about in classes] == [2, 3, 1, 0]
    assert [about["image_share"] for about in classes] == pytest.approx([2 / 3, 1, 1 / 3, 0])
    assert [about["share"] for about in classes] == pytest.approx(
        [150 / 279, 128 / 279, 1 / 279, 0]
    )
    assert [about["group"] for about in classes] == ["head", "head", "tail", "absent"]
    for name, rule in class_weights.RULES.items():
        expected = rule(Split.class_pixels)
        assert [about["weights"][name] for about in classes] == expected.tolist()
    with_beta = stats.collect(TOY, "train", beta=0.9)["classes"]
    expected = class_weights.effective_number(Split.class_pixels, 0.9)
    assert [about["weights"]["effective_number"] for about in with_beta] == expected.tolist()


def test_the_table_has_the_commonest_class_first():
    lines = dataset_stats.table(stats.collect(TOY, "train")).splitlines()
    assert lines[0] == (
        "toy, train: 3 images, 0.0 million labelled pixels (7.0% of all are ignored)"
    )
    assert [line.split()[0] for line in lines[4:8]] == ["sky", "road", "sign", "ghost"]
    assert lines[6].split()[1:4] == ["0.358%", "33.3%", "tail"]
    assert "inverse 150" in lines[-1]


def test_the_chart_says_what_it_shows():
    figure = dataset_stats.chart(stats.collect(TOY, "train"))
    pixels, images, weights = figure.axes
    assert [text.get_text() for text in pixels.get_yticklabels()] == list(INFO.classes)
    assert [text.get_text() for text in pixels.texts] == ["53.8%", "45.9%", "0.358%", "absent"]
    assert [bar.get_width() for bar in images.patches] == pytest.approx([2 / 3, 1, 1 / 3, 0])
    assert len(weights.lines) == len(class_weights.RULES)
    assert figure.get_suptitle().startswith("1 of the 4 classes of toy hold under 1%")


def test_it_writes_what_it_says(tmp_path, capsys):
    code = stats.main(lambda: TOY, ["--out", str(tmp_path / "a" / "b"), "--rule", "inverse"])
    assert code == 0
    out = tmp_path / "a" / "b"
    assert json.loads((out / "stats.json").read_text()) == stats.collect(TOY, "train")
    np.testing.assert_allclose(
        class_weights.read(out / "class_weights.json", INFO.classes),
        class_weights.inverse(Split.class_pixels),
        rtol=1e-5,
    )
    assert cv2.imread(str(out / "stats.png")).shape[1] == 1040
    assert f"--config.loss.class_weights={out}/class_weights.json" in capsys.readouterr().out


def test_counts_are_those_of_the_labels(tmp_path):
    dataset = data.load(
        "streets", prepared_dir=tmp_path, train=3, val=1, val_out=1, height=32, width=64
    )
    source = dataset.splits["train"]
    for i, example in enumerate(source):
        counted = np.bincount(example["label"][example["label"] != 255], minlength=19)
        np.testing.assert_array_equal(source.class_pixels[i], counted)
    content = stats.collect(dataset, "train")
    pixels = [about["pixels"] for about in content["classes"]]
    assert pixels == dataset.class_pixels["train"].tolist()


def deep(window: tuple[int, int]) -> data.Dataset:
    """TOY of 16 bits: each class a thousand above the one before, but for the last, far above."""
    counts = {}
    for k, start in enumerate((0, 1000, 50_000)):
        counts[k] = np.zeros(65536, np.int64)
        counts[k][start : start + 1000] = 1
    return dataclasses.replace(TOY, values=windows.describe(counts, 4, window))


def test_16_bit_values_are_shown_before_and_after(tmp_path, capsys):
    dataset = deep((0, 1999))
    code = stats.main(lambda: dataset, ["--out", str(tmp_path)])
    assert code == 0
    assert "stats.png, values.png" in capsys.readouterr().out
    content = json.loads((tmp_path / "stats.json").read_text())
    assert content["values"]["cut"][2] == [0, 1]
    assert cv2.imread(str(tmp_path / "values.png")).shape[1] == 1040
    figure = dataset_stats.values_chart(content)
    before, after = figure.axes
    assert [text.get_text() for text in before.get_yticklabels()] == list(INFO.classes)
    assert [line.get_xdata()[0] for line in before.lines] == [0, 1999]
    assert [text.get_text() for text in after.texts] == ["100% cut"]
    assert figure.get_suptitle().replace("\n", " ") == (
        "0 to 1999 become 0 to 255, and more than 5% of the values of sign are cut (toy, train)"
    )
    picture = after.images[0].get_array()  # [K, 256]: sign is all at the end
    assert picture[2].argmax() == 255
    assert np.count_nonzero(picture[2]) == 1
    wide = dataset_stats.values_chart(stats.collect(deep((0, 60_000)), "train"))
    assert "no class loses more than 5% of the values" in wide.get_suptitle().replace("\n", " ")
    assert stats.collect(TOY, "train")["values"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "val"], "toy has no split 'val': train"),
        (["--beta", "1"], "beta 1"),
        (["--rule", "often"], "argument --rule: invalid choice: 'often'.*--help lists"),
        (["--out", "/dev/null/a"], "cannot write to /dev/null/a"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        stats.main(lambda: TOY, arguments)
