"""Tiny exports of annotation tools, as these write them, with the labels that they mean.

Each ``write_*`` fills a folder and returns the classes and, by split and id, the labels: of uint8
[H, W], class indices. All are drawn by hand, as rows of digits, never by the code under test.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import NamedTuple

import fabricate
import numpy as np
from PIL import Image

SHAPE = (8, 10)


class Written(NamedTuple):
    """What an export means."""

    classes: tuple[str, ...]
    labels: dict[str, dict[str, np.ndarray]]


def picture(*rows: str) -> np.ndarray:
    """A label drawn as rows of digits, ``.`` for 0 and ``x`` for 255."""
    digits = {".": 0, "x": 255, **{str(d): d for d in range(10)}}
    return np.array([[digits[c] for c in row] for row in rows], np.uint8)


# Two labels that every export holds: a crack of two branches, and a pothole with part of a crack.
CRACK = picture(
    "..........",
    ".1111.....",
    ".1111.....",
    ".1111.....",
    "......111.",
    "......111.",
    "..........",
    "..........",
)
BOTH = picture(
    "..........",
    "..222.....",
    "..222.....",
    "..22211...",
    "....111...",
    "....111...",
    "..........",
    "..........",
)
NOTHING = np.zeros(SHAPE, np.uint8)
CLASSES = ("background", "crack", "pothole")
COLORS = np.array([(0, 0, 0), (250, 50, 83), (50, 183, 250)], np.uint8)


def image(seed: int, suffix: str = ".png") -> bytes:
    """An image file of the labels' size."""
    return fabricate.encode(fabricate.image(seed, SHAPE), suffix)


def write_json(path: Path, content: object) -> None:
    """A JSON file and the folders that it is in."""
    fabricate.write(path, json.dumps(content).encode())


# CVAT, Pascal VOC, ADE20K, Roboflow: masks.


def write_cvat(root: Path) -> Written:
    """``Segmentation mask 1.1`` of a project with the subsets Train and Validation."""
    labels = {"train": {"a": CRACK, "street/b": BOTH, "c": CRACK}, "val": {"d": BOTH}}
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncrack:250,50,83::\n"
    fabricate.write(root / "labelmap.txt", f"{text}pothole:50,183,250::\n".encode())
    for name, split in (("Train", "train"), ("Validation", "val")):
        lines = "".join(f"{n}\n" for n in labels[split])
        fabricate.write(root / f"ImageSets/Segmentation/{name}.txt", lines.encode())
        for seed, (n, label) in enumerate(labels[split].items()):
            fabricate.write(root / f"JPEGImages/{n}.jpg", image(seed, ".jpg"))
            mask = fabricate.encode(COLORS[label])
            fabricate.write(root / f"SegmentationClass/{n}.png", mask)
            fabricate.write(root / f"SegmentationObject/{n}.png", mask)
    return Written(CLASSES, labels)


def write_voc(root: Path) -> Written:
    """Pascal's palettes: a class a value, 255 along the edges, a list a split."""
    bordered = np.where(CRACK == 1, 1, NOTHING)
    bordered[0] = 255
    labels = {"train": {"2007_1": bordered, "2007_2": BOTH}, "val": {"2007_3": BOTH}}
    palette = [*map(tuple, COLORS.tolist()), *([(0, 0, 0)] * 252), (224, 224, 192)]
    for split, named in labels.items():
        lines = "".join(f"{n}\n" for n in named)
        fabricate.write(root / f"ImageSets/Segmentation/{split}.txt", lines.encode())
        for seed, (n, label) in enumerate(named.items()):
            fabricate.write(root / f"JPEGImages/{n}.jpg", image(seed, ".jpg"))
            mask = fabricate.encode_palette(label, palette)
            fabricate.write(root / f"SegmentationClass/{n}.png", mask)
    every = "".join(f"{n}\n" for named in labels.values() for n in named)
    fabricate.write(root / "ImageSets/Segmentation/trainval.txt", every.encode())
    return Written(("class_0", "class_1", "class_2"), labels)


def write_ade20k(root: Path) -> Written:
    """Values from 1 on, and 0 for what is no class."""
    info = "Idx\tRatio\tTrain\tVal\tName\n1\t0.15\t11664\t1172\twall\n"
    info += "2\t0.1\t6046\t612\tbuilding, edifice\n"
    fabricate.write(root / "objectInfo150.txt", info.encode())
    shown = {"train": {"ADE_train_1": CRACK, "ADE_train_2": BOTH}, "val": {"ADE_val_1": BOTH}}
    for split, folder in (("train", "training"), ("val", "validation")):
        for seed, (n, label) in enumerate(shown[split].items()):
            fabricate.write(root / f"images/{folder}/{n}.jpg", image(seed, ".jpg"))
            fabricate.write(root / f"annotations/{folder}/{n}.png", fabricate.encode(label))
    labels = {
        s: {n: (v.astype(int) - 1).astype("u1") for n, v in d.items()} for s, d in shown.items()
    }
    return Written(("wall", "building"), labels)


