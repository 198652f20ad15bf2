"""Which split an image is of, which image a label is of, and whose classes count."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import fabricate
import fabricate_exports as fake
import numpy as np
import pytest

from dropclass_jax import data
from dropclass_jax.errors import UserError


def ids(dataset: data.Dataset) -> dict[str, list[str]]:
    return {split: [e["id"] for e in source] for split, source in dataset.splits.items()}


def write_lists(root, **lists: str) -> None:
    """Pascal VOC's folder; each list has a letter for each of its images."""
    for name, letters in lists.items():
        text = "".join(f"{letter}\n" for letter in letters)
        fabricate.write(root / f"ImageSets/Segmentation/{name}.txt", text.encode())
        for letter in letters:
            fabricate.write(root / f"JPEGImages/{letter}.jpg", fake.image(ord(letter), ".jpg"))
            mask = fabricate.encode(np.roll(fake.BOTH, ord(letter), axis=1))
            fabricate.write(root / f"SegmentationClass/{letter}.png", mask)


def write_coco(root, lists: dict[str, str], folder: str = "images") -> None:
    """A list a file; each has a letter for each of its images."""
    for path, letters in lists.items():
        fake.write_json(root / path, fake.coco({f"{n}.png": fake.BOTH_COCO for n in letters}))
        for letter in letters:
            fabricate.write(root / folder / f"{letter}.png", fake.image(ord(letter)))


def write_labelme(root, *paths: str) -> None:
    for path in paths:
        fabricate.write(root / f"{path}.jpg", fake.image(sum(map(ord, path)), ".jpg"))
        name = path.rpartition("/")[2]
        fake.write_json(root / f"{path}.json", fake.labelme(f"{name}.jpg", fake.BOTH_LABELME))


@pytest.mark.parametrize("named", ["trainval", "default"])
def test_what_is_in_no_split_is_trained_on_and_the_split_stays(root, load, named, capsys):
    write_lists(root, **{named: "abcd", "val": "ef"})
    assert ids(load()) == {"train": list("abcd"), "val": list("ef")}
    said = "no split is train: the 4 images outside of val are trained on"
    assert said in capsys.readouterr().out


def test_trainval_without_val_is_train(root, load):
    write_lists(root, trainval="abcdef", val="ef")
    assert ids(load()) == {"train": list("abcd"), "val": list("ef")}


def test_folders_beside_that_of_val_are_trained_on(root, load):
    write_labelme(root, "a", "b", "val/c")
    assert ids(load()) == {"train": ["a", "b"], "val": ["val/c"]}


def test_one_split_alone_is_trained_on_and_said(root, load, capsys):
    write_labelme(root, "x", "test/a", "test/b", "test/c", "test/d")
    for suffix in (".jpg", ".json"):
        (root / f"x{suffix}").unlink()
    assert len(load().splits["train"]) == 3
    assert "all images are in the split test: they are trained on" in capsys.readouterr().out


def test_a_project_that_is_called_as_a_split(root, load):
    write_labelme(root, "test/train/a", "test/train/b", "test/val/c")
    assert ids(load()) == {"train": ["train/a", "train/b"], "val": ["val/c"]}


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("annotations/train_coco.json", "annotations/val_coco.json"),
        ("train_annotations.json", "val_annotations.json"),
        ("annotations/train.json", "annotations/instances_val.json"),
        ("annotations/instances_train.json", "annotations/val.json"),
        ("annotations/instances_default.json", "annotations/instances_val.json"),
    ],
)
def test_coco_lists_say_their_split_somewhere(root, load, train, val):
    write_coco(root, {train: "abc", val: "de"})
    assert ids(load()) == {
        "train": ["images/a", "images/b", "images/c"], "val": ["images/d", "images/e"]
    }  # fmt: skip


