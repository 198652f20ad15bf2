"""Cityscapes from its archives and from its folders."""

from __future__ import annotations

import fabricate
import numpy as np
import pytest

from dropclass_jax import data
from dropclass_jax.data import cityscapes, codec
from dropclass_jax.data.info import CITYSCAPES, counted_class_list
from dropclass_jax.errors import UserError

# Cityscapes' own table, by names (Cordts et al., CVPR 2016): what is not here is not evaluated.
LABEL_IDS = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole",
    19: "traffic light", 20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky",
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train",
    32: "motorcycle", 33: "bicycle",
}  # fmt: skip
SPLITS = ("train", "val", "test")


def expected_label(ids: np.ndarray) -> np.ndarray:
    label = np.full(ids.shape, 255, np.uint8)
    for label_id, name in LABEL_IDS.items():
        label[ids == label_id] = CITYSCAPES.classes.index(name)
    return label


@pytest.fixture
def archives(tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    fabricate.write_cityscapes(folder)
    return folder


@pytest.fixture
def load(archives, tmp_path):
    return lambda source=archives, **options: data.load(
        "cityscapes", source, tmp_path / "prepared", **options
    )


def test_zips_give_images_train_ids_and_names(load, capsys):
    dataset = load()
    assert list(dataset.splits) == list(SPLITS)
    for split, examples in dataset.splits.items():
        assert [example["id"] for example in examples] == fabricate.CITYSCAPES_IDS[split]
        for seed, example in enumerate(examples):
            np.testing.assert_array_equal(example["image"], fabricate.image(seed))
            ids = fabricate.cityscapes_ids(split, seed)
            np.testing.assert_array_equal(example["label"], expected_label(ids))
    # The file itself is kept, lossless and as small as it was.
    assert dataset.splits["train"].records[0]["image"] == fabricate.encode(fabricate.image(0))
    assert (dataset.class_pixels["train"] > 0).all()
    out = capsys.readouterr().out
    for split, number in {"train": 2975, "val": 500, "test": 1525}.items():
        have = len(fabricate.CITYSCAPES_IDS[split])
        assert f"{split} has {have} images, the official release {number}" in out


def test_folders_are_the_same_set_as_the_zips(load, tmp_path):
    folder = tmp_path / "unpacked"
    fabricate.unpack(fabricate.cityscapes_images(*SPLITS), folder)
    fabricate.unpack(fabricate.cityscapes_labels("gtFine", *SPLITS), folder)
    (folder / "gtFine" / ".DS_Store").write_bytes(b"litter")
    assert load(folder).fingerprint == load().fingerprint


def test_the_test_split_has_nothing_to_score(load, archives):
    """Whether its empty labels were kept or removed, it is ignored, and never in the way."""
    assert not load().class_pixels["test"].any()
    fabricate.write_zip(
        archives / "gtFine_trainvaltest.zip", fabricate.cityscapes_labels("gtFine", "train", "val")
    )
    dataset = load()
    assert (dataset.splits["test"][0]["label"] == 255).all()
    assert not dataset.class_pixels["test"].any()


def test_a_split_without_labels_is_not_scored(load):

    dataset = load()
    dataset.check_split("val")
    with pytest.raises(UserError, match=r"split 'test' of data set cityscapes has no labelled"):
        dataset.check_split("test")


def test_without_test_images_there_is_no_test_split(load, archives):
    fabricate.write_zip(
        archives / "leftImg8bit_trainvaltest.zip", fabricate.cityscapes_images("train", "val")
    )
    assert list(load().splits) == ["train", "val"]


def test_coarse_labels_on_request(load, archives, capsys):
    with pytest.raises(UserError, match=r"neither leftImg8bit_trainextra\.zip nor"):
        load(train_extra=True)
    fabricate.write_zip(
        archives / "leftImg8bit_trainextra.zip", fabricate.cityscapes_images("train_extra")
    )
    with pytest.raises(UserError, match=r"neither gtCoarse\.zip nor the folder gtCoarse"):
        load(train_extra=True)
    fabricate.write_zip(
        archives / "gtCoarse.zip", fabricate.cityscapes_labels("gtCoarse", "train_extra", "train")
    )
    # The image that is known to be damaged does not count, with or without its label.
    damaged = fabricate.cityscapes_images("train_extra")
    damaged["leftImg8bit/train_extra/troisdorf/troisdorf_000000_000073_leftImg8bit.png"] = b""
    fabricate.write_zip(archives / "leftImg8bit_trainextra.zip", damaged)
    dataset = load(train_extra=True)
    assert "troisdorf_000000_000073 of train_extra is known to be damaged: left out" in (
        capsys.readouterr().out
    )
    assert list(dataset.splits) == [*SPLITS, "train_extra"]
    (example,) = dataset.splits["train_extra"]
    assert example["id"] == "augsburg_000000_000000"
    np.testing.assert_array_equal(
        example["label"], expected_label(fabricate.cityscapes_ids("train_extra", 0))
    )
    assert "train_extra" not in load().splits


def test_storage_is_exact_or_nearly_so(load):
    original, exact, jpeg = (load(storage=form) for form in ("original", "exact", "jpeg"))
    assert len({d.fingerprint for d in (original, exact, jpeg)}) == 3
    image = fabricate.image(0)
    np.testing.assert_array_equal(exact.splits["train"][0]["image"], image)
    assert exact.splits["train"].records[0]["image"] == codec.encode_exact(image)
    decoded = jpeg.splits["train"][0]["image"].astype(int)
    assert 0 < np.abs(decoded - image).mean() < 4  # of noise, the worst that a JPEG can be given
    with pytest.raises(UserError, match=r"storage is one of original, exact, jpeg, not 'png'"):
        load(storage="png")


def test_a_changed_label_in_a_zip_is_prepared_anew(load, archives):
    before = load().fingerprint
    members = fabricate.cityscapes_labels("gtFine", *SPLITS)
    name = next(name for name in members if name.endswith("labelIds.png"))
    changed = fabricate.cityscapes_ids("train", 0)
    changed[0, 0] = 33 if changed[0, 0] != 33 else 7
    fabricate.write_zip(
        archives / "gtFine_trainvaltest.zip", {**members, name: fabricate.encode(changed)}
    )
    assert load().fingerprint != before


def test_the_table_covers_all_34_ids():
    ids = np.arange(34, dtype=np.uint8)
    np.testing.assert_array_equal(cityscapes.TABLE[ids], expected_label(ids))


def test_shares_are_those_of_counted_pixels():
    assert sum(CITYSCAPES.train_pixels) + 715_747_311 == 2975 * 1024 * 2048
    shares = {c["name"]: c["train_pixel_share"] for c in counted_class_list(CITYSCAPES)}
    np.testing.assert_allclose(sum(shares.values()), 1)
    assert round(100 * shares["road"], 1) == 36.9
    # Ten of the classes hold less than a hundredth of the pixels each.
    assert sum(share < 0.01 for share in shares.values()) == 10
