"""What each tool writes besides, older versions of it included."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import fabricate
import fabricate_exports as fake
import numpy as np
import pytest

from dropclass_jax import data
from dropclass_jax.data.exports import coco, label_studio, labelme, supervisely

BLANK = np.zeros((12, 16), np.uint8)


def labels(dataset: data.Dataset) -> dict[str, np.ndarray]:
    return {e["id"]: e["label"] for source in dataset.splits.values() for e in source}


def painted(paint, thing, shape=BLANK.shape) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    paint(label, thing, 1)
    return label


def box(rows: slice, columns: slice, shape=BLANK.shape) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    label[rows, columns] = 1
    return label


# COCO


def test_run_lengths_of_both_kinds():
    mask = np.random.default_rng(0).random((31, 17)) < 0.3
    mask[:, 5:9] = True
    for counts in (fake.runs(mask), fake.compressed(fake.runs(mask))):
        np.testing.assert_array_equal(coco.decode(counts, 31, 17), mask)
    # As pycocotools 2.0.11 encodes a mask of 3 x 4 with the middle columns set.
    np.testing.assert_array_equal(coco.decode("363", 3, 4), np.array([[0, 1, 1, 0]] * 3, bool))
    for broken in ("36", "3631", "363P", [3, 6], [3, -6, 15], "3\x00"):
        with pytest.raises(ValueError, match="run"):
            coco.decode(broken, 3, 4)


def test_polygons_of_one_object_are_together(root, load):
    """COCO's parts add up; where they overlap there is no hole."""
    two = {"segmentation": [fake.rectangle(1, 1, 4, 4), fake.rectangle(3, 3, 4, 4)]}
    content = fake.coco({"a.png": [(3, two)], "b.png": fake.BOTH_COCO})
    fake.write_json(root / "result.json", content)  # Label Studio's, with images/ beside
    for name in "ab":
        fabricate.write(root / f"images/{name}.png", fake.image(0))
    expected = np.maximum(
        box(slice(1, 5), slice(1, 5), fake.SHAPE), box(slice(3, 7), slice(3, 7), fake.SHAPE)
    )
    np.testing.assert_array_equal(labels(load())["images/a"], expected)


def test_each_coco_file_has_ids_of_its_own(root, load):
    """Exported one by one, a category may have another id in each; sizes may be 10.0."""
    train = fake.coco({"a.png": fake.BOTH_COCO})
    val = fake.coco({"b.png": [(10 - c, what) for c, what in fake.BOTH_COCO]})
    val["categories"] = [{"id": 7, "name": "crack"}, {"id": 3, "name": "pothole"}]
    val["images"][0]["width"] = 10.0
    for split, content, name in (("train", train, "a"), ("val", val, "b")):
        fake.write_json(root / f"{split}.json", content)
        fabricate.write(root / f"{name}.png", fake.image(0))
    for label in labels(load()).values():
        np.testing.assert_array_equal(label, fake.BOTH)


def test_images_of_one_name_in_two_splits(root, load):
    """COCO's train2017/ and val2017/: a list means the images of its own split."""
    for split, label in (("train", fake.CRACK_COCO), ("val", fake.BOTH_COCO)):
        content = fake.coco({"a.png": label})
        fake.write_json(root / f"annotations/instances_{split}2017.json", content)
        fabricate.write(root / f"{split}2017/a.png", fake.image(len(split)))
    found = labels(load())
    np.testing.assert_array_equal(found["train2017/a"], fake.CRACK)
    np.testing.assert_array_equal(found["val2017/a"], fake.BOTH)


def test_names_of_another_system(root, load):
    """An accent of one or two characters is the same name; odd bytes become escapes."""
    content = fake.coco({"stra\u00dfe\u0301.png": fake.CRACK_COCO, "b.png": fake.BOTH_COCO})
    fake.write_json(root / "annotations/instances_train.json", content)
    fabricate.write(root / "images/stra\u00df\u00e9.png", fake.image(0))
    fabricate.write(root / "images/b.png", fake.image(1))
    fabricate.write(Path(os.fsdecode(os.fsencode(root) + b"/images/caf\xe9.png")), fake.image(1))
    assert labels(load()).keys() == {"images/stra\u00df\u00e9", "images/b"}


# labelme


@pytest.mark.parametrize(
    ("kind", "points", "rows", "columns"),
    [
        ("rectangle", [[6, 5], [2, 3]], slice(3, 6), slice(2, 7)),
        ("polygon", [[2, 3], [6, 3], [6, 5], [2, 5]], slice(3, 6), slice(2, 7)),
        ("oriented_rectangle", [[2, 3], [6, 3], [6, 5], [2, 5]], slice(3, 6), slice(2, 7)),
        ("line", [[0, 6], [15, 6]], slice(2, 12), slice(0, 16)),
    ],
)
def test_labelmes_shapes(kind, points, rows, columns):
    found = painted(labelme.paint, {"kind": kind, "points": points, "mask": None})
    np.testing.assert_array_equal(found, box(rows, columns))