def test_coco_lists_of_something_else_are_left_out_and_said(root, load, capsys):
    write_coco(root, {"annotations/instances_train.json": "abc"})
    write_coco(root, {"annotations/instances_val.json": "de"})
    content = fake.coco({"a.png": fake.CRACK_COCO})
    fake.write_json(root / "annotations/stuff_train.json", content)
    content["categories"] = [{"id": 3, "name": "person", "keypoints": ["nose"]}]
    fake.write_json(root / "annotations/person_keypoints_test.json", content)
    dataset = load()
    assert dataset.info.classes == fake.CLASSES
    assert {split: len(source) for split, source in dataset.splits.items()} == {
        "train": 3, "val": 2
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "stuff_train.json: left out beside" in out
    assert "person_keypoints_test.json: left out beside" in out


def test_labelme_beside_no_image_has_the_split_of_its_image(root, load):
    for split, letters in (("train", "ab"), ("val", "c")):
        for n in letters:
            fabricate.write(root / f"images/{split}/{n}.jpg", fake.image(ord(n), ".jpg"))
            content = fake.labelme(f"../images/{split}/{n}.jpg", fake.BOTH_LABELME)
            fake.write_json(root / f"json/{n}.json", content)
    assert ids(load()) == {"train": ["images/train/a", "images/train/b"], "val": ["images/val/c"]}


def test_a_label_is_not_given_to_an_image_of_another_split(root, load):
    """Frames are numbered anew in every folder: the same name is another picture."""
    for split, letters in (("train", "abc"), ("val", "abd")):
        named = {f"{split}/{n}.png": fake.BOTH_COCO for n in letters}
        fake.write_json(root / f"annotations/instances_{split}.json", fake.coco(named))
        for n in letters:
            fabricate.write(root / split / f"{n}.png", fake.image(ord(n) + len(split)))
    assert [len(source) for source in load().splits.values()] == [3, 3]
    (root / "train/b.png").unlink()
    with pytest.raises(UserError, match=r"names 'train/b\.png', which is not in the folder"):
        load()


def test_images_of_a_split_of_ones_own_may_lie_in_the_folder_of_another(root, load):
    """Whoever makes a val of COCO's train2017 leaves the images where they are."""
    lists = {"annotations/instances_train.json": "abc", "annotations/instances_val.json": "de"}
    write_coco(root, lists, "train2017")
    assert [len(source) for source in load().splits.values()] == [3, 2]


def test_labelme_is_not_given_the_image_of_another_folder(root, load):
    write_labelme(root, "day1/a", "day1/b", "day1/c")
    (root / "day2").mkdir()
    (root / "day1/b.jpg").rename(root / "day2/b.jpg")
    with pytest.raises(UserError, match=r"b\.json names 'b\.jpg', which is not beside it: add it"):
        load()


def test_masks_beside_a_list_are_not_taken_for_its_images(root, load):
    write_coco(root, {"annotations/instances.json": "abc"})
    for n in "abc":
        fabricate.write(root / f"annotations/{n}.png", fabricate.encode(fake.BOTH))
    with pytest.raises(
        UserError, match=r"'a\.png', which may be annotations/a\.png or images/a\.png: keep one"
    ):
        load()


@pytest.mark.parametrize("tool", ["coco", "label_studio"])
def test_images_that_no_list_names_are_counted(root, load, capsys, tool):
    if tool == "coco":
        write_coco(root, {"annotations/instances.json": "abcd"})
    else:
        fake.write_label_studio(root)
    for seed in (7, 8):
        fabricate.write(root / f"images/x{seed}.png", fake.image(seed))
    assert sum(map(len, load().splits.values())) == 4
    assert "2 of 6 images have no annotation: left out (unannotated=background changes" in (
        capsys.readouterr().out
    )
    dataset = load(unannotated="background")
    empty = [e["id"] for s in dataset.splits.values() for e in s if not e["label"].any()]
    assert sorted(empty) == ["images/x7", "images/x8"]


def label_studio(root, data: dict, *tags: str) -> None:
    """Two tasks of the same data, but for the number in the names; a region for each tag."""
    tasks = []
    for number in range(2):
        named = {key: value.format(number) for key, value in data.items()}
        result = [{**fake.CRACK_REGIONS[0], "to_name": tag} for tag in tags]
        tasks.append({**fake.task(number, "", result), "data": named})
        for value in named.values():
            fabricate.write(root / "images" / value, fake.image(len(value) + number, ".jpg"))
    fake.write_json(root / "project.json", tasks)


def test_a_label_studio_task_of_several_images(root, load):
    label_studio(root, {"preview": "small{}.jpg", "image": "{}.jpg"}, "image")
    assert {e["id"] for found in load().splits.values() for e in found} == {"images/0", "images/1"}
    label_studio(root, {"left": "l{}.jpg", "right": "r{}.jpg"}, "left", "right")
    with pytest.raises(UserError, match=r"task 0 has several images \(left, right\)"):
        load()


def test_a_key_point_of_label_studio_is_left_out(root, load, capsys):
    fake.write_label_studio(root)
    point = fake.region("keypointlabels", "crack", {"x": 50.0, "y": 50.0, "width": 0.5})
    fabricate.write(root / "images/e.jpg", fake.image(9, ".jpg"))
    tasks = [fake.task(9, "e.jpg", [point, *fake.CRACK_REGIONS])]
    fake.write_json(root / "more.json", tasks)
    found = {e["id"]: e["label"] for source in load().splits.values() for e in source}
    np.testing.assert_array_equal(found["images/e"], fake.CRACK)
    said = "regions without an area or a label, which are left out: 1"
    assert said in capsys.readouterr().out


def test_a_list_of_classes_beside_a_wrapped_export(root, load):
    write_lists(root / "VOC", train="abc", val="d")
    assert load().info.classes == ("class_0", "class_1", "class_2")
    assert (root / "classes.yaml").exists()  # made for the user to name them
    (root / "classes.yaml").write_text("classes: [ground, crack, hole]\n")
    assert load().info.classes == ("ground", "crack", "hole")
    (root / "classes.yaml").rename(root / "VOC/classes.yaml")
    assert load().info.classes == ("ground", "crack", "hole")
    (root / "classes.yaml").write_text("classes: [a, b, c]\n")
    with pytest.raises(UserError, match=r"export/classes\.yaml and .*/VOC/classes\.yaml: keep one"):
        load()


def test_an_export_may_be_the_current_folder(root, load, monkeypatch):
    fake.write_coco(root)
    monkeypatch.chdir(root)
    assert load(Path(".")).info.classes == fake.CLASSES


def test_a_list_of_classes_in_a_zip_or_beside_it(root, load, tmp_path):
    write_lists(root, train="abc", val="d")
    archive = tmp_path / "export.zip"

    def pack():
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(root.rglob("*.*")):
                file.write(path, f"roads/{path.relative_to(root)}")

    pack()
    with pytest.raises(UserError, match=r"unpack it, or put a classes\.yaml beside it"):
        load(archive)
    (tmp_path / "classes.yaml").write_text("classes: [ground, crack, hole]\n")
    assert load(archive).info.classes == ("ground", "crack", "hole")
    shutil.move(tmp_path / "classes.yaml", root)
    pack()
    assert load(archive).info.classes == ("ground", "crack", "hole")
    (tmp_path / "classes.yaml").write_text("classes: [a, b, c]\n")
    with pytest.raises(UserError, match=r"classes\.yaml and .*zip/.*classes\.yaml: keep one"):
        load(archive)


def test_a_background_that_the_masks_do_not_name_cannot_be_ignored(root, load):
    write_lists(root, train="abc", val="d")
    with pytest.raises(UserError, match=r"unlabelled=ignore ignores: put it under ignore in class"):
        load(unlabelled="ignore")


def test_two_images_of_one_name_are_a_fault(root, load):
    write_lists(root, train="abc", val="d")
    fabricate.write(root / "JPEGImages/a.png", fake.image(3))
    with pytest.raises(UserError, match=r"a\.png and .*a\.jpg have one name: remove one"):
        load()


def test_rules_for_a_format_that_has_none(root, load, capsys):
    fake.write_ade20k(root)
    with pytest.raises(UserError, match="leave unlabelled and unannotated out"):
        load(unlabelled="ignore")
    shutil.rmtree(root)
    fake.write_roboflow(root)
    load(unannotated="skip")
    assert "a mask for every image: unannotated changes nothing" in capsys.readouterr().out
