"""Names, lists, archives and headers as the world has them: read right, or said in one line."""

from __future__ import annotations

import os
import struct
import unicodedata
import zipfile
import zlib

import fabricate
import numpy as np
import pytest
from PIL import Image

from dropclass_jax import data
from dropclass_jax.data import files, headers, layout
from dropclass_jax.data.__main__ import main
from dropclass_jax.data.camvid import read_list
from dropclass_jax.errors import UserError


@pytest.fixture
def command(tmp_path, capsys):
    """``command(name, folder, ...)``: its exit code and the lines that it prints."""

    def command(name, folder, *options):
        code = main([name, f"--dir={folder}", f"--prepared-dir={tmp_path / 'prepared'}", *options])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return command


def pair(root, split: str, name: str, seed: int = 0) -> None:
    for kind, content in (("images", fabricate.image(seed)), ("masks", fabricate.values(seed, 3))):
        path = os.path.join(os.fsencode(root / kind / split), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(fabricate.encode(content))


def test_splits_that_carry_a_year(tmp_path, command):
    for i in range(4):
        pair(tmp_path / "coco", "train2017", f"{i}.png", i)
    pair(tmp_path / "coco", "val2017", "0.png", 9)
    code, out, _ = command("check", tmp_path / "coco")
    assert code == 0
    assert "folder: train 4, val 1 good examples, 0 bad" in out
    assert not any("there is no val" in line for line in out)
    dataset = data.load("folder", tmp_path / "coco", tmp_path / "prepared")
    np.testing.assert_array_equal(dataset.splits["val"][0]["image"], fabricate.image(9))


def test_masks_may_carry_another_year_than_images(tmp_path):
    for folder in ("images/train2017", "masks/training", "images/val", "masks/val_2017"):
        (tmp_path / folder).mkdir(parents=True)
    found, notes = layout.find_splits(tmp_path)
    assert [(k, f.images.name, f.masks.name) for k, f in found.items()] == [
        ("train", "train2017", "training"),
        ("val", "val", "val_2017"),
    ]
    assert not notes


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train2014", "train2017", "val2017"],
         "images has the folders train2014 and train2017, both of the split train: put"),
        (["trainset", "valset"],
         "images has the folders trainset and valset: if they are splits, call them train and val"),
        (["val2017"], "images has a folder val2017 and none for train: add it"),
    ],
)  # fmt: skip
def test_folders_that_may_be_splits_are_not_merged(tmp_path, names, message):
    for name in names:
        pair(tmp_path / "mine", name, "a.png")
    with pytest.raises(UserError, match=message):
        layout.find_splits(tmp_path / "mine")


def test_folders_of_other_names_are_no_splits(tmp_path):
    for name in ("training_centre_1", "berlin"):
        pair(tmp_path / "mine", name, "a.png")
    assert list(layout.find_splits(tmp_path / "mine")[0]) == [""]


def test_names_that_are_not_utf_8(tmp_path, command):
    """As old Windows programs and unpacked zips leave them."""
    source = tmp_path / "mine"
    latin = os.fsdecode("caf\u00e9.png".encode("latin-1"))
    for seed, name in enumerate(("a.png", latin)):
        pair(source, "train", name, seed)
    pair(source, "val", "b.png")
    code, out, err = command("prepare", source)
    assert (code, err) == (0, [])
    dataset = data.load("folder", source, tmp_path / "prepared")
    assert [example["id"] for example in dataset.splits["train"]] == ["a", "caf\\xe9"]
    np.testing.assert_array_equal(dataset.splits["train"][1]["image"], fabricate.image(1))
    with open(os.path.join(os.fsencode(source), b"images/train/caf\xe9.png"), "wb") as file:
        file.write(b"broken")
    code, out, _ = command("check", source)
    assert code == 1
    (bad,) = [line for line in out if line.startswith("bad: ")]
    assert r"caf\xe9.png is not a readable image" in bad
    bad.encode()  # may be printed anywhere


def test_an_accent_is_the_same_in_either_form(tmp_path):
    """macOS stores names decomposed, most others composed."""
    source = tmp_path / "mine"
    pair(source, "train", "a.png")
    pair(source, "val", "b.png")
    for kind, form in (("images", "NFC"), ("masks", "NFD")):
        name = unicodedata.normalize(form, "caf\u00e9.png")
        (source / kind / "train" / "a.png").rename(source / kind / "train" / name)
    dataset = data.load("folder", source, tmp_path / "prepared")
    assert [example["id"] for example in dataset.splits["train"]] == ["caf\u00e9"]


def test_both_forms_of_a_name_are_one_name(tmp_path):
    for form in ("NFC", "NFD"):
        pair(tmp_path, "", unicodedata.normalize(form, "caf\u00e9.png"))
    found = layout.pair_up(layout.Folders(tmp_path / "images", tmp_path / "masks"))
    assert len(found.pairs) == 1
    assert all("have one name: remove one" in fault for fault in found.faults)
    assert len(found.faults) == 2


def test_a_list_with_a_byte_order_mark(tmp_path):
    fabricate.write(tmp_path / "train" / "a.png", b"")
    fabricate.write(tmp_path / "trainannot" / "a.png", b"")
    (tmp_path / "train.txt").write_text("\ufefftrain/a.png trainannot/a.png\n", encoding="utf-8")
    listed = read_list(tmp_path, "train")
    assert [p.id for p in listed.pairs] == ["a"]
    assert listed.pairs[0].image.where == str(tmp_path / "train" / "a.png")


