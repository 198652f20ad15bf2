"""What becomes of overlaps, of what nobody labelled, of classes, and of splits."""

from __future__ import annotations

import shutil
import zipfile

import fabricate
import fabricate_exports as fake
import numpy as np
import pytest

from dropclass_jax import data
from dropclass_jax.errors import UserError

BACK, CRACK, HOLE = 0, 1, 2


def labels(dataset: data.Dataset) -> dict[str, np.ndarray]:
    return {e["id"]: e["label"] for source in dataset.splits.values() for e in source}


ALL = {w.__name__: w for w in fake.EXPORTS.values()}
WITH_BACKGROUND = [name for name in ALL if name not in ("write_voc", "write_ade20k")]


@pytest.mark.parametrize("name", WITH_BACKGROUND)
def test_pixels_without_an_object_are_ignored_on_request(name, root, load, capsys):
    written = ALL[name](root)
    before = load()
    after = load(unlabelled="ignore", unannotated="skip")
    assert after.fingerprint != before.fingerprint
    assert after.info.classes == ("crack", "pothole")
    assert after.info.colors == before.info.colors[1:]
    expected = {n: v for named in written.labels.values() for n, v in named.items()}
    found = labels(after)
    for key, label in found.items():
        np.testing.assert_array_equal(label, np.array([255, 0, 1], np.uint8)[expected[key]])
    empty = {key for key, label in expected.items() if not label.any()}
    if name == "write_roboflow":  # it has a mask: somebody has said that nothing is there
        empty = set()
    assert expected.keys() - found.keys() == empty


def test_a_classes_file_orders_the_classes_of_an_export(root, load):
    for name in ("write_cvat", "write_roboflow", "write_coco", "write_labelme"):
        written = ALL[name](root)
        (root / "classes.yaml").write_text(
            "ignore: [crack]\nclasses: [{name: pothole, color: [1, 2, 3]}, background]\n"
            if name != "write_cvat"
            else "ignore: [crack]\nclasses: [pothole, background]\n"
        )
        dataset = load()
        assert dataset.info.classes == ("pothole", "background")
        if name != "write_cvat":
            assert dataset.info.colors[0] == (1, 2, 3)
        expected = {n: v for named in written.labels.values() for n, v in named.items()}
        for key, label in labels(dataset).items():
            np.testing.assert_array_equal(label, np.array([1, 255, 0], np.uint8)[expected[key]])
        shutil.rmtree(root)


def test_a_classes_file_must_say_what_every_class_is(root, load):
    fake.write_coco(root)
    path = root / "classes.yaml"
    path.write_text("classes: [background, crack]\n")
    with pytest.raises(UserError, match=r"does not list 'pothole'.*under ignore"):
        load()
    path.write_text("classes: [background, crack, potole]\n")
    with pytest.raises(UserError, match=r"no class 'potole': it has background, crack, pothole"):
        load()


def test_a_later_object_lies_over_an_earlier(root, load):
    fabricate.write(root / "images/a.png", fake.image(0))
    square, below = [fake.rectangle(2, 2, 4, 4)], [fake.rectangle(0, 0, 5, 5)]
    for order, over in (((3, 7), HOLE), ((7, 3), CRACK)):
        objects = [(order[0], {"segmentation": below}), (order[1], {"segmentation": square})]
        fake.write_json(root / "annotations/train.json", fake.coco({"a.png": objects}))
        fake.write_json(root / "annotations/val.json", fake.coco({"b.png": objects}))
        fabricate.write(root / "images/b.png", fake.image(1))
        label = labels(load())["images/a"]
        assert (label[2:6, 2:6] == over).all()
        assert (label[:2, :5] == {HOLE: CRACK, CRACK: HOLE}[over]).all()


def coco_of(root, train: dict, val: dict) -> None:
    """A COCO export with the images that it names."""
    for split, named in (("train", train), ("val", val)):
        fake.write_json(root / f"annotations/{split}.json", fake.coco(named))
        for name in named:
            fabricate.write(root / "images" / name, fake.image(ord(name[0])))


def test_crowds_lie_below_and_boxes_are_ignored(root, load, capsys):
    crowd = {"iscrowd": 1, "segmentation": {"size": [8, 10], "counts": [0, 80]}}
    box = {"segmentation": [], "bbox": [0, 0, 3, 8]}
    speck = {"segmentation": [[1, 1, 2, 2]]}
    objects = [
        (7, {"segmentation": [fake.rectangle(1, 1, 1, 1)]}), (3, crowd), (3, box), (3, speck)
    ]  # fmt: skip
    coco_of(root, {"a.png": objects}, {"b.png": fake.BOTH_COCO})
    label = labels(load())["images/a"]
    expected = np.full(fake.SHAPE, CRACK)
    expected[1, 1] = HOLE
    np.testing.assert_array_equal(label, expected)
    out = capsys.readouterr().out
    assert "objects with a box and no mask, the pixels of which are ignored: 1" in out
    assert "objects of fewer than three points, which are left out: 1" in out
    coco_of(root, {"a.png": [(3, box)]}, {"b.png": fake.BOTH_COCO})
    label = labels(load())["images/a"]
    np.testing.assert_array_equal(label, [[255] * 3 + [BACK] * 7] * 8)


