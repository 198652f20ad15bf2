"""``show``: the samples are those of training, and the sheet says what they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dropclass_jax import data
from dropclass_jax.data import pipeline, transforms
from dropclass_jax.data.augment import Augmentation
from dropclass_jax.data_tools import show
from dropclass_jax.errors import UserError
from dropclass_jax.reporting import pictures

CLASSES = [{"name": "sky", "color": (0, 0, 255)}, {"name": "road", "color": (255, 0, 0)}]


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    sizes = {"train": 6, "val": 1, "val_out": 1, "height": 32, "width": 64}
    return data.load("streets", prepared_dir=tmp_path_factory.mktemp("streets"), **sizes)


def sample(name: str) -> dict:
    label = np.zeros((10, 20), np.uint8)
    label[5:] = 1
    label[9:] = 255
    return {"image": np.full((10, 20, 3), 100, np.uint8), "label": label, "id": name}


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_a_sheet_has_a_tile_a_sample_and_a_legend_of_what_is_there(count):
    names = [f"folder/{'x' * 80}{i}" for i in range(count)]
    figure = pictures.contact_sheet([sample(name) for name in names], CLASSES, "Some samples")
    tiles = [axes for axes in figure.axes if axes.images]
    assert len(tiles) == count
    for axes, name in zip(tiles, names, strict=True):
        assert name.endswith(axes.get_title(loc="left").lstrip("…"))
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["sky", "road", "ignored (no label)"]
    (picture,) = tiles[0].images
    shown = np.asarray(picture.get_array())
    assert shown.shape == (21, 20, 3)
    np.testing.assert_array_equal(shown[:10], 100)  # the image as it is
    np.testing.assert_array_equal(shown[11:16], np.broadcast_to((40, 40, 193), (5, 20, 3)))
    np.testing.assert_array_equal(shown[16:20], np.broadcast_to((193, 40, 40), (4, 20, 3)))
    assert set(np.unique(shown[20])) == {0, 110}  # striped where nothing is labelled


def test_the_samples_are_those_of_training(streets):
    augmentation = Augmentation((16, 24), transforms.scales((0.5, 2.0), 0.5))
    samples = show.first_samples(streets, "train", 4, augmentation, seed=5)
    batch = next(
        pipeline.train_iterator(
            streets.splits["train"], seed=5, batch_size=4, augmentation=augmentation
        )
    )
    for i, got in enumerate(samples):
        np.testing.assert_array_equal(got["image"], batch["image"][i])
        np.testing.assert_array_equal(got["label"], batch["label"][i])
        assert got["id"] == batch["id"][i]


def test_it_writes_a_png(streets, tmp_path, capsys):
    out = tmp_path / "new" / "sheet.png"
    options = "--count 3 --crop 16 32 --jitter --rare-crop 0.5 --cat-max-ratio 0.9"
    arguments = [*options.split(), "--class-uniform", "0.5", "--out", str(out)]
    assert show.main(lambda: streets, arguments) == 0
    assert cv2.imread(str(out)).shape[1] == 1560
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count 0: want 1 to 100"),
        (["--split", "dev"], "streets has no split 'dev': train, val, val_out"),
        (["--crop", "0", "9"], r"crop \(0, 9\)"),
        (["--scale", "2", "1"], "scale_range"),
        (["--rare-crop", "2"], "rare_crop 2"),
        (["--class-uniform", "2"], "class_uniform 2"),
        (["--out", "/dev/null/a.png"], "cannot write /dev/null/a.png"),
    ],
)
def test_mistakes_are_told_in_one_line(streets, arguments, message):
    with pytest.raises(UserError, match=message):
        show.main(lambda: streets, arguments)
