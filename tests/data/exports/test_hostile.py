"""Broken and hostile exports: one clear error that names the file, and no traceback ever."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fabricate
import fabricate_exports as fake
import numpy as np
import pytest

from dropclass_jax import data
from dropclass_jax.data_tools import check
from dropclass_jax.errors import UserError


def edited(path: Path, edit) -> None:
    """Rewrite a JSON file."""
    content = json.loads(path.read_text())
    content = edit(content) or content
    path.write_text(json.dumps(content))


COCO = "annotations/instances_train.json"
LABELME = "train/a.json"
TASKS = "project-1-at-2024-05-01.json"
SLY = "train/ann/a.jpg.json"


def first(content: dict, key: str, **more: object) -> None:
    content[key][0].update(more)


# Where, how it is broken, and what the error says besides the name of the file.
BROKEN = {
    "a name that climbs": (
        fake.write_coco, COCO, lambda c: first(c, "images", file_name="../../../etc/passwd"),
        r"image 11 names '\.\./\.\./\.\./etc/passwd', which is not in the folder",
    ),
    "a missing image": (
        fake.write_coco, COCO, lambda c: first(c, "images", file_name="gone.png"), "gone.png"
    ),
    "no name": (fake.write_coco, COCO, lambda c: first(c, "images", file_name=7), "the image 7"),
    "an image twice": (
        fake.write_coco, COCO, lambda c: first(c, "images", file_name="b.png"), "b.png twice"
    ),
    "an id twice": (
        fake.write_coco, COCO,
        lambda c: c["images"].append({**c["images"][0], "file_name": "d.png"}),
        "two images with the id 11",
    ),
    "an unknown image": (
        fake.write_coco, COCO, lambda c: first(c, "annotations", image_id=99),
        "objects of image 99, which it does not list",
    ),
    "an unknown category": (
        fake.write_coco, COCO, lambda c: first(c, "annotations", category_id=5),
        r"object 1 is of the class 'category 5', which .* does not list",
    ),
    "two categories of a name": (
        fake.write_coco, COCO, lambda c: first(c, "categories", name="pothole"),
        "two categories are called 'pothole'",
    ),
    "an odd polygon": (
        fake.write_coco, COCO,
        lambda c: first(c, "annotations", segmentation=[[1, 2, 3, 4, 5, 6, 7]]),
        "object 1 .*7 coordinates",
    ),
    "a polygon of words": (
        fake.write_coco, COCO, lambda c: first(c, "annotations", segmentation=["polygon"]),
        "object 1 is not as COCO",
    ),
    "a point at infinity": (
        fake.write_coco, COCO,
        lambda c: first(c, "annotations", segmentation=[[1, 2, 3, 4, 1e99, 6]]),
        "object 1 .*nowhere near",
    ),
    "a run too long": (
        fake.write_coco, COCO,
        lambda c: first(c, "annotations", segmentation={"size": [8, 10], "counts": [0, 10**15]}),
        "its runs do not fill 8x10 pixels",
    ),
    "a mask of another size": (
        fake.write_coco, COCO,
        lambda c: first(c, "annotations", segmentation={"size": [2, 2], "counts": [0, 4]}),
        "its mask is 2x2",
    ),
    "a size that is none": (
        fake.write_coco, COCO, lambda c: first(c, "images", width="wide"), "'wide'"
    ),
    "a size without end": (
        fake.write_coco, COCO, lambda c: first(c, "images", width=10**9, height=10**9),
        "over 1073741824 pixels",
    ),
    "another size": (
        fake.write_coco, COCO, lambda c: c["images"][2].update(width=8, height=10),
        "c.png is 8x10 but its label"
    ),
    "no categories": (
        fake.write_coco, COCO, lambda c: c.update(categories=[{"id": 3}]), "has no 'name'"
    ),
    "no ids": (fake.write_coco, COCO, lambda c: c["images"].append({}), "has no 'id'"),
    "images that are none": (
        fake.write_coco, COCO, lambda c: c["images"].append("a.png"), "not as COCO JSON writes it"
    ),
    "a shape without points": (
        fake.write_labelme, LABELME, lambda c: c["shapes"][0].pop("points"), "has no 'points'"
    ),
    "a shape that is none": (
        fake.write_labelme, LABELME, lambda c: c["shapes"][0].update(shape_type="points"),
        "'points', which has no area",
    ),
    "a circle of three": (
        fake.write_labelme, LABELME,
        lambda c: c["shapes"][0].update(shape_type="circle", points=[[1, 1]] * 3),
        "a circle of 3 points",
    ),
    "a mask that is none": (
        fake.write_labelme, LABELME,
        lambda c: c["shapes"][0].update(shape_type="mask", mask="AAAA"),
        "its mask is no picture",
    ),
    "image data that is none": (
        fake.write_labelme, "train/b.json", lambda c: c.update(imageData="!"),
        "not a readable image"
    ),
    "a label that is none": (
        fake.write_labelme, LABELME, lambda c: c["shapes"][0].update(label=None), "the label None"
    ),
    "shapes that are none": (
        fake.write_labelme, LABELME, lambda c: c["shapes"].append(3), "not as labelme writes it"
    ),
    "a brush stroke cut short": (
        fake.write_label_studio, TASKS,
        lambda c: c[1]["annotations"][0]["result"][0]["value"].update(rle=[0, 0, 1, 64, 57]),
        "task 1 .*cut short",
    ),
    "a turned image": (
        fake.write_label_studio, TASKS,
        lambda c: c[0]["annotations"][0]["result"][0].update(image_rotation=90), "turned by 90",
    ),
    "a task of a missing image": (
        fake.write_label_studio, TASKS, lambda c: c[0]["data"].update(image="/data/gone.jpg"),
        "task 0 names '/data/gone.jpg'",
    ),
    "a task without an image": (
        fake.write_label_studio, TASKS, lambda c: c[0].update(data={"text": "x"}), "it has no image"
    ),
    "an unknown class": (
        fake.write_supervisely, SLY, lambda c: first(c, "objects", classTitle="crak"),
        "of the class 'crak', which .*meta.json does not list",
    ),
    "a kind that is none": (
        fake.write_supervisely, SLY, lambda c: first(c, "objects", geometryType="mesh"), "a 'mesh'"
    ),
    "a bitmap that is none": (
        fake.write_supervisely, SLY,
        lambda c: first(c, "objects", bitmap={"data": "AAAA", "origin": [0, 0]}), "object 1"
    ),
    "no objects": (fake.write_supervisely, SLY, lambda c: c.pop("objects"), "has no 'objects'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(name, root, load, capsys):
    write, path, edit, complaint = BROKEN[name]
    write(root)
    edited(root / path, lambda content: edit(content) and None)
    stem = path if write in (fake.write_coco, fake.write_label_studio) else path.split("/")[-1]
    with pytest.raises(UserError, match=f"(?s){complaint}") as caught:
        load()
    assert str(root) in str(caught.value)
    assert stem.split("/")[-1].split(".")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_broken_may_be_left_out(root, load, tmp_path, capsys):
    fake.write_supervisely(root)
    edited(root / SLY, lambda c: first(c, "objects", classTitle="crak"))
    builder = data.create_builder("folder", root, tmp_path / "prepared")
    assert check.check(builder) == 1
    out = capsys.readouterr().out
    assert "bad: " in out
    assert "crak" in out
    assert [e["id"] for e in load(skip_bad=True).splits["train"]] == ["train/b"]


WHOLE = {
    "not UTF-8": b'{"images": ["caf\xe9"]}',
    "cut": b'{"images": [1, 2',
    "empty": b"",
    "deep": b"[" * 100_000,
    "a number without end": b'{"images": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize(
    ("write", "path"),
    [
        (fake.write_coco, COCO),
        (fake.write_labelme, "train/b.json"),
        (fake.write_label_studio, TASKS),
        (fake.write_supervisely, "meta.json"),
        (fake.write_supervisely, SLY),
    ],
)
def test_files_that_are_no_json(kind, write, path, root, load):
    write(root)
    (root / path).write_bytes(WHOLE[kind])
    with pytest.raises(UserError, match=path) as caught:
        load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "path", "content", "complaint"),
    [
        (fake.write_cvat, "labelmap.txt", b"crack:1,2::\n", "line 1: the colour '1,2'"),
        (fake.write_cvat, "labelmap.txt", b"crack\n", "line 1: 'crack': want name:red"),
        (fake.write_cvat, "labelmap.txt", b"caf\xe9:1,2,3::\n", "is not UTF-8"),
        (fake.write_cvat, "labelmap.txt", b"a:1,2,3::\na:4,5,6::\n", "of the name 'a'"),
        (fake.write_cvat, "labelmap.txt", b"a:1,2,3::\nb:1,2,3::\n", r"value \(1, 2, 3\)"),
        (
            fake.write_cvat, "labelmap.txt", b"background:0,0,0::\ncrack:250,50,83::\n",
            r"colour \(50, 183, 250\).*labelmap.txt lists",
        ),
        (fake.write_cvat, "ImageSets/Segmentation/Train.txt", b"a\nd\n", "in train and in val"),
        (fake.write_cvat, "ImageSets/Segmentation/Train.txt", b"../a\n", "no image to train on"),
        (fake.write_roboflow, "train/_classes.csv", b"Pixel Value, Class\n1\n", "line 2: '1'"),
        (fake.write_roboflow, "train/_classes.csv", b"V, C\n0, a\n0, b\n", "0 stands there twice"),
        (
            fake.write_roboflow, "train/_classes.csv", b"V, C\n0, background\n1, hole\n2, b\n",
            "the value 1 is '(crack|hole)', and '(crack|hole)' in another split",
        ),
        (
            fake.write_roboflow, "train/_classes.csv", b"V, C\n0, background\n1, \xff\n",
            "is not UTF-8",
        ),
        (fake.write_ade20k, "objectInfo150.txt", b"Idx\tName\nx\ty\n", "line 2: want a number"),
    ],
)  # fmt: skip
def test_broken_lists(write, path, content, complaint, root, load):
    write(root)
    (root / path).write_bytes(content)
    with pytest.raises(UserError, match=complaint) as caught:
        load()
    assert str(root) in str(caught.value)


def test_a_value_that_roboflow_does_not_list(root, load):
    fake.write_roboflow(root)
    for split in ("train", "valid", "test"):
        (root / split / "_classes.csv").write_bytes(b"V, C\n0, background\n1, crack\n")
    with pytest.raises(UserError, match=r"b_jpg.rf.2c_mask.png holds the value 2 .*_classes.csv"):
        load()


def test_masks_without_images_and_images_without_masks(root, load):
    fake.write_roboflow(root)
    (root / "train/a_jpg.rf.1b_mask.png").unlink()
    with pytest.raises(UserError, match=r"a_jpg.rf.1b.jpg has no mask .*a_jpg.rf.1b_mask.png"):
        load()
    shutil.rmtree(root)
    fake.write_cvat(root)
    shutil.rmtree(root / "JPEGImages")
    with pytest.raises(UserError, match="has no image in JPEGImages/: export with images"):
        load()


def test_cvats_subsets_without_one_to_train_on(root, load):
    fake.write_cvat(root)
    lists = root / "ImageSets/Segmentation"
    (lists / "Train.txt").rename(lists / "Test.txt")
    with pytest.raises(UserError, match="there are the splits test, val, and none to train on"):
        load()


def test_two_images_of_one_name(root, load):
    fake.write_label_studio(root)
    for folder in ("monday", "tuesday"):
        fabricate.write(root / folder / "8a1b2c3d-a.jpg", fake.image(1, ".jpg"))
    (root / "images/8a1b2c3d-a.jpg").unlink()
    with pytest.raises(UserError, match=r"which may be monday/.* or tuesday/.*: keep one"):
        load()
    shutil.rmtree(root)
    fake.write_labelme(root)
    fake.write_json(root / "train/a.JSON", fake.labelme("a.jpg", fake.CRACK_LABELME))
    fabricate.write(root / "train/a.png", fake.image(0))
    assert len(load().splits["train"]) == 2


def test_an_export_without_images_or_objects(root, load):
    fake.write_coco(root)
    shutil.rmtree(root / "images")
    with pytest.raises(UserError, match=r"COCO annotations, holds no image to train on: .*a.png"):
        load()
    shutil.rmtree(root)
    fabricate.write(root / "notes.txt", b"nothing here")
    with pytest.raises(UserError, match="holds neither images/ and masks/"):
        load()


def test_one_broken_file_of_many_is_a_fault_of_its_own(root, load):
    fake.write_labelme(root)
    (root / "train/a.json").write_bytes(b"{")
    with pytest.raises(UserError, match=r"train/a\.json, line 1, is no JSON"):
        load()
    # Its image is not one without annotation.
    for rule in ("auto", "background"):
        dataset = load(skip_bad=True, unannotated=rule)
        assert [e["id"] for e in dataset.splits["train"]] == ["train/b"]


def test_an_export_of_boxes(root, load):
    fake.write_coco(root)
    boxed = {"segmentation": [], "bbox": [1, 1, 3, 3]}
    for path in root.glob("annotations/*.json"):
        edited(path, lambda c: c.update(annotations=[{**a, **boxed} for a in c["annotations"]]))
    with pytest.raises(UserError, match="has boxes and no masks: export polygons or masks"):
        load()


def test_a_huge_polygon(root, load):
    """A million corners all over the place take seconds, not gigabytes."""
    ring = np.random.default_rng(0).uniform(-1e6, 1e6, 200_000).tolist()
    fake.write_coco(root)
    edited(root / COCO, lambda c: first(c, "annotations", segmentation=[ring]))
    assert len(load().splits["train"]) == 3