def test_images_of_which_nothing_is_said(root, load, capsys):
    """labelme saves no image without a shape: none of the three is known to be empty."""
    fake.write_labelme(root)
    for name in "xyz":
        fabricate.write(root / f"train/{name}.jpg", fake.image(7, ".jpg"))
    fake.write_json(root / "train/x.json", fake.labelme("x.jpg", []))
    dataset = load()
    assert [e["id"] for e in dataset.splits["train"]] == ["train/a", "train/b", "train/x"]
    assert not labels(dataset)["train/x"].any()
    out = capsys.readouterr().out
    assert "1 of 6 images have no object: all background (unannotated=skip changes that)" in out
    assert "2 of 6 images have no annotation: left out (unannotated=background changes" in out
    kept = load(unannotated="background")
    assert len(kept.splits["train"]) == 5
    assert not labels(kept)["train/y"].any()
    assert len(load(unannotated="skip").splits["train"]) == 2
    ignoring = load(unlabelled="ignore", unannotated="background")
    assert (labels(ignoring)["train/y"] == 255).all()


def test_cvat_images_without_a_mask(root, load, capsys):
    fake.write_cvat(root)
    (root / "SegmentationClass/c.png").unlink()
    assert [e["id"] for e in load().splits["train"]] == ["a", "street/b"]
    assert "images without a mask: 1, left out (unannotated=background keeps them)" in (
        capsys.readouterr().out
    )
    dataset = load(unannotated="background")
    assert not labels(dataset)["c"].any()


def test_a_class_that_one_split_lacks_is_said(root, load, capsys):
    coco_of(root, {"a.png": fake.CRACK_COCO}, {"b.png": fake.BOTH_COCO})
    assert load().info.classes == fake.CLASSES
    assert "no image of train holds pothole (images that do: val 1)" in capsys.readouterr().out


def test_test_without_val_draws_val_from_train(root, load):
    fake.write_roboflow(root)
    shutil.rmtree(root / "valid")
    fabricate.write(root / "train/f.jpg", fake.image(5, ".jpg"))
    fabricate.write(root / "train/f_mask.png", fabricate.encode(fake.BOTH))
    dataset = load()
    assert {split: len(source) for split, source in dataset.splits.items()} == {
        "train": 3, "val": 1, "test": 1
    }  # fmt: skip
    assert dataset.class_pixels["train"].min() > 0


def test_images_outside_of_the_splits(root, load, capsys):
    fake.write_supervisely(root)
    (root / "val").rename(root / "tuesday")
    dataset = load()
    assert {split: len(source) for split, source in dataset.splits.items()} == {
        "train": 1, "val": 1
    }  # fmt: skip
    assert "images in no split: 1, left out; the first: " in capsys.readouterr().out
    (root / "train").rename(root / "test")
    (root / "tuesday").rename(root / "val")
    with pytest.raises(UserError, match="there are the splits test, val, and none to train on"):
        load()
    shutil.rmtree(root / "val")
    assert len(load().splits["train"]) == 1  # one folder of any name


def test_a_zip_is_read_as_it_is(root, load, tmp_path):
    fake.write_supervisely(root)
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(root.rglob("*.*")):
            file.write(path, f"4711_roads/{path.relative_to(root)}")
    assert load(archive).fingerprint == load().fingerprint
    fabricate.write_zip(archive, {"images/a.png": b"", "masks/a.png": b""})
    with pytest.raises(UserError, match=r"export\.zip is no export of CVAT, .*: unpack it"):
        load(archive)


def test_options_that_there_are_not(root, load):
    fake.write_coco(root)
    with pytest.raises(UserError, match="unlabelled is one of background, ignore, not 'void'"):
        load(unlabelled="void")
    with pytest.raises(UserError, match="unannotated is one of auto, background, skip, not 'x'"):
        load(unannotated="x")


def test_a_plain_folder_needs_no_rules(root, load):
    fabricate.write_folder(root)
    with pytest.raises(UserError, match=r"are for the exports of annotation tools.*classes\.yaml"):
        load(unlabelled="ignore")