def test_labelmes_round_shapes_and_masks():
    circle = painted(labelme.paint, {"kind": "circle", "points": [[7, 6], [7, 2]]})
    point = painted(labelme.paint, {"kind": "point", "points": [[7, 6]]})
    for found, radius in ((circle, 4), (point, 5)):
        rows, columns = np.nonzero(found)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (
            6 - radius, 6 + radius, 7 - radius, 7 + radius
        )  # fmt: skip
        assert np.hypot(rows - 6, columns - 7).max() < radius + 0.5
    mask = {"kind": "mask", "points": [[13, -1], [17, 1]], "mask": fake.png(np.ones((3, 5)))}
    np.testing.assert_array_equal(painted(labelme.paint, mask), box(slice(0, 2), slice(13, 16)))


def test_labelmes_own_list_of_classes(root, load):
    fake.write_labelme(root)
    (root / "labels.txt").write_text("__ignore__\n_background_\npothole\ncrack\n")
    path = root / "train/a.json"
    content = json.loads(path.read_text())
    content["shapes"].append(fake.shape("__ignore__", [[0, 7], [9, 7]], "rectangle"))
    path.write_text(json.dumps(content))
    dataset = load()
    assert dataset.info.classes == ("_background_", "pothole", "crack")
    found = labels(dataset)
    np.testing.assert_array_equal(found["train/a"][:7], 2 * fake.CRACK[:7])
    assert (found["train/a"][7] == 255).all()
    np.testing.assert_array_equal(found["train/b"], np.array([0, 2, 1])[fake.BOTH])


def test_labelmes_files_in_a_folder_of_their_own(root, load):
    for number, name in enumerate("ab"):
        fabricate.write(root / f"images/{name}.jpg", fake.image(number, ".jpg"))
        content = fake.labelme(f"../images/{name}.jpg", fake.BOTH_LABELME)
        fake.write_json(root / f"labels/{name}.json", content)
    for label in labels(load()).values():
        np.testing.assert_array_equal(label, fake.BOTH)


def test_labelmes_converted_folder(root, load):
    names = "_background_\ncrack\npothole\n"
    fabricate.write(root / "class_names.txt", names.encode())
    for name, label in (("a", fake.CRACK), ("b", fake.BOTH), ("c", fake.BOTH)):
        fabricate.write(root / f"JPEGImages/{name}.jpg", fake.image(0, ".jpg"))
        palette = fabricate.encode_palette(label, fake.COLORS.tolist())
        fabricate.write(root / f"SegmentationClassPNG/{name}.png", palette)
        fabricate.write(root / f"SegmentationClassVisualization/{name}.jpg", b"")
    dataset = load()
    assert dataset.info.classes == ("_background_", "crack", "pothole")
    np.testing.assert_array_equal(labels(dataset)["a"], fake.CRACK)


# Label Studio


def test_the_forms_of_label_studios_json(root, load):
    """JSON-MIN, and the completions of before version 1.0, which had no size of the image."""
    for number, name in enumerate("abc"):
        fabricate.write(root / f"{name}.png", fake.image(number))
    minimal = [
        {**result["value"], "original_width": 10, "original_height": 8}
        for result in fake.BOTH_REGIONS
    ]
    rest = {"annotator": 1, "annotation_id": 2, "created_at": "2024", "lead_time": 3.5}
    fake.write_json(
        root / "min.json",
        [
            {"image": f"http://host/x/{n}.png?token=1", "id": 1, "tag": minimal, **rest}
            for n in "ab"
        ],
    )
    np.testing.assert_array_equal(labels(load())["a"], fake.BOTH)
    old = [
        {"id": "r", "type": r["type"], "from_name": "tag", "value": r["value"]}
        for r in fake.BOTH_REGIONS
    ]
    tasks = [
        {"id": i, "data": {"image": f"/data/upload/{n}.png"}, "completions": [{"result": old}]}
        for i, n in enumerate("abc")
    ]
    (root / "min.json").unlink()
    fake.write_json(root / "old.json", tasks)
    found = labels(load())
    assert len(found) == 3
    np.testing.assert_array_equal(found["c"], fake.BOTH)


def test_label_studios_images_as_they_were_called_before(root, load):
    fake.write_label_studio(root)
    for path in (root / "images").iterdir():
        path.rename(root / path.name.partition("-")[2])
    assert labels(load()).keys() == set("abcd")