def write_roboflow(root: Path) -> Written:
    """``Semantic Segmentation Masks``."""
    labels = {
        "train": {"a_jpg.rf.1b": CRACK, "b_jpg.rf.2c": BOTH, "c_jpg.rf.3d": NOTHING},
        "val": {"d_jpg.rf.4e": BOTH},
        "test": {"e_jpg.rf.5f": CRACK},
    }
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        text = b"Pixel Value, Class\n0, background\n1, crack\n2, pothole\n"
        fabricate.write(root / folder / "_classes.csv", text)
        for seed, (n, label) in enumerate(labels[split].items()):
            fabricate.write(root / folder / f"{n}.jpg", image(seed, ".jpg"))
            fabricate.write(root / folder / f"{n}_mask.png", fabricate.encode(label))
    return Written(CLASSES, labels)


# COCO.


def rectangle(x: float, y: float, w: float, h: float) -> list[float]:
    """A polygon of whole pixels, as COCO writes it."""
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def runs(mask: np.ndarray) -> list[int]:
    """COCO's run lengths, column by column, the first of what is outside."""
    flat = mask.T.ravel().astype(int).tolist()
    found, last, length = [], 0, 0
    for value in flat:
        if value != last:
            found.append(length)
            last, length = value, 0
        length += 1
    return [*found, length]


def compressed(numbers: list[int]) -> str:
    """Run lengths as pycocotools writes them."""
    text = ""
    for i, number in enumerate(numbers):
        x = number - numbers[i - 2] if i > 2 else number
        while True:
            low, x = x & 31, x >> 5
            more = not (x == -1 if low & 16 else x == 0)
            text += chr(48 + (low | 32 if more else low))
            if not more:
                break
    return text


