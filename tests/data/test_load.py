"""Preparing and opening data sets: pixels, counts, fingerprints, mistakes and interruptions."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from dropclass_jax import data
from dropclass_jax.data import builder, camvid, codec, leftovers, ordered, scenes
from dropclass_jax.errors import UserError

SHAPE = (12, 16)


def write_pair(folder: Path, split: str, name: str, seed: int, suffix: str = ".png") -> None:
    """One image of noise and its label, with every value from 0 to void in it."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 12, SHAPE).astype(np.uint8)
    label.flat[:12] = range(12)
    for kind, pixels, end in (
        (split, rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8), suffix),
        (f"{split}annot", label, ".png"),
    ):
        (folder / kind).mkdir(exist_ok=True)
        assert cv2.imwrite(str(folder / kind / f"{name}{end}"), pixels)


@pytest.fixture
def source(tmp_path) -> Path:
    """A CamVid of three training images and one for validation, listed as upstream lists them."""
    folder = tmp_path / "CamVid"
    folder.mkdir()
    lines = {"train": [], "val": []}
    for seed, (split, name) in enumerate(
        [("train", "b_2"), ("train", "a_1"), ("train", "c_3"), ("val", "v_1")]
    ):
        write_pair(folder, split, name, seed)
        lines[split].append(f"/Seg/CamVid/{split}/{name}.png /Seg/CamVid/{split}annot/{name}.png")
    for split, text in lines.items():
        (folder / f"{split}.txt").write_text("\n".join(text) + "\n\n")
    return folder


@pytest.fixture
def load(source, tmp_path):
    def load(**options) -> data.Dataset:
        return data.load("camvid", source, tmp_path / "prepared", **options)

    return load