def test_which_annotation_of_a_task_counts(root, load, capsys):
    fake.write_label_studio(root)
    path = root / "project-1-at-2024-05-01.json"
    tasks = json.loads(path.read_text())
    older = {"result": fake.BOTH_REGIONS, "created_at": "2024-04-01", "was_cancelled": False}
    skipped = {"result": [], "created_at": "2025-01-01", "was_cancelled": True}
    tasks[0]["annotations"] += [older, skipped]
    tasks[2]["annotations"] = [skipped]
    tasks[3]["annotations"][0]["result"] = []
    path.write_text(json.dumps(tasks))
    found = labels(load())
    assert found.keys() == {f"images/8a1b2c3d-{n}" for n in "abd"}
    np.testing.assert_array_equal(found["images/8a1b2c3d-a"], fake.CRACK)
    assert not found["images/8a1b2c3d-d"].any()
    out = capsys.readouterr().out
    assert "regions of older annotations of a task, which are left out: 2" in out
    assert "1 of 4 images have no annotation: left out" in out


def test_labels_apart_from_their_tools(root, load):
    """With <Labels> and <Polygon> a region stands there twice, once without its label."""
    fake.write_label_studio(root)
    path = root / "project-1-at-2024-05-01.json"
    tasks = json.loads(path.read_text())
    points = {"points": fake.corners(2, 2, 3, 3)}
    twin = fake.region("polygon", "", points)
    del twin["value"]["polygon"]
    choice = {"type": "choices", "value": {"choices": ["wet"]}, "id": "q"}
    tasks[0]["annotations"][0]["result"] = [twin, fake.region("labels", "crack", points), choice]
    path.write_text(json.dumps(tasks))
    expected = box(slice(2, 5), slice(2, 5), fake.SHAPE)
    np.testing.assert_array_equal(labels(load())["images/8a1b2c3d-a"], expected)


def test_label_studios_rectangles_and_ellipses():
    turned = {"x": 50, "y": 25, "width": 25, "height": 50, "rotation": 90}
    np.testing.assert_array_equal(
        painted(label_studio.paint, turned), box(slice(3, 7), slice(2, 8))
    )
    ellipse = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 25, "rotation": 0}
    rows, columns = np.indices(BLANK.shape) + 0.5
    expected = ((columns - 8) / 4) ** 2 + ((rows - 6) / 3) ** 2 <= 1
    np.testing.assert_array_equal(painted(label_studio.paint, ellipse), expected)


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_brush_strokes(share):
    mask = np.random.default_rng(1).random((37, 23)) < share
    np.testing.assert_array_equal(
        label_studio.decode(fake.brush(mask), 37, 23), 255 * mask.astype(np.uint8)
    )
    # As label_studio_sdk's mask2rle packs a row of 0, 255: runs of four.
    bits = f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "100011" + f"{0:08b}" + "100011"
    bits += f"{255:08b}"
    bits += "0" * (-len(bits) % 8)
    packed = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert label_studio.decode(packed, 1, 2).tolist() == [[0, 255]]
    with pytest.raises(ValueError, match="cut short"):
        label_studio.decode(packed[:-2], 1, 2)
    with pytest.raises(ValueError, match="not of 3x2 pixels"):
        label_studio.decode(packed, 3, 2)


@pytest.mark.parametrize("named", [True, False])
def test_label_studios_png_masks(named, root, load):
    """With a JSON of the tasks, or with images called as their numbers."""
    for number in (1, 2, 3):
        name = "street" if named else "task-"
        fabricate.write(root / f"images/{name}{number}.jpg", fake.image(number, ".jpg"))
        for label, value in (("crack", 1), ("pot-hole", 2)):
            mask = 255 * (value == fake.BOTH).astype(np.uint8)
            stem = f"task-{number}-annotation-{10 + number}-by-1-tag-{label}-0"
            fabricate.write(root / f"{stem}.png", fabricate.encode(mask))
    stale = fabricate.encode(np.full(fake.SHAPE, 255, np.uint8))
    fabricate.write(root / "task-1-annotation-4-by-1-tag-crack-0.png", stale)
    if named:
        tasks = [{"id": n, "data": {"image": f"/data/upload/street{n}.jpg"}} for n in (1, 2, 3)]
        fake.write_json(root / "tasks.json", tasks)
    dataset = load()
    assert dataset.info.classes == ("background", "crack", "pot-hole")
    found = labels(dataset)
    assert len(found) == 3
    for label in found.values():
        np.testing.assert_array_equal(label, fake.BOTH)


# Supervisely


