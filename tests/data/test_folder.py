"""Anybody's folder: its layouts, its classes, and its way to a trained network."""

from __future__ import annotations

import json
import os
import shutil

import fabricate
import numpy as np
import pytest
import yaml
from PIL import Image

from dropclass_jax import data, evaluate, train
from dropclass_jax.data import classes
from dropclass_jax.errors import UserError
from dropclass_jax.experiment.config import load_config


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "mine"
    fabricate.write_folder(folder)
    return folder


@pytest.fixture
def load(source, tmp_path):
    return lambda folder=source, **options: data.load(
        "folder", folder, tmp_path / "prepared", **options
    )


def labels(dataset: data.Dataset, split: str = "train") -> dict[str, np.ndarray]:
    return {example["id"]: example["label"] for example in dataset.splits[split]}


EXPECTED = {
    name: fabricate.values(seed, fabricate.FOLDER_CLASSES)
    for seed, name in enumerate(fabricate.FOLDER_IDS["train"])
}


def check_labels(found: dict[str, np.ndarray]) -> None:
    assert list(found) == list(EXPECTED)
    for name, label in found.items():
        np.testing.assert_array_equal(label, EXPECTED[name])


def test_a_folder_per_split(load, source, capsys):
    dataset = load()
    assert list(dataset.splits) == ["train", "val"]
    check_labels(labels(dataset))
    assert [example["id"] for example in dataset.splits["val"]] == ["d"]
    for seed, example in enumerate(dataset.splits["train"]):
        np.testing.assert_array_equal(example["image"], fabricate.image(seed))
    assert dataset.info.classes == ("class_0", "class_1", "class_2")
    assert dataset.info.window is None
    assert f"made {source}/classes.yaml from 4 index masks: 3 classes" in capsys.readouterr().out


def test_the_other_way_round_is_the_same_set(load, source, tmp_path):
    other = tmp_path / "other"
    for split, name in (("train", "training"), ("val", "Validation")):
        shutil.copytree(source / "images" / split, other / name / "img")
        shutil.copytree(source / "masks" / split, other / name / "labels")
    (other / "docs").mkdir()
    assert load(other).fingerprint == load().fingerprint


def test_without_splits_some_become_val(load, source, tmp_path, capsys):
    flat = tmp_path / "flat"
    for i in range(10):
        fabricate.write(flat / "images" / f"{i}.png", fabricate.encode(fabricate.image(i)))
        fabricate.write(flat / "masks" / f"{i}_mask.png", fabricate.encode(fabricate.values(i, 3)))
    dataset = load(flat)
    train, val = (set(labels(dataset, split)) for split in ("train", "val"))
    assert train | val == {str(i) for i in range(10)}
    assert (len(train), len(val)) == (8, 2)
    assert "there is no val: 2 of 10 training images became it" in capsys.readouterr().out
    other = load(flat, seed=1)
    assert set(labels(other, "val")) != val
    assert other.fingerprint != dataset.fingerprint
    assert len(labels(load(flat, val_share=0.5), "val")) == 5


def test_val_is_drawn_by_class(load, tmp_path, capsys):
    """The rare class is in 2 of 20 images: by chance alone val has it in one draw of three."""
    flat = tmp_path / "flat"
    for i in range(20):
        mask = np.zeros(fabricate.SHAPE, np.uint8)
        mask[:4] = 1
        if i in (3, 11):
            mask[8:10, 8:10] = 2
        if i == 5:
            mask[12:14] = 3
        fabricate.write(flat / "images" / f"{i}.png", fabricate.encode(fabricate.image(i)))
        fabricate.write(flat / "masks" / f"{i}.png", fabricate.encode(mask))
    for seed in range(4):
        dataset = load(flat, seed=seed)
        assert len(dataset.splits["val"]) == 4
        for split in ("train", "val"):
            assert np.count_nonzero(dataset.splits[split].class_pixels[:, 2]) == 1
        assert np.count_nonzero(dataset.splits["train"].class_pixels[:, 3]) == 1
        out = capsys.readouterr().out
        assert "warning: no image of val holds class_3 (images that do: train 1)" in out
    # What masks hold is remembered, and not believed when a mask has changed.
    mask[:] = 0
    mask[0] = 2
    (flat / "masks" / "11.png").write_bytes(fabricate.encode(mask))
    (flat / "masks" / "3.png").write_bytes(fabricate.encode(np.zeros(fabricate.SHAPE, np.uint8)))
    load(flat)
    assert "no image of val holds class_2 (images that do: train 1)" in capsys.readouterr().out


