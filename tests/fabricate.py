"""Tiny copies of the public data sets in their official layouts, and folders as users have them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import scipy.io
import tifffile
from PIL import Image

from dropclass_jax.data.info import VOC

SHAPE = (24, 32)


def image(seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """RGB uint8 [H, W, 3] noise."""
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def values(seed: int, number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """uint8 [H, W] of blocks of 4 x 4, with every value from 0 to number - 1."""
    h, w = (-(-n // 4) for n in shape)
    blocks = np.random.default_rng(seed).permutation(np.arange(h * w) % number)
    return np.kron(blocks.reshape(h, w), np.ones((4, 4), int))[: shape[0], : shape[1]].astype("u1")


def encode(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    """A file of grey, RGB or RGBA pixels of 8 or 16 bits, or a TIFF of floats."""
    if pixels.dtype == np.float32:  # OpenCV's compression for them depends on its version
        tifffile.imwrite(file := io.BytesIO(), pixels)
        return file.getvalue()
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, order[pixels.shape[2]])
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
    ok, encoded = cv2.imencode(suffix, pixels, lossless)
    assert ok
    return encoded.tobytes()


def encode_palette(indices: np.ndarray, colors, format: str = "PNG", **options) -> bytes:
    """A palette image of indices."""
    picture = Image.fromarray(indices).convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette([channel for color in colors for channel in color])
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write a file and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    """A zip of members, with the directories and the litter that archives come with."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted({str(Path(name).parent) for name in members}):
            archive.writestr(f"{name}/", b"")
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("__MACOSX/._readme", b"litter")
        archive.writestr("README", b"licence")


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    """A tar of members, with the directories that archives come with."""
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("some_folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def unpack(members: dict[str, bytes], folder: Path) -> None:
    """Members of an archive as files."""
    for name, content in members.items():
        write(folder / name, content)


# Cityscapes. Three cities, of which one has two images.
CITYSCAPES_IDS = {
    "train": ["aachen_000000_000019", "aachen_000001_000019", "bochum_000000_000313"],
    "val": ["frankfurt_000000_000294"],
    "test": ["berlin_000000_000019"],
    "train_extra": ["augsburg_000000_000000"],
}


def cityscapes_images(*splits: str) -> dict[str, bytes]:
    """The members of ``leftImg8bit_*.zip``."""
    return {
        f"leftImg8bit/{split}/{name.split('_')[0]}/{name}_leftImg8bit.png": encode(image(seed))
        for split in splits
        for seed, name in enumerate(CITYSCAPES_IDS[split])
    }


def cityscapes_ids(split: str, seed: int) -> np.ndarray:
    """The label ids of an image: in ``test`` only what is no class."""
    return values(seed, 4 if split == "test" else 34)


def cityscapes_labels(annotation: str, *splits: str) -> dict[str, bytes]:
    """The members of ``gtFine_trainvaltest.zip`` or ``gtCoarse.zip``."""
    members = {}
    for split in splits:
        for seed, name in enumerate(CITYSCAPES_IDS[split]):
            stem = f"{annotation}/{split}/{name.split('_')[0]}/{name}_{annotation}"
            members[f"{stem}_labelIds.png"] = encode(cityscapes_ids(split, seed))
            members[f"{stem}_color.png"] = encode(image(seed))
            members[f"{stem}_polygons.json"] = b"{}"
    return members


def write_cityscapes(folder: Path) -> None:
    """The two zips of the fine annotations."""
    splits = ("train", "val", "test")
    write_zip(folder / "leftImg8bit_trainvaltest.zip", cityscapes_images(*splits))
    write_zip(folder / "gtFine_trainvaltest.zip", cityscapes_labels("gtFine", *splits))


# VOC. The images' sizes differ, as they do there.
VOC_IDS = {
    "train": ["2007_000032", "2007_000039"],
    "val": ["2007_000033"],
    "sbd": ["2008_000002", "2008_000003", "2007_000032", "2007_000033"],
}
VOC_SHAPES = {
    "2007_000032": (20, 32),
    "2007_000039": (24, 24),
    "2007_000033": (28, 20),
    "2008_000002": (24, 28),
    "2008_000003": (20, 24),
}


def voc_label(name: str) -> np.ndarray:
    """The label of an image, with a border of 255."""
    label = values(int(name[-2:]), VOC.num_classes, VOC_SHAPES[name])
    label[0] = 255
    return label


def sbd_label(name: str) -> np.ndarray:
    """SBD's label of an image, which is another than VOC's and has no border."""
    return values(100 + int(name[-2:]), VOC.num_classes, VOC_SHAPES[name])


def voc_members() -> dict[str, bytes]:
    """The members of ``VOCtrainval_11-May-2012.tar``."""
    root = "VOCdevkit/VOC2012"
    members = {}
    for seed, (name, shape) in enumerate(VOC_SHAPES.items()):
        members[f"{root}/JPEGImages/{name}.jpg"] = encode(image(seed, shape), ".jpg")
        members[f"{root}/Annotations/{name}.xml"] = b"<annotation/>"
    for split in ("train", "val"):
        lines = "".join(f"{name}\n" for name in VOC_IDS[split])
        members[f"{root}/ImageSets/Segmentation/{split}.txt"] = lines.encode()
        for name in VOC_IDS[split]:
            colors = [*VOC.colors, *([(0, 0, 0)] * (255 - 21)), (224, 224, 192)]
            members[f"{root}/SegmentationClass/{name}.png"] = encode_palette(
                voc_label(name), colors
            )
    return members


def sbd_members() -> dict[str, bytes]:
    """The members of ``benchmark.tgz``."""
    members = {"benchmark_RELEASE/dataset/train.txt": b"2008_000002\n"}
    for name in VOC_IDS["sbd"]:
        file = io.BytesIO()
        content = {"Segmentation": sbd_label(name), "CategoriesPresent": [1], "Boundaries": [0]}
        scipy.io.savemat(file, {"GTcls": content}, do_compression=True)
        members[f"benchmark_RELEASE/dataset/cls/{name}.mat"] = file.getvalue()
        members[f"benchmark_RELEASE/dataset/inst/{name}.mat"] = b"instances"
    return members


def aug_members() -> dict[str, bytes]:
    """The files of ``SegmentationClassAug``: of every image, VOC's own included."""
    labels = {name: sbd_label(name) for name in VOC_IDS["sbd"]}
    return {f"{name}.png": encode(label) for name, label in labels.items()}


def write_voc(folder: Path) -> None:
    """VOC's tar and SBD's."""
    write_tar(folder / "VOCtrainval_11-May-2012.tar", voc_members())
    write_tar(folder / "benchmark.tgz", sbd_members(), "w:gz")


# A folder of one's own.
FOLDER_IDS = {"train": ["a", "b", "deep/c"], "val": ["d"]}
FOLDER_CLASSES = 3


def write_folder(root: Path) -> None:
    """``images/train``, ``masks/train`` and so on, PNG images and index masks 0, 1, 2."""
    seed = 0
    for split, names in FOLDER_IDS.items():
        for name in names:
            write(root / "images" / split / f"{name}.png", encode(image(seed)))
            write(root / "masks" / split / f"{name}.png", encode(values(seed, FOLDER_CLASSES)))
            seed += 1