def as_given(source: Path, split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    image = cv2.imread(str(source / split / f"{name}.png"))[..., ::-1]
    return image, cv2.imread(str(source / f"{split}annot" / f"{name}.png"), cv2.IMREAD_UNCHANGED)


def test_pixels_labels_and_order_come_through(source, load, capsys):
    dataset = load()
    assert dataset.info.name == "camvid"
    assert list(dataset.splits) == ["train", "val"]
    assert [example["id"] for example in dataset.splits["train"]] == ["b_2", "a_1", "c_3"]
    for split, examples in dataset.splits.items():
        for example in examples:
            image, label = as_given(source, split, example["id"])
            np.testing.assert_array_equal(example["image"], image)
            np.testing.assert_array_equal(example["label"], np.where(label == 11, 255, label))
            assert example["image"].dtype == example["label"].dtype == np.uint8
        assert examples.shapes.tolist() == [list(SHAPE)] * len(examples)
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == [
        "camvid: train has 3 images, the official release 367",
        "camvid: val has 1 images, the official release 101",
    ]
    assert out[2].startswith("preparing camvid in ")
    assert out[3].startswith("prepared camvid: train 3, val 1 images in ")
    assert len(out) == 4


def test_counts_are_those_of_the_labels(load):
    dataset = load()
    for split, examples in dataset.splits.items():
        labels = [example["label"] for example in examples]
        pixels = [sum(int((label == c).sum()) for label in labels) for c in range(11)]
        assert dataset.class_pixels[split].tolist() == pixels
        assert dataset.class_pixels[split].dtype == np.int64
        images = np.count_nonzero(dataset.splits[split].class_pixels, axis=0)
        assert images.tolist() == [len(labels)] * 11


def test_a_class_is_counted_once_an_image(source, load):
    label = np.full(SHAPE, 11, np.uint8)
    label[0, 0] = 7
    cv2.imwrite(str(source / "valannot" / "v_1.png"), label)
    dataset = load()
    only_fence = [int(c == 7) for c in range(11)]
    images = np.count_nonzero(dataset.splits["val"].class_pixels, axis=0)
    assert images.tolist() == only_fence
    assert dataset.class_pixels["val"].tolist() == only_fence


def test_jpeg_images_are_kept_as_they_are(source, load):
    for file in [*(source / "train").iterdir(), *(source / "val").iterdir()]:
        suffix = ".jpg" if file.stem != "c_3" else ".jpeg"
        assert cv2.imwrite(str(file.with_suffix(suffix)), cv2.imread(str(file)))
        file.unlink()
    dataset = load()
    first = dataset.splits["train"]
    assert first.records[0]["image"] == (source / "train" / "b_2.jpg").read_bytes()
    pixels = cv2.imread(str(source / "train" / "b_2.jpg"))[..., ::-1]
    np.testing.assert_array_equal(first[0]["image"], pixels)


def test_half_resolution(source, load):
    dataset = load(resolution=0.5)
    for example in dataset.splits["train"]:
        image, label = as_given(source, "train", example["id"])
        assert example["image"].shape == (6, 8, 3)
        nearest = np.where(label == 11, 255, label)[1::2, 1::2]
        np.testing.assert_array_equal(example["label"], nearest)
        means = image.reshape(6, 2, 8, 2, 3).mean((1, 3))
        # Stored as a JPEG, of noise, which is the worst that a JPEG can be given.
        assert np.abs(example["image"] - means).mean() < 4
    assert dataset.splits["train"].shapes.tolist() == [[6, 8]] * 3
    assert dataset.class_pixels["train"].sum() < load().class_pixels["train"].sum() / 3


def test_resampling_is_by_area_and_nearest():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    label = rng.integers(0, 11, (8, 12)).astype(np.uint8)
    small, nearest = camvid.resample(image, label, Fraction(1, 4))
    means = image.reshape(2, 4, 3, 4, 3).mean((1, 3))
    assert np.abs(small - means).max() <= 0.5
    np.testing.assert_array_equal(nearest, label[2::4, 2::4])
    # An odd length: both cover the whole axis, to the rounded number of pixels.
    small, nearest = camvid.resample(image[:7], label[:7], Fraction(1, 2))
    assert small.shape[:2] == nearest.shape == (4, 6)


def test_the_test_split_is_optional_and_then_read(source, load):
    assert "test" not in load().splits
    write_pair(source, "test", "t_1", seed=9)
    (source / "test.txt").write_text("test/t_1.png testannot/t_1.png\n")
    assert [example["id"] for example in load().splits["test"]] == ["t_1"]


def test_a_source_raises_index_error_past_its_end(load):
    examples = load().splits["train"]
    assert examples[-1]["id"] == examples[2]["id"]
    with pytest.raises(IndexError):
        examples[3]


def test_a_set_is_prepared_once(load, capsys):
    first = load()
    capsys.readouterr()
    again = load()
    assert capsys.readouterr().out == ""
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.splits["val"][0]["image"], first.splits["val"][0]["image"])


def test_a_copy_on_another_machine_is_the_same_set(source, load):
    before = load().fingerprint
    for file in source.rglob("*.png"):
        os.utime(file, (0, 0))
    assert load().fingerprint == before


def test_a_changed_source_or_option_is_prepared_anew(source, load):
    fingerprints = [load().fingerprint, load(resolution=0.5).fingerprint]
    write_pair(source, "train", "a_1", seed=50)
    fingerprints.append(load().fingerprint)
    lines = (source / "train.txt").read_text().splitlines()
    (source / "train.txt").write_text("\n".join(lines[1:]))
    fingerprints.append(load().fingerprint)
    assert len(set(fingerprints)) == len(fingerprints)
    assert len(load().splits["train"]) == 2
    (source / "train" / "unlisted.png").write_bytes(b"")
    assert load().fingerprint == fingerprints[-1]


def test_an_unlisted_image_is_mentioned(source, load, capsys):
    for name in ("x", "y"):
        (source / "train" / f"{name}.png").write_bytes(b"")
    load()
    out = capsys.readouterr().out
    assert "left out, as train.txt does not list it: train/x.png and 1 more" in out


def test_the_fingerprint_does_not_depend_on_where_the_source_lies(source, load, tmp_path):
    shutil.copytree(source, tmp_path / "elsewhere")  # keeps the times of the files
    moved = data.load("camvid", tmp_path / "elsewhere", tmp_path / "prepared")
    assert moved.fingerprint == load().fingerprint


