"""Bad data of every kind: one line that names the file, whether it is checked or prepared."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import fabricate
import numpy as np
import pytest

from dropclass_jax import data
from dropclass_jax.data.__main__ import main, parse
from dropclass_jax.data.folder import Folder
from dropclass_jax.errors import UserError

INDEX = fabricate.values(0, fabricate.FOLDER_CLASSES)
COLORS = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[INDEX]
STRAY = INDEX.copy()
STRAY[5, 7] = 9
TRANSPARENT = np.dstack([COLORS, np.full(INDEX.shape, 200, np.uint8)])
IMAGE, MASK = "images/train/a.png", "masks/train/a.png"
PAGES = cv2.imencodemulti(".tiff", [INDEX] * 3)[1].tobytes()
DEEP = fabricate.image(0).astype(np.uint16) * 256


def put(path: str, content: bytes):
    """An edit of a source: write one file."""
    return lambda source: fabricate.write(source / path, content)


def remove(path: str):
    """An edit of a source: delete one file."""
    return lambda source: (source / path).unlink()


def cut(path: str, size: int = 100):
    """An edit of a source: keep the beginning of a file."""
    return lambda source: (source / path).write_bytes((source / path).read_bytes()[:size])


def replace(path: str, by: str, content: bytes):
    """An edit of a source: a file of another name in the place of one."""
    return lambda source: (remove(path)(source), put(by, content)(source))


FAULTS = {
    # A fault of one file or pair of a folder: how it comes to be, and what is said of it.
    "no mask": (remove(MASK), r"images/train/a\.png has no mask .*masks/train/a\.\*: add it"),
    "no image": (remove(IMAGE), r"masks/train/a\.png has no image .*images/train/a\.\*: add it"),
    "one name": (
        put("images/train/a.jpg", fabricate.encode(fabricate.image(9), ".jpg")),
        r"images/train/a\.png and .*a\.jpg have one name: remove one",
    ),
    "empty image": (put(IMAGE, b""), r"images/train/a\.png is not a readable image"),
    "cut image": (cut(IMAGE), r"images/train/a\.png is not a readable image"),
    "cut jpeg": (
        replace(IMAGE, "images/train/a.jpg", fabricate.encode(fabricate.image(0), ".jpg")[:-300]),
        r"images/train/a\.jpg is not a readable image",
    ),
    "text for an image": (put(IMAGE, b"<html>404</html>"), r"a\.png is not a readable image"),
    "empty mask": (put(MASK, b""), r"masks/train/a\.png is not a readable image"),
    "cut mask": (cut(MASK), r"masks/train/a\.png is not a readable image"),
    "16-bit mask": (
        put(MASK, fabricate.encode(INDEX.astype(np.uint16) * 300)),
        r"masks/train/a\.png has 16 bits a pixel: want an 8-bit label",
    ),
    "16-bit colour mask": (
        put(MASK, fabricate.encode(COLORS.astype(np.uint16))),
        r"masks/train/a\.png has 16 bits a pixel: want an 8-bit label",
    ),
    "floating-point mask": (
        replace(MASK, "masks/train/a.tif", fabricate.encode(INDEX.astype(np.float32), ".tiff")),
        r"masks/train/a\.tif has 32 bits a pixel",
    ),
    "colour among index masks": (
        put(MASK, fabricate.encode(COLORS)),
        r"masks/train/a\.png is of kind color, but classes\.yaml says masks: index: convert it",
    ),
    "transparent mask": (
        put(MASK, fabricate.encode(TRANSPARENT)),
        r"masks/train/a\.png is partly transparent: save it without an alpha channel",
    ),
    "jpeg mask": (
        replace(MASK, "masks/train/a.jpg", fabricate.encode(INDEX, ".jpg")),
        r"masks/train/a\.jpg is a JPEG, which changes the values at every edge: save masks as PNG",
    ),
    "jpeg mask that is called png": (
        put(MASK, fabricate.encode(INDEX, ".jpg")),
        r"masks/train/a\.png is a JPEG, which changes",
    ),
    "unlisted value": (
        put(MASK, fabricate.encode(STRAY)),
        r"masks/train/a\.png holds the value 9 at row 5, column 7: want one that classes\.yaml",
    ),
    "sizes differ": (
        put(MASK, fabricate.encode(INDEX[:-1])),
        r"images/train/a\.png is 24x32 but its label .*masks/train/a\.png is 23x32",
    ),
    "turned": (
        put(MASK, fabricate.encode(np.ascontiguousarray(INDEX.T))),
        r"a\.png is 24x32 but its label .*a\.png is 32x24: they must agree \(an EXIF orientation",
    ),
    "several pages": (
        replace(IMAGE, "images/train/a.tif", PAGES),
        r"images/train/a\.tif has 3 pages: save each as a file of its own",
    ),
    "mask of several pages": (
        replace(MASK, "masks/train/a.tif", PAGES),
        r"masks/train/a\.tif has 3 pages: save each as a file of its own",
    ),
    "16-bit among 8-bit images": (
        put("images/val/d.png", fabricate.encode(DEEP)),
        r"images/val/d\.png has 16 bits a channel, but the first image of train has 8: convert",
    ),
    "floating-point image": (
        replace(
            IMAGE,
            "images/train/a.tif",
            fabricate.encode(fabricate.image(0).astype(np.float32), ".tiff"),
        ),
        r"images/train/a\.tif holds float32 values: want 8 or 16 bits without a sign",
    ),
}


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "mine"
    fabricate.write_folder(folder)
    fabricate.write(folder / "images" / "val" / "e.png", fabricate.encode(fabricate.image(7)))
    fabricate.write(folder / "masks" / "val" / "e.png", fabricate.encode(INDEX))
    fabricate.write(folder / "classes.yaml", b"classes: [x, y, z]\n")
    return folder


@pytest.fixture
def command(source, tmp_path, capsys):
    """``command(name, ...)``: its exit code and the lines it prints on stdout and stderr."""

    def command(name, *options, folder=source):
        prepared = f"--prepared-dir={tmp_path / 'prepared'}"
        code = main([name, f"--dir={folder}", prepared, *options])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return command


def nothing_prepared(tmp_path) -> bool:
    return not list((tmp_path / "prepared").rglob("*.array_record*"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_file_is_named(fault, source, command, tmp_path):
    edit, message = FAULTS[fault]
    assert command("check")[0] == 0
    edit(source)
    code, out, err = command("check")
    bad = [line for line in out if line.startswith("bad: ")]
    assert code == 1
    assert len(bad) == 1
    assert re.search(message, bad[0])
    assert not err
    # Preparing says the same, and leaves nothing that looks finished.
    code, _, err = command("prepare")
    assert (code, len(err)) == (2, 1)
    assert err[0].startswith(bad[0].replace("bad: ", "error: "))
    assert nothing_prepared(tmp_path)
    # Or leaves it out, and says so.
    code, out, _ = command("check", "--skip-bad")
    assert code == 0
    assert bad[0].replace("bad: ", "left out: ") in out
    code, out, _ = command("prepare", "--skip-bad")
    assert code == 0
    assert any(re.search(rf"^bad and left out of (train|val): 1, .*{message}", o) for o in out)
    doubled = fault == "one name"  # the other of the two is a good one
    (ready,) = [line for line in out if line.startswith("folder is ready")]
    numbers = list(map(int, re.findall(r"(?:train|val) (\d)", ready)))
    assert sum(numbers) == (5 if doubled else 4)


def test_every_bad_file_is_listed(source, command):
    for name in ("no mask", "unlisted value"):
        FAULTS[name][0](source)
    (source / "images/train/b.png").write_bytes(b"")
    (source / "masks/val/e.png").write_bytes(b"")
    (source / "images/train/readme.md").write_text("hello")
    FAULTS["no mask"][0](source)
    code, out, _ = command("check")
    assert code == 1
    assert [line.split()[1].removeprefix(f"{source}/") for line in out if "bad: " in line] == [
        "images/train/a.png",
        "images/train/b.png",
        "masks/val/e.png",
    ]
    assert any(line.startswith("note: ") and "readme.md" in line for line in out)
    assert "folder: train 1, val 1 good examples, 3 bad" in out


def test_a_split_without_a_good_example_is_an_error(source, command, tmp_path):
    for name in ("d", "e"):
        (source / f"masks/val/{name}.png").write_bytes(b"")
    assert command("check", "--skip-bad")[0] == 1
    code, _, err = command("prepare", "--skip-bad")
    assert code == 2
    assert "folder: val holds no good example" in err[0]
    assert nothing_prepared(tmp_path)


def test_leaving_out_is_another_set(source, tmp_path):
    kept = data.load("folder", source, tmp_path / "prepared")
    left_out = data.load("folder", source, tmp_path / "prepared", skip_bad=True)
    assert kept.fingerprint != left_out.fingerprint


STRUCTURE = {
    # What leaves nothing to check.
    "no such folder": (lambda s: None, {"folder": "/no/such"}, r"/no/such is not a folder"),
    "empty": (lambda s: [p.rename(s.parent / p.name) for p in list(s.iterdir())], {},
              r"mine holds neither images/ and masks/ nor train/images and train/masks"),
    "no train": (lambda s: [(s / k / "train").rename(s / k / "test") for k in ("images", "masks")],
                 {}, r"images has a folder test and none for train: add it"),
    "no masks for train": (lambda s: (s / "masks/train").rename(s / "masks/x"), {},
                           r"images/train has no masks .*masks/train: add them"),
    "bad classes.yaml": (put("classes.yaml", b"classes: [x"), {}, r"classes\.yaml, line 1: "),
    "no name matches": (lambda s: [p.rename(p.with_stem(p.stem + "x"))
                                   for p in (s / "masks").rglob("*.png")], {},
                        r"mine holds no image with a mask: .*a\.png has no mask"),
}  # fmt: skip


@pytest.mark.parametrize("fault", STRUCTURE)
def test_a_bad_folder_is_named(fault, source, command, tmp_path):
    edit, settings, message = STRUCTURE[fault]
    edit(source)
    for name in ("check", "prepare"):
        code, _, err = command(name, **settings)
        assert (code, len(err)) == (2, 1)
        assert re.search(rf"^error: .*{message}", err[0])
    assert nothing_prepared(tmp_path)


def without(archive: str, members: dict[str, bytes], text: str):
    """An edit of archives: leave out the members whose name holds a text."""
    kept = {name: content for name, content in members.items() if text not in name}
    return lambda folder: fabricate.write_zip(folder / archive, kept)


def flip(archive: str, needle: bytes):
    """An edit of archives: change one bit behind some bytes."""

    def edit(folder):
        content = bytearray((folder / archive).read_bytes())
        content[content.index(needle) + len(needle) + 60] ^= 1
        (folder / archive).write_bytes(content)

    return edit


CITYSCAPES_IMAGES = fabricate.cityscapes_images("train", "val", "test")
CITYSCAPES_LABELS = fabricate.cityscapes_labels("gtFine", "train", "val", "test")
UNKNOWN_ID = {
    name: fabricate.encode(np.full(fabricate.SHAPE, 34, np.uint8)) if "aachen_000001" in name else c
    for name, c in CITYSCAPES_LABELS.items()
}
IMAGES_ZIP, LABELS_ZIP = "leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"

ZIP_FAULTS = {
    "no labels": (remove(LABELS_ZIP), 2, r"holds neither gtFine_trainvaltest\.zip nor the folder"),
    "cut zip": (cut(IMAGES_ZIP, 5000), 2, r"trainvaltest\.zip is not a whole zip archive: downl"),
    "a page for a zip": (put(IMAGES_ZIP, b"<html>Log in"), 2, r"is not a whole zip archive"),
    "wrong zip": (lambda f: (f / LABELS_ZIP).replace(f / IMAGES_ZIP) and
                  put(LABELS_ZIP, (f / IMAGES_ZIP).read_bytes())(f), 2,
                  r"no images leftImg8bit/train/<city>/\*_leftImg8bit\.png are there"),
    "no label": (without(LABELS_ZIP, CITYSCAPES_LABELS, "aachen_000001"), 1,
                 r"aachen_000001_000019_leftImg8bit\.png has no label gtFine/train/aachen/aachen_"),
    "no image": (without(IMAGES_ZIP, CITYSCAPES_IMAGES, "aachen_000001"), 1,
                 r"aachen_000001_000019_gtFine_labelIds\.png has no image: add it"),
    "damaged member": (flip(IMAGES_ZIP, b"aachen_000001_000019_leftImg8bit.png"), 1,
                       r"zip/leftImg8bit/train/aachen/aachen_000001_000019.* is damaged"),
    "unknown id": (lambda f: fabricate.write_zip(f / LABELS_ZIP, UNKNOWN_ID), 1,
                   r"aachen_000001.* holds the value 34 at row 0, column 0: want a label id, 0"),
}  # fmt: skip


TAR, SBD = "VOCtrainval_11-May-2012.tar", "benchmark.tgz"


def not_matlab(folder: Path) -> None:
    members = fabricate.sbd_members()
    members["benchmark_RELEASE/dataset/cls/2008_000003.mat"] = b"MATLAB 5.0, not"
    fabricate.write_tar(folder / SBD, members, "w:gz")


TAR_FAULTS = {
    "no tar": (remove(TAR), 2, r"holds neither VOCtrainval_11-May-2012\.tar nor VOCdevkit/VOC2012"),
    "a page for a tar": (put(TAR, b"<html>Log in" * 99), 2, r"is not a whole, uncompressed tar"),
    "compressed": (lambda f: fabricate.write_tar(f / TAR, fabricate.voc_members(), "w:gz"), 2,
                   r"2012\.tar is not a whole, uncompressed tar archive: download it again, or"),
    "another tar": (lambda f: fabricate.write_tar(f / TAR, {"VOC2007/a": b""}), 2,
                    r"2012\.tar holds no VOCdevkit/VOC2012/: download it again"),
    "no list": (lambda f: fabricate.write_tar(f / TAR, {
        n: c for n, c in fabricate.voc_members().items() if "val.txt" not in n}), 2,
        r"VOC2012/ImageSets/Segmentation/val\.txt is missing"),
    "no label": (lambda f: fabricate.write_tar(f / TAR, {
        n: c for n, c in fabricate.voc_members().items() if "Class/2007_000033" not in n}), 1,
        r"the label VOC2012/SegmentationClass/2007_000033\.png is missing"),
    "cut benchmark": (cut(SBD, 700), 1, r"benchmark\.tgz is not a whole tar archive: download"),
    "empty benchmark": (lambda f: fabricate.write_tar(f / SBD, {"a/img/b.jpg": b""}, "w:gz"), 1,
                        r"benchmark\.tgz holds no labels dataset/cls/\*\.mat"),
    "no MATLAB file": (not_matlab, 1, r"cls/2008_000003\.mat is no label of SBD"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "write", "edit", "expected", "message"),
    [
        *(
            pytest.param("cityscapes", fabricate.write_cityscapes, *f, id=f"zip: {k}")
            for k, f in ZIP_FAULTS.items()
        ),
        *(
            pytest.param("voc", fabricate.write_voc, *f, id=f"tar: {k}")
            for k, f in TAR_FAULTS.items()
        ),
    ],
)
def test_a_bad_archive_is_named(name, write, edit, expected, message, command, tmp_path):
    """Exit code 1 for a bad file in it, 2 where there is nothing to go through."""
    folder = tmp_path / "archives"
    folder.mkdir()
    write(folder)
    edit(folder)
    code, out, err = command("check", f"--name={name}", folder=folder)
    assert code == expected
    complaints = [line for line in out + err if line.startswith(("bad: ", "error: "))]
    assert len(complaints) == 1
    assert re.search(message, complaints[0])
    code, _, err = command("prepare", f"--name={name}", folder=folder)
    assert (code, len(err)) == (2, 1)
    assert re.search(message, err[0])
    assert nothing_prepared(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["chek"], "invalid choice: 'chek'"),
        (["check", "again"], "unexpected argument 'again'"),
        (["prepare", "--nme=voc"], "unexpected argument '--nme=voc'"),
        (["check", "--option", "seed"], "want KEY=VALUE, not 'seed'"),
        (["check", "--name=vocc"], "unknown data set 'vocc'; did you mean voc\\?"),
        (["check", "--dir=.", "--option", "sed=1"], "unknown option of folder 'sed'; did you"),
        (["check", "--dir=.", "--option", "seed=x"], "option seed of folder is 'x': want a whole"),
        (["check"], r"folder needs its folder, .*--config\.data\.dir, or --dir"),
    ],
)
def test_a_user_s_mistake_is_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert re.search(rf"^error: .*{message}.*\n$", err)
    assert err.count("\n") == 1


def test_a_drawn_set_has_no_files(capsys):
    assert main(["check", "--name=streets"]) == 0
    assert "streets is drawn" in capsys.readouterr().out


def test_other_commands_get_the_rest():
    """What is not of the data set is left for the command, its --help included."""
    given = ["bench", "--name=streets", "--crop", "64", "128", "--option=train=3", "--help"]
    arguments, rest = parse(given)
    assert rest == ["--crop", "64", "128", "--help"]
    assert arguments.dataset["name"] == "streets"
    assert arguments.dataset["train"] == 3


def test_options_have_the_types_of_a_config():
    given = ["seed=-3", "window=0:4095", "skip_bad=true", "val_share=0.5", "classes=a=b"]
    arguments, _ = parse(["check", *(f"--option={option}" for option in given)])
    options = {k: arguments.dataset[k] for k in ("seed", "window", "skip_bad", "val_share")}
    assert options == {"seed": -3, "window": "0:4095", "skip_bad": True, "val_share": 0.5}
    assert arguments.dataset["classes"] == "a=b"


def test_a_killed_command_leaves_nothing_that_looks_finished(tmp_path):
    """The command itself, killed while it writes."""
    many = tmp_path / "many"
    for i in range(300):
        shape = (256, 256)
        fabricate.write(many / "images" / f"{i}.png", fabricate.encode(fabricate.image(i, shape)))
        fabricate.write(
            many / "masks" / f"{i}.png", fabricate.encode(fabricate.values(i, 3, shape))
        )
    prepared = tmp_path / "prepared"
    arguments = ["prepare", f"--dir={many}", f"--prepared-dir={prepared}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dropclass_jax.data", *arguments], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not list(prepared.rglob("*.array_record*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert list(prepared.rglob("*incomplete*"))
    assert not list(prepared.rglob("dataset_info.json"))
    assert main(arguments) == 0
    assert len(data.load("folder", many, prepared).splits["train"]) == 240


def test_an_unknown_error_is_a_bug_not_a_fault(source, monkeypatch, tmp_path):
    """What is not the user's mistake keeps its traceback."""

    monkeypatch.setattr(Folder, "read", lambda self, pair: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["check", f"--dir={source}"])
    with pytest.raises(UserError, match="unknown data set"):
        data.load("x")
