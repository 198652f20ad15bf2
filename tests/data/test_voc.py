"""Pascal VOC from its archives and from its folders, with and without SBD."""

from __future__ import annotations

import fabricate
import numpy as np
import pytest

from dropclass_jax import data
from dropclass_jax.data.info import VOC
from dropclass_jax.errors import UserError

ARCHIVE = "VOCtrainval_11-May-2012.tar"


@pytest.fixture
def archives(tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    fabricate.write_tar(folder / ARCHIVE, fabricate.voc_members())
    return folder


@pytest.fixture
def load(archives, tmp_path):
    return lambda source=archives, **options: data.load(
        "voc", source, tmp_path / "prepared", **options
    )


def ids(dataset: data.Dataset, split: str) -> list[str]:
    return [example["id"] for example in dataset.splits[split]]


def test_a_tar_gives_images_and_palette_indices(load, archives, capsys):
    dataset = load()
    assert list(dataset.splits) == ["train", "val"]
    members = fabricate.voc_members()
    for split, examples in dataset.splits.items():
        assert ids(dataset, split) == fabricate.VOC_IDS[split]
        for record, example in zip(examples.records, examples, strict=True):
            name = example["id"]
            assert record["image"] == members[f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg"]
            np.testing.assert_array_equal(example["label"], fabricate.voc_label(name))
            assert example["image"].shape[:2] == fabricate.VOC_SHAPES[name]
    assert "voc: train has 2 images, the official release 1464" in capsys.readouterr().out


def test_folders_are_the_same_set_as_the_tar(load, tmp_path):
    fabricate.unpack(fabricate.voc_members(), tmp_path / "unpacked")
    assert load(tmp_path / "unpacked").fingerprint == load().fingerprint
    # So is the inner folder, given as it is.
    inner = tmp_path / "unpacked" / "VOCdevkit" / "VOC2012"
    assert load(inner).fingerprint == load().fingerprint


def check_augmented(dataset: data.Dataset) -> None:
    """``train`` with its own labels, then what SBD adds, and nothing of ``val``."""
    added = ["2008_000002", "2008_000003"]
    assert ids(dataset, "train_aug") == [*fabricate.VOC_IDS["train"], *added]
    for example in dataset.splits["train_aug"]:
        name = example["id"]
        label = (fabricate.sbd_label if name in added else fabricate.voc_label)(name)
        np.testing.assert_array_equal(example["label"], label)


def test_the_benchmark_adds_to_train(load, archives):
    plain = load().fingerprint
    fabricate.write_tar(archives / "benchmark.tgz", fabricate.sbd_members(), "w:gz")
    dataset = load()
    check_augmented(dataset)
    assert dataset.fingerprint != plain
    assert ids(dataset.trained_on("train_aug"), "train") == ids(dataset, "train_aug")


def test_the_folder_of_pngs_adds_to_train(load, archives, capsys):
    fabricate.unpack(fabricate.aug_members(), archives / "SegmentationClassAug")
    check_augmented(load())
    assert "train_aug has 4 images, the official release 10582" in capsys.readouterr().out


def test_another_benchmark_is_another_set(load, archives):
    members = fabricate.sbd_members()
    fabricate.write_tar(archives / "benchmark.tgz", members, "w:gz")
    before = load().fingerprint
    del members["benchmark_RELEASE/dataset/cls/2008_000003.mat"]
    fabricate.write_tar(archives / "benchmark.tgz", members, "w:gz")
    after = load()
    assert after.fingerprint != before
    assert ids(after, "train_aug") == [*fabricate.VOC_IDS["train"], "2008_000002"]


def test_a_benchmark_label_without_an_image_is_named(load, archives):
    members = fabricate.voc_members()
    del members["VOCdevkit/VOC2012/JPEGImages/2008_000003.jpg"]
    fabricate.write_tar(archives / ARCHIVE, members)
    fabricate.write_tar(archives / "benchmark.tgz", fabricate.sbd_members(), "w:gz")
    with pytest.raises(UserError, match=r"image VOC2012/JPEGImages/2008_000003\.jpg is missing"):
        load()
    assert ids(load(skip_bad=True), "train_aug") == [*fabricate.VOC_IDS["train"], "2008_000002"]


def test_colours_and_names_are_those_of_the_development_kit():
    colors = dict(zip(VOC.classes, VOC.colors, strict=True))
    assert VOC.num_classes == 21
    assert colors["background"] == (0, 0, 0)
    assert colors["aeroplane"] == (128, 0, 0)
    assert colors["person"] == (192, 128, 128)
    assert colors["tv monitor"] == (0, 64, 128)