def test_the_prepared_folder_comes_from_the_environment(source, tmp_path, monkeypatch):
    monkeypatch.setenv("DROPCLASS_DATA", str(tmp_path / "from_environment"))
    fingerprint = data.load("camvid", source).fingerprint
    found = {f.name for f in (tmp_path / "from_environment").iterdir()}
    assert found == {f"camvid-{fingerprint}", "checksums", "preparing.lock"}


def save(path: Path, pixels: np.ndarray):
    """An edit of a source: replace one file by other pixels."""
    return lambda source: cv2.imwrite(str(source / path), pixels)


def cut(path: Path):
    """An edit of a source: keep the first half of a file."""
    return lambda source: (source / path).write_bytes((source / path).read_bytes()[:90])


def write(path: Path, text: str):
    """An edit of a source: replace one file by a text."""
    return lambda source: (source / path).write_text(text)


def remove(path: Path):
    """An edit of a source: delete one file."""
    return lambda source: (source / path).unlink()


LABEL = Path("trainannot/a_1.png")
IMAGE = Path("train/a_1.png")
STRAY = np.zeros(SHAPE, np.uint8)
STRAY[3, 5] = 12


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (remove(Path("val.txt")), r"val\.txt is missing"),
        (write(Path("val.txt"), "\n"), r"val\.txt lists no images"),
        (write(Path("val.txt"), "val/v_1.png"), r"val\.txt, line 1: want 'image label', got 1"),
        (write(Path("val.txt"), "a b c"), r"val\.txt, line 1: .* got 3 words: 'a b c'"),
        (
            write(Path("val.txt"), "val/v_1.png valannot/v_1.png\n" * 2),
            r"val\.txt, line 2: image 'v_1' is listed twice",
        ),
        (remove(IMAGE), r"train\.txt, line 2: no image at .*train/a_1\.png: add"),
        (remove(LABEL), r"train\.txt, line 2: no label at .*trainannot/a_1\.png: add"),
        (cut(IMAGE), r"train/a_1\.png is not a readable image"),
        (cut(LABEL), r"trainannot/a_1\.png is not a readable image"),
        (write(IMAGE, ""), r"train/a_1\.png is not a readable image"),
        (save(LABEL, np.zeros(SHAPE, np.uint16)), r"trainannot/a_1\.png has 16 bits a pixel"),
        (save(LABEL, np.zeros((*SHAPE, 3), np.uint8)), r"a_1\.png has 3 channels"),
        (save(LABEL, STRAY), r"a_1\.png holds the value 12 at row 3, column 5: want 0\.\.11"),
        (save(LABEL, np.zeros((12, 15), np.uint8)), r"a_1\.png is 12x16 but .*a_1\.png is 12x15"),
    ],
)
def test_a_bad_source_is_named_and_leaves_nothing_behind(source, load, tmp_path, edit, message):
    edit(source)
    with pytest.raises(UserError, match=message) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "prepared").rglob("*.array_record*"))
    assert not list((tmp_path / "prepared").rglob("dataset_info.json"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "camvit",
            {},
            "unknown data set 'camvit'; did you mean camvid\\? There is camvid, cityscap",
        ),
        ("zebra", {}, "unknown data set 'zebra'\\. There is camvid, cityscapes, folder, str"),
        ("camvid", {}, r"camvid needs its folder.*--config\.data\.dir"),
        ("camvid", {"source_dir": "/no/such"}, r"/no/such is not a folder.*--config\.data\.dir"),
        ("camvid", {"source_dir": ".", "resolution": 0}, "resolution 0"),
        ("camvid", {"source_dir": ".", "resolution": 1.5}, "resolution 1.5"),
        ("camvid", {"resolutoin": 1}, "unknown option of camvid 'resolutoin'; did you mean"),
        ("streets", {"source_dir": "."}, "streets is drawn"),
        ("streets", {"train": 0}, "train is 0"),
        ("streets", {"height": 15}, "height is 15: want at least 16"),
        ("streets", {"rho": 1.2}, "rho is 1.2"),
        ("streets", {"seed": -1}, "seed is -1"),
        ("streets", {"seed": 0.5}, "option seed of streets is 0.5: want a whole number"),
        ("streets", {"rho": "high"}, "option rho of streets is 'high': want a number"),
        ("camvid", {"skip_bad": 1}, "option skip_bad of camvid is 1: want True or False"),
    ],
)
def test_a_bad_name_or_option_is_named(tmp_path, name, options, message):
    with pytest.raises(UserError, match=message) as caught:
        data.load(name, prepared_dir=tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"cannot write the prepared set to .*prepared_dir"):
        data.load("camvid", source, tmp_path / "file")