def test_a_split_without_masks_is_left_out_and_said(load, source, capsys):
    shutil.copytree(source / "images" / "val", source / "images" / "test")
    fabricate.write(source / "images" / "train" / "notes.txt", b"taken in May")
    fabricate.write(source / "masks" / "train" / ".DS_Store", b"litter")
    assert list(load().splits) == ["train", "val"]
    out = capsys.readouterr().out
    assert f"{source}/images/test has no masks {source}/masks/test: left out" in out
    assert f"{source}/images/train: left out, as no images: notes.txt" in out
    assert "DS_Store" not in out


def test_pictures_beside_the_folders_of_the_splits_are_said(load, source, capsys):
    for name in ("x", "y"):
        shutil.copy(source / "images/train/a.png", source / f"images/{name}.png")
    assert {split: len(found) for split, found in load().splits.items()} == {"train": 3, "val": 1}
    said = f"{source}/images: left out, as in no split's folder: x.png and 1 more"
    assert said in capsys.readouterr().out


def test_masks_in_two_folders_are_not_chosen_from(load, source):
    (source / "labels/train").mkdir(parents=True)
    (source / "labels/train/a.txt").write_text("0 0.5 0.5 0.1 0.1")  # YOLO's
    check_labels(labels(load()))
    shutil.copy(source / "masks/train/a.png", source / "labels/train/a.png")
    with pytest.raises(UserError, match=r"has masks/ and labels/, both with pictures: rename"):
        load()