def coco(named: dict[str, list[tuple[int, dict]]]) -> dict:
    """The content of a COCO file: for every image its objects, as category and what is special."""
    images, annotations = [], []
    for number, (name, objects) in enumerate(named.items(), 11):
        images.append({"id": number, "file_name": name, "width": SHAPE[1], "height": SHAPE[0]})
        for category, what in objects:
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
            annotations.append({**entry, "iscrowd": 0, **what})
    categories = [
        {"id": 3, "name": "crack", "supercategory": "", "color": "#fa3253"},
        {"id": 7, "name": "pothole", "supercategory": ""},
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


CRACK_COCO = [(3, {"segmentation": [rectangle(1, 1, 4, 3), rectangle(6, 4, 3, 2)]})]
# The pothole lies over the crack, as it comes later.
BOTH_COCO = [
    (3, {"segmentation": {"size": list(SHAPE), "counts": compressed(runs(BOTH > 0))}}),
    (7, {"segmentation": [rectangle(2, 1, 3, 3)]}),
]
BOTH_COCO[0][1]["segmentation"]["counts"] = compressed(
    runs((BOTH == 1) | (np.indices(SHAPE)[0] < 3) * (BOTH == 2))
)


def write_coco(root: Path) -> Written:
    """As COCO and CVAT lay it out: ``images/`` with a folder a split, ``annotations/``."""
    labels = {
        "train": {"images/train/a": CRACK, "images/train/b": BOTH, "images/train/c": NOTHING},
        "val": {"images/val/d": BOTH},
    }
    crowd = {"iscrowd": 1, "segmentation": {"size": list(SHAPE), "counts": runs(CRACK > 0)}}
    train = {"a.png": [(3, crowd)], "b.png": BOTH_COCO, "c.png": []}
    for split, named in (("train", train), ("val", {"d.png": BOTH_COCO})):
        write_json(root / f"annotations/instances_{split}.json", coco(named))
        for seed, name in enumerate(named):
            fabricate.write(root / f"images/{split}/{name}", image(seed))
    return Written(CLASSES, labels)


def write_roboflow_coco(root: Path) -> Written:
    """Roboflow's COCO: images beside, and a category for the project itself."""
    labels = {"train": {"train/a": CRACK, "train/b": BOTH}, "val": {"valid/c": BOTH}}
    for folder, named in (
        ("train", {"a.jpg": CRACK_COCO, "b.jpg": BOTH_COCO}),
        ("valid", {"c.jpg": BOTH_COCO}),
    ):
        content = coco(named)
        for category in content["categories"]:
            category["supercategory"] = "roads"
        content["categories"].insert(0, {"id": 0, "name": "roads", "supercategory": "none"})
        write_json(root / folder / "_annotations.coco.json", content)
        for seed, name in enumerate(named):
            fabricate.write(root / folder / name, image(seed, ".jpg"))
    return Written(CLASSES, labels)


# labelme.


def png(mask: np.ndarray) -> str:
    """A mask as base64 of a PNG."""
    return base64.b64encode(fabricate.encode(mask.astype(np.uint8))).decode()


def shape(label: str, points: list, kind: str | None = "polygon", **more: object) -> dict:
    """A shape as labelme writes it."""
    entry = {"label": label, "points": points, "group_id": None, "flags": {}, **more}
    return entry if kind is None else {**entry, "shape_type": kind}


def labelme(path: str, shapes: list, data: bytes | None = None, **more: object) -> dict:
    """The content of a labelme file."""
    encoded = None if data is None else base64.b64encode(data).decode()
    size = {"imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": path}
    return {**content, "imageData": encoded, **size, **more}


# labelme's shapes hold the pixels of their outlines: corners are the outermost pixels.
CRACK_LABELME = [
    shape("crack", [[1, 1], [4, 3]], "rectangle"),
    shape("crack", [[6, 4], [8, 4], [8, 5], [6, 5]]),
]
BOTH_LABELME = [
    shape("crack", [[4, 3], [6, 5]], "mask", mask=png(np.ones((3, 3)))),
    shape("pothole", [[2, 1], [4, 1], [4, 3], [2, 3]], None),
]


def write_labelme(root: Path) -> Written:
    """A JSON file beside each image, one with the image inside, one of version 3."""
    labels = {"train": {"train/a": CRACK, "train/b": BOTH}, "val": {"val/c": BOTH}}
    fabricate.write(root / "train/a.jpg", image(0, ".jpg"))
    write_json(root / "train/a.json", labelme("a.jpg", CRACK_LABELME))
    write_json(root / "train/b.json", labelme("..\\photos\\b.jpg", BOTH_LABELME, image(1)))
    old = labelme("c.jpg", BOTH_LABELME, version="3.16.7")
    old = {k: v for k, v in old.items() if k not in ("imageHeight", "imageWidth")}
    fabricate.write(root / "val/c.jpg", image(2, ".jpg"))
    write_json(root / "val/c.json", {**old, "lineColor": [0, 255, 0, 128]})
    return Written(CLASSES, labels)


# Label Studio.


def brush(mask: np.ndarray, lengths: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """A brush stroke as Label Studio packs it: runs, and blocks of what differs."""
    values = np.zeros((*mask.shape, 4), int)
    values[mask > 0] = (200, 30, 7, 255)
    flat = values.ravel().tolist()
    bits = f"{len(flat):032b}{7:05b}" + "".join(f"{n - 1:04b}" for n in lengths)
    start = 0
    while start < len(flat):
        end = start + 1
        while end < len(flat) and flat[end] == flat[start]:
            end += 1
        if end - start > 1:
            end = min(end, start + 2 ** lengths[-1])
            which = next(i for i, n in enumerate(lengths) if end - start <= 2**n)
            bits += f"1{which:02b}{end - start - 1:0{lengths[which]}b}{flat[start]:08b}"
        else:
            while end < len(flat) and end - start < 8 and flat[end] != flat[end - 1]:
                end += 1
            bits += f"000{end - start - 1:0{lengths[0]}b}"
            bits += "".join(f"{value:08b}" for value in flat[start:end])
        start = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def region(kind: str, label: str, value: dict, **more: object) -> dict:
    """A result as Label Studio writes it."""
    size = {"original_width": SHAPE[1], "original_height": SHAPE[0], "image_rotation": 0}
    kept = {"type": kind, "value": {**value, kind: [label]}, "id": "x1", **size}
    return {**kept, "from_name": "tag", "to_name": "image", **more}


def percent(x: float, y: float, w: float, h: float) -> dict:
    """A rectangle of pixels in percent."""
    width, height = SHAPE[1] / 100, SHAPE[0] / 100
    return {"x": x / width, "y": y / height, "width": w / width, "height": h / height}


def corners(x: float, y: float, w: float, h: float) -> list[list[float]]:
    """The corners of a rectangle of pixels in percent."""
    flat = np.reshape(rectangle(x, y, w, h), (4, 2)) * (100 / SHAPE[1], 100 / SHAPE[0])
    return flat.tolist()


CRACK_REGIONS = [
    region("rectanglelabels", "crack", {**percent(1, 1, 4, 3), "rotation": 0}),
    region("polygonlabels", "crack", {"points": corners(6, 4, 3, 2), "closed": True}),
]
BOTH_REGIONS = [
    region("brushlabels", "crack", {"format": "rle", "rle": brush(BOTH == 1)}),
    region("polygonlabels", "pothole", {"points": corners(2, 1, 3, 3)}),
]


def task(number: int, name: str, result: list | None, **more: object) -> dict:
    """A task with one annotation, or with none."""
    done = {"id": 90 + number, "was_cancelled": False, "created_at": "2024-05-01T10:00:00Z"}
    annotations = [] if result is None else [{**done, "result": result, **more}]
    image_name = f"/data/upload/1/8a1b2c3d-{name}"
    return {"id": number, "data": {"image": image_name}, "annotations": annotations}


def write_label_studio(root: Path) -> Written:
    """The JSON export, with the images in a folder beside; no splits."""
    labels = {
        f"images/8a1b2c3d-{n}": label for n, label in zip("abcd", (CRACK, BOTH) * 2, strict=True)
    }
    tasks = []
    for number, name in enumerate("abcd"):
        regions = (CRACK_REGIONS, BOTH_REGIONS)[number % 2]
        tasks.append(task(number, f"{name}.jpg", regions))
        fabricate.write(root / f"images/8a1b2c3d-{name}.jpg", image(number, ".jpg"))
    write_json(root / "project-1-at-2024-05-01.json", tasks)
    return Written(CLASSES, {"train": labels})


# Supervisely.


def bitmap(mask: np.ndarray) -> dict:
    """A compressed bitmap: a palette whose 0 is transparent, as the SDK writes it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    cut = mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8)
    drawn = Image.fromarray(cut)
    drawn.putpalette([0, 0, 0, 255, 255, 255])
    file = io.BytesIO()
    drawn.save(file, "PNG", transparency=0)
    data = base64.b64encode(zlib.compress(file.getvalue())).decode()
    return {"data": data, "origin": [left, top]}


def sly(objects: list, tags: tuple[str, ...] = ()) -> dict:
    """An annotation of Supervisely's."""
    size = {"height": SHAPE[0], "width": SHAPE[1]}
    return {
        "description": "",
        "tags": [{"name": t} for t in tags],
        "size": size,
        "objects": objects,
    }


def sly_object(title: str, kind: str, **more: object) -> dict:
    """An object of Supervisely's."""
    return {"id": 1, "classTitle": title, "geometryType": kind, **more}


def ring(*points: list) -> dict:
    """The points of an outline."""
    return {"points": {"exterior": list(points), "interior": []}}


CRACK_SLY = [sly_object("crack", "bitmap", bitmap=bitmap(CRACK == 1))]
BOTH_SLY = [
    sly_object("crack", "rectangle", **ring([4, 3], [6, 5])),
    sly_object("pothole", "polygon", **ring([2, 1], [4, 1], [4, 3], [2, 3])),
]


def write_supervisely(root: Path) -> Written:
    """Two datasets called as splits; one annotation of the old naming."""
    labels = {"train": {"train/a": CRACK, "train/b": BOTH}, "val": {"val/c": BOTH}}
    titles = (("crack", "#FA3253"), ("pothole", "#32B7FA"))
    classes = [{"title": t, "shape": "any", "color": c, "id": 1} for t, c in titles]
    write_json(root / "meta.json", {"classes": classes, "tags": []})
    for path, name, objects in (
        ("train", "a.jpg.json", CRACK_SLY),
        ("train", "b.json", BOTH_SLY),
        ("val", "c.jpg.json", BOTH_SLY),
    ):
        write_json(root / path / "ann" / name, sly(objects))
        fabricate.write(root / path / "img" / f"{name[0]}.jpg", image(ord(name[0]), ".jpg"))
    return Written(CLASSES, labels)


# All, with the line that names each.
EXPORTS = {
    "CVAT segmentation masks: 3 classes, 4 images": write_cvat,
    "Pascal VOC masks: 3 images": write_voc,
    "ADE20K folders: 2 classes, 3 images": write_ade20k,
    "Roboflow segmentation masks: 3 classes, 5 images": write_roboflow,
    "COCO annotations: 3 classes, 4 images": write_coco,
    "COCO annotations: 3 classes, 3 images": write_roboflow_coco,
    "labelme annotations: 3 classes, 3 images": write_labelme,
    "Label Studio annotations: 3 classes, 4 images": write_label_studio,
    "Supervisely project: 3 classes, 3 images": write_supervisely,
}