@pytest.mark.parametrize("when", ["write", "close"])
def test_a_full_disk_is_named(load, monkeypatch, tmp_path, when):
    class Full(ArrayRecordWriter):
        """What the library says, as it was seen on a full disk."""

    def fail(self, *record):
        raise RuntimeError("write() failed: No space left on device; writing ...")

    setattr(Full, when, fail)
    monkeypatch.setattr(builder, "ArrayRecordWriter", Full)
    with pytest.raises(UserError, match=r"cannot write .*prepared.* No space left.*prepared_dir"):
        load()
    assert not list((tmp_path / "prepared").rglob("*.array_record*"))


def test_a_half_copied_set_is_refused(load, tmp_path):
    load()
    (info,) = (tmp_path / "prepared").rglob("dataset_info.json")
    info.unlink()
    with pytest.raises(UserError, match="not a whole prepared set: delete"):
        load()


def test_an_interrupted_preparation_starts_again(source, load, monkeypatch, tmp_path):
    def interrupt(self, pair):
        if pair.id == "c_3":
            raise KeyboardInterrupt
        return read(self, pair)

    read = camvid.CamVid.read
    with monkeypatch.context() as patch:
        patch.setattr(camvid.CamVid, "read", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load()
    assert not list((tmp_path / "prepared").rglob("dataset_info.json"))
    assert [len(examples) for examples in load().splits.values()] == [3, 1]


def test_a_killed_preparation_starts_again(source, load, tmp_path):
    """Nothing can clean up after a kill: what it leaves must not look finished."""
    program = f"""
        import os, signal
        from dropclass_jax import data
        from dropclass_jax.data.camvid import CamVid
        read = CamVid.read
        def killed(self, pair):
            if pair.id == "v_1":
                os.kill(os.getpid(), signal.SIGKILL)
            return read(self, pair)
        CamVid.read = killed
        data.load("camvid", {str(source)!r}, {str(tmp_path / "prepared")!r})
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert run.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "prepared").glob("*/*/incomplete.*")  # it had begun
    other = tmp_path / "prepared" / "folder-0123" / "folder" / "incomplete.ab_1.1.0" / "a"
    other.parent.mkdir(parents=True)  # of a set that nobody wants any more
    other.touch()
    # Not while somebody prepares, who may be writing there.
    with leftovers.preparing(tmp_path / "prepared"):
        left.mkdir(exist_ok=True)
        other.parent.mkdir(exist_ok=True)
        with leftovers.preparing(tmp_path / "prepared"):
            assert left.exists()
    assert [len(examples) for examples in load().splits.values()] == [3, 1]
    assert not list((tmp_path / "prepared").rglob("incomplete.*"))


def test_the_slower_of_two_processes_takes_what_the_faster_made(source, load, monkeypatch):
    """The other process finishes while this one is at its last label."""
    read = camvid.CamVid.read
    faster = []

    def race(self, pair):
        if pair.id == "v_1" and not faster:
            faster.append(None)
            faster[0] = load()
        return read(self, pair)

    monkeypatch.setattr(camvid.CamVid, "read", race)
    slower = load()
    assert slower.fingerprint == faster[0].fingerprint
    for split, examples in slower.splits.items():
        assert len(examples) == len(faster[0].splits[split])
        for example, other in zip(examples, faster[0].splits[split], strict=True):
            assert example["id"] == other["id"]
            np.testing.assert_array_equal(example["label"], other["label"])
        np.testing.assert_array_equal(slower.class_pixels[split], faster[0].class_pixels[split])


def test_a_split_larger_than_memory_is_written_as_it_comes(tmp_path, monkeypatch):
    """No more than a few examples are on their way at once, and their order is kept."""
    written = []
    write = ArrayRecordWriter.write

    class Watched(ArrayRecordWriter):
        def write(self, record):
            written.append(len(record))
            write(self, record)

    read, waiting = camvid.CamVid.read, []

    def watch(self, pair):
        waiting.append(int(pair.id) - len(written))
        return read(self, pair)

    source = tmp_path / "CamVid"
    source.mkdir()
    lines = []
    for i in range(60):
        write_pair(source, "train", f"{i:03d}", seed=i)
        lines.append(f"train/{i:03d}.png trainannot/{i:03d}.png\n")
    (source / "train.txt").write_text("".join(lines))
    (source / "val.txt").write_text(lines[0])
    monkeypatch.setattr(builder, "ArrayRecordWriter", Watched)
    monkeypatch.setattr(camvid.CamVid, "read", watch)
    dataset = data.load("camvid", source, tmp_path / "prepared")
    assert [example["id"] for example in dataset.splits["train"]] == [f"{i:03d}" for i in range(60)]
    assert len(written) == 61
    assert max(waiting) <= 2 * ordered.THREADS + 1


def test_another_split_to_train_on(load):
    dataset = load()
    other = dataset.trained_on("val")
    assert [example["id"] for example in other.splits["train"]] == ["v_1"]
    assert other.class_pixels["train"].tolist() == dataset.class_pixels["val"].tolist()
    assert [example["id"] for example in dataset.splits["train"]] == ["b_2", "a_1", "c_3"]
    with pytest.raises(UserError, match=r"no split 'extra' to train on; it has train, val"):
        dataset.trained_on("extra")


def test_streets_are_prepared_with_their_counts(tmp_path):
    sizes = {"train": 3, "val": 2, "val_out": 2, "height": 64, "width": 128}
    dataset = data.load("streets", prepared_dir=tmp_path, **sizes)
    assert {split: len(examples) for split, examples in dataset.splits.items()} == {
        name: sizes[name] for name in ("train", "val", "val_out")
    }
    for split, examples in dataset.splits.items():
        labels = np.stack([example["label"] for example in examples])
        assert labels.shape[1:] == (64, 128)
        counts = np.bincount(labels[labels != 255], minlength=dataset.info.num_classes)
        np.testing.assert_array_equal(dataset.class_pixels[split], counts)


def test_a_street_depends_on_seed_split_and_number_alone(tmp_path, monkeypatch):
    def draw(rng, in_context, height, width):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return image, np.full((height, width), round(10 * in_context), np.uint8)

    monkeypatch.setattr(scenes, "draw_scene", draw)

    def load(**options) -> data.Dataset:
        few = {"train": 2, "val": 2, "val_out": 2, "height": 16, "width": 16} | options
        return data.load("streets", prepared_dir=tmp_path, **few)

    few, more, other = load(), load(train=4, rho=0.5), load(seed=1)
    assert len({few.fingerprint, more.fingerprint, other.fingerprint}) == 3
    for split in few.splits:
        for i in range(2):
            example = few.splits[split][i]
            assert example["id"] == f"{split}_{i:05d}"
            np.testing.assert_array_equal(example["image"], more.splits[split][i]["image"])
            assert not np.array_equal(example["image"], other.splits[split][i]["image"])
    images = [example["image"].tobytes() for split in few.splits.values() for example in split]
    assert len(set(images)) == 6
    in_context = {split: int(more.splits[split][0]["label"][0, 0]) for split in more.splits}
    assert in_context == {"train": 5, "val": 5, "val_out": 0}


def test_codecs():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(codec.decode_image(codec.encode_exact(image)), image)
    np.testing.assert_array_equal(
        codec.decode_label(codec.encode_label(image[..., 0])), image[..., 0]
    )
    smooth = np.full((16, 16, 3), (200, 30, 90), np.uint8)  # red, not blue, comes first
    assert np.abs(codec.decode_image(codec.encode_photo(smooth)).astype(int) - smooth).max() <= 2
    assert codec.decode_image(b"not an image") is None
    assert codec.decode_label(b"") is None