def test_what_cannot_be_read_is_not_left_out(load, source, monkeypatch):
    (source / "images/train/a.png").unlink()
    (source / "images/train/a.png").symlink_to("/nowhere/a.png")
    with pytest.raises(UserError, match=r"train/a\.png is a link to a file that is not there"):
        load()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("masks/val"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # who runs the tests may be root
    with pytest.raises(UserError, match=r"masks/val cannot be read: Permission denied"):
        load()


def test_masks_may_be_gifs(load, source):
    for path in sorted((source / "masks").rglob("*.png")):
        label = Image.fromarray(np.asarray(Image.open(path)))
        label.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        label.save(path.with_name(f"{path.stem}_mask.gif"))
        path.unlink()
    check_labels(labels(load()))


def test_options_that_change_nothing_are_said(load, capsys):
    load(window="0:4095", seed=1)
    out = capsys.readouterr().out
    assert "the images have 8 bits: window changes nothing" in out
    assert "there is a val: val_share and seed, of its draw, change nothing" in out


def rewrite_masks(source, encode) -> None:
    """Every mask in another form."""
    for path in (source / "masks").rglob("*.png"):
        number = "abcd".index(path.stem)
        path.write_bytes(encode(fabricate.values(number, fabricate.FOLDER_CLASSES)))


COLORS = ((20, 10, 0), (0, 200, 100), (255, 255, 255))


def test_colour_masks(load, source):
    rewrite_masks(source, lambda v: fabricate.encode(np.array(COLORS, np.uint8)[v]))
    dataset = load()
    # In the order of the colours as numbers, not as the values were.
    assert dataset.info.colors == tuple(sorted(COLORS))
    order = [sorted(COLORS).index(color) for color in COLORS]
    for name, label in labels(dataset).items():
        np.testing.assert_array_equal(label, np.array(order)[EXPECTED[name]])
    # The file that was made is what decides.
    text = yaml.safe_load((source / "classes.yaml").read_text())
    assert text["masks"] == "color"
    text["classes"] = [{"name": f"x{c}", "color": list(c)} for c in COLORS]
    (source / "classes.yaml").write_text(yaml.safe_dump(text))
    again = load()
    assert again.fingerprint != dataset.fingerprint
    check_labels(labels(again))
    text["ignore"] = list(COLORS[2])
    del text["classes"][2]
    (source / "classes.yaml").write_text(yaml.safe_dump(text))
    ignoring = load()
    assert ignoring.info.num_classes == 2
    for name, label in labels(ignoring).items():
        np.testing.assert_array_equal(label, np.where(EXPECTED[name] == 2, 255, EXPECTED[name]))


def test_palette_masks_keep_their_colours(load, source):
    rewrite_masks(source, lambda v: fabricate.encode_palette(v, COLORS))
    dataset = load()
    check_labels(labels(dataset))
    assert dataset.info.colors == COLORS


def test_values_that_are_not_consecutive(load, source):
    stored = np.array([7, 24, 255], np.uint8)
    rewrite_masks(source, lambda v: fabricate.encode(stored[v]))
    dataset = load()
    assert dataset.info.num_classes == 2
    for name, label in labels(dataset).items():
        np.testing.assert_array_equal(label, np.array([0, 1, 255], np.uint8)[EXPECTED[name]])


def test_black_and_white_masks_have_two_classes(load, source):
    """255 is ignored by custom, but where there are only 0 and 255 it is the foreground."""
    rewrite_masks(source, lambda v: fabricate.encode((v > 0).astype(np.uint8) * 255))
    dataset = load()
    assert dataset.info.num_classes == 2
    for name, label in labels(dataset).items():
        np.testing.assert_array_equal(label, EXPECTED[name] > 0)


def test_names_may_change_without_preparing_anew(load, source, capsys):
    before = load()
    path = source / "classes.yaml"
    path.write_text(path.read_text().replace("class_1", "tumör"))
    capsys.readouterr()
    after = load()
    assert after.info.classes == ("class_0", "tumör", "class_2")
    assert after.fingerprint == before.fingerprint
    assert capsys.readouterr().out == ""


def test_names_alone_will_do(load, source, tmp_path):
    (tmp_path / "names.yaml").write_text("classes: [road, car, 3]\n")
    dataset = load(classes=str(tmp_path / "names.yaml"))
    assert dataset.info.classes == ("road", "car", "3")
    check_labels(labels(dataset))
    assert not (source / "classes.yaml").exists()


def test_a_folder_that_cannot_be_written_says_where_classes_may_lie(load, source, monkeypatch):
    def refuse(path, text):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(classes, "write_text", refuse)
    with pytest.raises(UserError, match=r"classes\.yaml .*cannot be written.*options\.classes"):
        load()


def deep_images(source, factor: int = 16, offset: int = 100) -> dict[str, np.ndarray]:
    """Every image as 16 bits; their values by id."""
    found = {}
    for path in (source / "images").rglob("*.png"):
        number = "abcd".index(path.stem)
        found[path.stem] = fabricate.image(number).astype(np.uint16) * factor + offset
        path.write_bytes(fabricate.encode(found[path.stem]))
    return found


def test_16_bit_images_share_one_window(load, source, capsys):
    deep = deep_images(source)
    dataset = load()
    out = capsys.readouterr().out
    low, high = map(int, out.split("16-bit images: ")[1].split(" become")[0].split(".."))
    assert 100 <= low < 200  # noise: a thousandth is a few values of 256 x 16
    assert 4000 < high <= 100 + 255 * 16
    for example in [*dataset.splits["train"], *dataset.splits["val"]]:
        values = deep[example["id"].rpartition("/")[2]]
        exact = np.clip((values.astype(float) - low) / (high - low) * 255, 0, 255)
        assert np.abs(example["image"] - exact).max() <= 0.5
    assert dataset.info.window == (low, high)  # and so when the set is opened again
    assert load().counted_info.window == (low, high)
    fixed = load(window=f"{low}:{high}")
    np.testing.assert_array_equal(
        fixed.splits["train"][0]["image"], dataset.splits["train"][0]["image"]
    )
    full = load(window="full").splits["train"][0]["image"]
    np.testing.assert_array_equal(full, np.round(deep["a"] / 257).astype(np.uint8))


def test_a_window_of_each_image(load, source):
    deep = deep_images(source)
    path = source / "images" / "train" / "b.png"
    path.write_bytes(fabricate.encode(deep["b"] * 10))
    dataset = load(window="image")
    assert dataset.info.window == "image"
    images = {e["id"]: e["image"] for e in dataset.splits["train"]}
    np.testing.assert_array_equal(images["b"], load_alone(deep["b"] * 10))
    np.testing.assert_array_equal(images["a"], load_alone(deep["a"]))


def load_alone(values: np.ndarray) -> np.ndarray:
    low, high = np.quantile(values, [0.001, 0.999], method="inverted_cdf").astype(int)
    return np.floor(np.clip((values - float(low)) / (high - low), 0, 1) * 255 + 0.5)


def test_grey_tiffs_and_photographs_side_by_side(load, source):
    grey = fabricate.image(1)[..., 0]
    (source / "images" / "train" / "b.png").unlink()
    fabricate.write(source / "images" / "train" / "b.TIF", fabricate.encode(grey, ".tiff"))
    dataset = load()
    np.testing.assert_array_equal(dataset.splits["train"][1]["image"], np.dstack([grey] * 3))


def test_a_fourth_channel_is_dropped_and_said(load, source, capsys):
    rgb, band = fabricate.image(0), fabricate.image(1)[..., :1]
    four = fabricate.encode(np.concatenate([rgb, band], axis=2))
    (source / "images" / "train" / "a.png").write_bytes(four)
    np.testing.assert_array_equal(load().splits["train"][0]["image"], rgb)
    assert "the images have a fourth channel (alpha, or a band): it is dropped" in (
        capsys.readouterr().out
    )


def test_it_just_works(source, tmp_path, named_tiny, capsys):
    """From a folder without ``classes.yaml`` to a report, by the config alone."""
    config = load_config("configs/folder.py:tiny")
    config.data.dir = str(source)
    config.data.prepared_dir = str(tmp_path / "prepared")
    config.augment.crop = (32, 32)
    config.total_steps = config.log_every = config.checkpoint.every_steps = 2
    workdir = tmp_path / "run"
    assert train.train(config, workdir) == 0
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert [entry["name"] for entry in metrics["classes"]] == ["class_0", "class_1", "class_2"]
    assert metrics["results"][0]["images"] == 1
    # Named afterwards: the same run, with names.
    path = source / "classes.yaml"
    path.write_text(path.read_text().replace("class_2", "sea"))
    content = evaluate.evaluate_run(workdir)
    assert [entry["name"] for entry in content["classes"]] == ["class_0", "class_1", "sea"]
    assert content["results"][0]["confusion"] == metrics["results"][0]["confusion"]
    assert "sea" in (workdir / "report.html").read_text()
    # Another order is another meaning of every output: nothing is scored, nothing overwritten.
    first, *others = yaml.safe_load(path.read_text())["classes"]
    path.write_text(yaml.safe_dump({"classes": [*others, first]}))
    with pytest.raises(UserError, match=r"trained with 'class_1' as class 1, in the data it is cl"):
        evaluate.evaluate_run(workdir)
    assert json.loads((workdir / "metrics.json").read_text()) == content