def voc_with(tmp_path, split: str, content: str):
    members = fabricate.voc_members()
    members[f"VOCdevkit/VOC2012/ImageSets/Segmentation/{split}.txt"] = content.encode()
    fabricate.unpack(members, tmp_path / "voc")
    return tmp_path / "voc"


def test_a_list_of_voc_with_a_name_twice(tmp_path, command):
    source = voc_with(tmp_path, "train", "\ufeff2007_000032\n2007_000039\n2007_000032\n")
    code, out, _ = command("check", source, "--name=voc")
    assert code == 1
    (bad,) = [line for line in out if line.startswith("bad: ")]
    assert bad.endswith("Segmentation/train.txt lists 2007_000032 2 times: remove all but one")
    assert "voc: train 2, val 1 good examples, 1 bad" in out


def test_images_in_two_lists_are_noted(tmp_path, command):
    source = voc_with(tmp_path, "val", "2007_000033\n2007_000032\n")
    code, out, _ = command("check", source, "--name=voc")
    assert code == 0
    assert (
        "note: warning: 1 images of val are in train, too, the first is 2007_000032: its scores "
        "mean little; remove them from one of the two"
    ) in out


def test_copies_under_other_names_are_noted(tmp_path, command):
    """As tools make them that export augmented versions, or a hand that sorts images."""
    for split, name, seed in (
        ("train", "a", 1),
        ("train", "b", 2),
        ("val", "c", 3),
        ("val", "d", 1),
    ):
        pair(tmp_path / "mine", split, f"{name}.png", seed)
    code, out, _ = command("check", tmp_path / "mine")
    assert code == 0
    assert (
        "note: warning: 1 images of val are in train, too, the first is d (a in train): its scores "
        "mean little; remove them from one of the two"
    ) in out


def test_a_copy_may_be_drawn_into_val(tmp_path, command):
    """Where one folder is divided, which tells nobody of it."""
    for name in "abcd":
        pair(tmp_path / "mine", "", f"{name}.png", seed=1)
    _, out, _ = command("check", tmp_path / "mine")
    assert any(line.startswith("note: warning: 1 images of val are in train, too") for line in out)


def test_a_giant_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    fabricate.write_zip(tmp_path / "a.zip", {"x/big.png": bytes(1001), "x/small.png": bytes(1000)})
    fabricate.write_tar(tmp_path / "a.tar", {"x/big.png": bytes(1001)})
    fabricate.write_tar(tmp_path / "a.tgz", {"x/big.png": bytes(1001)}, "w:gz")
    fabricate.write(tmp_path / "x" / "big.png", bytes(1001))
    in_zip = files.zip_archive(tmp_path / "a.zip")
    assert in_zip["x/small.png"].read() == bytes(1000)
    for file in (
        in_zip["x/big.png"],
        files.tar_archive(tmp_path / "a.tar")["x/big.png"],
        files.folder(tmp_path)["x/big.png"],
    ):
        with pytest.raises(UserError, match=r"x/big\.png has 0\.0 GiB: an image or mask may have"):
            file.read()
    with pytest.raises(UserError, match=r"x/big\.png has 0\.0 GiB"):
        list(files.tar_stream(tmp_path / "a.tgz"))


def test_an_encrypted_member_is_named(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"pixels")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.zip/a\.png is encrypted, or compressed in an unknown"):
        files.zip_archive(path)["a.png"].read()


def png_of(height: int, width: int) -> bytes:
    """The header of a PNG of such a size, and no pixels."""
    content = bytearray(fabricate.encode(fabricate.image(0)))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize("shape", [(2**15 + 1, 2**15), (2, 2**20 + 1)])
def test_more_pixels_than_can_be_decoded(shape):
    with pytest.raises(UserError, match=r"^some\.png is \d+x\d+: images may have 2\^30 pixels and"):
        headers.check("some.png", png_of(*shape))
    headers.check("some.png", png_of(2**15, 2**15))


def test_orientations_are_counted(tmp_path, command):
    source, exif = tmp_path / "mine", Image.Exif()
    exif[0x0112] = 3
    for seed in range(3):
        pair(source, "train", f"{seed}.png", seed)
    pair(source, "val", "a.png")
    for seed in range(2):
        (source / "images/train" / f"{seed}.png").unlink()
        picture = Image.fromarray(fabricate.image(seed))
        picture.save(source / "images/train" / f"{seed}.jpg", exif=exif)
    warning = "warning: 2 images of train have an EXIF orientation, which is not applied: labels"
    code, out, _ = command("check", source)
    assert code == 0
    assert sum(warning in line for line in out) == 1
    code, out, _ = command("prepare", source)
    assert sum(warning in line for line in out) == 1


def test_the_share_of_what_is_ignored_is_told(tmp_path, command):
    source = tmp_path / "mine"
    for seed in range(2):
        pair(source, "train", f"{seed}.png", seed)
    pair(source, "val", "a.png")
    label = fabricate.values(0, 3)
    label[: len(label) // 4] = 255
    (source / "masks/train/0.png").write_bytes(fabricate.encode(label))
    code, out, _ = command("check", source)
    assert code == 0
    assert "train: 12.5% of the pixels are ignored, in 1 of 2 images" in out
    assert not any(line.startswith("val: ") for line in out)