def test_superviselys_shapes():
    hole = {"exterior": [[1, 1], [9, 1], [9, 9], [1, 9]], "interior": [[[3, 3], [6, 3], [6, 6]]]}
    found = painted(supervisely.paint, {"kind": "polygon", "points": hole})
    expected = box(slice(1, 10), slice(1, 10))
    for row in range(3, 7):
        expected[row, row:7] = 0
    np.testing.assert_array_equal(found, expected)
    # In fractions of a pixel, as newer exports have it: 16 is the far edge.
    points = {"exterior": [[1.4, 1.9], [16, 1.9], [16, 3.1], [1.4, 3.1]], "interior": []}
    found = painted(supervisely.paint, {"kind": "polygon", "points": points})
    np.testing.assert_array_equal(found, box(slice(1, 4), slice(1, 16)))
    points = {"exterior": [[1.74, 1.55], [3.76, 4.63]], "interior": []}
    found = painted(supervisely.paint, {"kind": "rectangle", "points": points})
    np.testing.assert_array_equal(found, box(slice(1, 5), slice(2, 4)))
    raw = base64.b64encode(fabricate.encode(np.ones((2, 3), np.uint8))).decode()
    found = painted(
        supervisely.paint, {"kind": "bitmap", "bitmap": {"data": raw, "origin": [-1, 11]}}
    )
    np.testing.assert_array_equal(found, box(slice(11, 12), slice(0, 2)))


def test_superviselys_sdk_bitmap():
    """The example of the SDK's own documentation: a ring of 3 x 3."""
    data = (
        "eJzrDPBz5+WS4mJgYOD19HAJAtLMIMwIInOeqf8BUmwBPiGuQPr///9Lb86/C2QxlgT5BTM4PLuRBuTwebo4hlTMSa44sKHhI"
        "SMDuxpTYrr03F6gDIOnq5/LOqeEJgDM5ht6"
    )
    found = painted(
        supervisely.paint, {"kind": "bitmap", "bitmap": {"data": data, "origin": [1, 1]}}
    )
    expected = box(slice(1, 4), slice(1, 4))
    expected[2, 2] = 0
    np.testing.assert_array_equal(found, expected)


def test_superviselys_datasets_and_tags(root, load, capsys):
    """Datasets of other names are one set; tags split it. Points have no area."""
    fake.write_supervisely(root)
    (root / "train").rename(root / "monday")
    (root / "val").rename(root / "tuesday")
    annotation = json.loads((root / "monday/ann/a.jpg.json").read_text())
    point = fake.sly_object("crack", "point", points={"exterior": [[1, 1]], "interior": []})
    annotation["objects"].append(point)
    fake.write_json(root / "monday/ann/a.jpg.json", annotation)
    dataset = load()
    assert len(dataset.splits["train"]) == 2
    out = capsys.readouterr().out
    assert "objects of the kind point, which has no area, left out: 1" in out
    assert "there is no val: 1 of 3" in out
    tags = {"monday/ann/a.jpg": "train", "monday/ann/b": "VAL", "tuesday/ann/c.jpg": "train"}
    for path, tag in tags.items():
        content = json.loads((root / f"{path}.json").read_text())
        content["tags"] = [{"name": "wet"}, {"name": tag}]
        fake.write_json(root / f"{path}.json", content)
    dataset = load()
    assert [e["id"] for e in dataset.splits["train"]] == ["monday/a", "tuesday/c"]
    assert [e["id"] for e in dataset.splits["val"]] == ["monday/b"]


# Masks


def test_cvats_grey_masks_and_its_default_list(root, load):
    fake.write_cvat(root)
    for path in root.glob("ImageSets/Segmentation/*.txt"):
        path.unlink()
    fabricate.write(root / "ImageSets/Segmentation/default.txt", b"a\nstreet/b\nc\nc\nd\n")
    drawn = {"a": fake.CRACK, "street/b": fake.BOTH, "c": fake.CRACK, "d": fake.BOTH}
    for name, label in drawn.items():
        fabricate.write(root / f"SegmentationClass/{name}.png", fabricate.encode(label))
    dataset = load()
    assert dataset.info.classes == fake.CLASSES
    assert dataset.info.colors == tuple(map(tuple, fake.COLORS.tolist()))
    assert [len(source) for source in dataset.splits.values()] == [3, 1]
    np.testing.assert_array_equal(labels(dataset)["street/b"], fake.BOTH)


def test_ade20k_without_its_list(root, load):
    fake.write_ade20k(root)
    (root / "objectInfo150.txt").unlink()
    before = load()
    assert before.info.classes == ("class_0", "class_1")
    assert load().fingerprint == before.fingerprint  # now by the classes.yaml that was made
    found = labels(before)["ADE_train_1"]
    np.testing.assert_array_equal(found, np.array([255, 0], np.uint8)[fake.CRACK])
