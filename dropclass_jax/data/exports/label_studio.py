"""Label Studio: its JSON, its JSON-MIN and its PNG masks.

    project-1-at-2024-05-01.json    images/ or anywhere: looked up by the names of the tasks
    task-7-annotation-9-by-1-tag-Car-0.png ...      PNG masks; the JSON says of which image

Brush strokes are the pixels whose alpha is above 0, as for ``label_studio_converter.brush``.
Polygons, rectangles and ellipses, which are turned clockwise, have their corners in percent of the
image and are drawn by pixel centres. (The converter's COCO export leaves polygons as they are; that
of brushes, of 2024, rounds them to whole pixels.) Regions are drawn in the order of the result.

A task counts with the annotation that was begun last and not skipped. Before version 1.0
annotations were called ``completions``, and had no size of the image. A task without an annotation
is an image of which nothing is said, as is an image without a task; one with an empty result was
looked at and is empty. A task of several images is refused.

PNG masks alone name tasks and labels but no image: a task is then the image called as its number.
See https://labelstud.io/guide/export and the ``label_studio_sdk.converter`` package.
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from dropclass_jax.data import codec
from dropclass_jax.data.exports import polygons
from dropclass_jax.data.exports.drawing import Export, Picture, Rules, assemble, unnamed
from dropclass_jax.data.exports.tree import (
    Images,
    Samples,
    Tree,
    as_written,
    is_image,
    read_json,
    split_of,
    split_of_list,
    stem,
)
from dropclass_jax.errors import UserError

TOOL = "Label Studio"
# task-ID-annotation-ID-by-WHOM-TAG-LABEL-NUMBER.png
MASK = re.compile(r"(?:.*/)?task-(\d+)-annotation-(\d+)-by-([^-]*)-([^-]+)-(.+)-(\d+)\.png")
SHAPES = ("rle", "points", "radiusX", "height")  # a key point has a width alone
IMAGE_KEYS = ("image", "img", "ocr")


def read(tree: Tree, samples: Samples, rules: Rules) -> Export | None:
    """The export, or None if it is another's; arguments and errors as ``coco.read``."""
    folders = {posixpath.dirname(path) for path, content in samples.items() if _is_list(content)}
    masks = {path: match for path in tree if (match := MASK.fullmatch(path))}
    if not folders and not masks:
        return None
    images, left = Images(tree), Counter()
    pictures: list[Picture] = []
    faults: list[str] = []
    drawn = _masks(masks, tree)
    seen: dict[str, str] = {}
    named: set[str] = set()
    for path, file in tree.items():
        if not path.endswith(".json") or posixpath.dirname(path) not in folders:
            continue
        content = samples[path] if path in samples else read_json(file)
        if not _is_list(content):
            continue
        for position, task in enumerate(content, 1):
            where = f"{file.where}: task {task.get('id', position)}"
            try:
                with as_written(where, TOOL):
                    image = _find(images, _image_name(task, where), path, where)
                    named.add(image)
                    size, objects = _task(task, left)
            except UserError as error:
                faults.append(str(error))
                continue
            if objects is None:
                objects = drawn.pop(str(task.get("id")), None)
            if seen.setdefault(image, where) != where:
                faults.append(f"{where} is of {image}, as is {seen[image]}: keep one")
                continue
            split = split_of_list(path) or split_of(image)
            pictures.append(
                Picture(stem(image), split, tree[image], f"{where} ({image})", size, objects)
            )
    if folders:
        pictures += unnamed(images, tree, named | masks.keys())
    else:
        more, wrong = _by_number(drawn, masks, tree)
        pictures, faults = pictures + more, faults + wrong
    names = sorted({name for p in pictures for name, _ in p.objects or () if name is not None})
    notes = [f"{what}: {number}" for what, number in left.items()]
    title = "Label Studio annotations" if folders else "Label Studio PNG masks"
    return assemble(
        title, TOOL, paint, pictures, faults, dict.fromkeys(names), "the export", rules, notes
    )


def _is_list(content: Any) -> bool:
    if not isinstance(content, list) or not content:
        return False
    if not all(isinstance(task, dict) for task in content):
        return False
    first = content[0]
    if isinstance(first.get("data"), dict):
        return True
    return "annotation_id" in first or ("annotator" in first and "id" in first)  # JSON-MIN


def _find(images: Images, name: str, path: str, where: str) -> str:
    """The path of an image, which may be called as before it was uploaded."""
    base = posixpath.basename(name)
    before = re.sub(r"^[0-9a-f]{8}-", "", base)
    return images.find(before if before in images and base not in images else name, path, where)


def _image_name(task: dict, where: str) -> str:
    """What a task calls its image: the one of its data that looks like one."""
    data = task["data"] if isinstance(task.get("data"), dict) else task
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    shown = {k: v for k, v in texts.items() if is_image(v.partition("?")[0]) or is_image(v)}
    # The tag that regions belong to is usually called as its data.
    drawn_on = {
        result["to_name"]
        for annotation in task.get("annotations", task.get("completions")) or ()
        for result in annotation.get("result", ())
        if "to_name" in result
    }
    shown = {key: v for key, v in shown.items() if drawn_on == {key}} or shown
    if len({posixpath.basename(value.partition("?")[0]) for value in shown.values()}) > 1:
        raise UserError(
            f"{where} has several images ({', '.join(shown)}), and a label is of one: make a task "
            "of each"
        )
    for value in (*shown.values(), *(texts[key] for key in IMAGE_KEYS if key in texts)):
        return value
    raise ValueError("it has no image")


def _task(task: dict, left: Counter) -> tuple[tuple[int, int] | None, list | None]:
    """Size of the image, where it says so, and the regions; None without an annotation."""
    if isinstance(task.get("data"), dict):
        annotations = task.get("annotations", task.get("completions")) or []
        counted = [a for a in annotations if not (a.get("was_cancelled") or a.get("skipped"))]
        if not counted:
            return None, None
        newest = max(enumerate(counted), key=lambda item: (str(item[1].get("created_at")), item[0]))
        if len(counted) > 1:
            left["regions of older annotations of a task, which are left out"] += sum(
                len(a["result"]) for a in counted if a is not newest[1]
            )
        regions = [
            {**r["value"], "id": r.get("id"), **_frame(r)}
            for r in newest[1]["result"]
            if isinstance(r.get("value"), dict) and r.get("type") != "relation"
        ]
    else:
        lists = [value for value in task.values() if isinstance(value, list)]
        regions = [region for found in lists for region in found if isinstance(region, dict)]
    return _regions(regions, left)


def _frame(result: dict) -> dict:
    keys = ("original_width", "original_height", "image_rotation")
    return {key: result[key] for key in keys if key in result}


def _regions(
    regions: Sequence[dict], left: Counter
) -> tuple[tuple[int, int] | None, list[tuple[str, dict]]]:
    size, objects = None, []
    # A region of <Labels> and a tool of its own stands there twice, once with its label.
    labelled = {region.get("id") for region in regions if _labels(region)} - {None}
    for region in regions:
        if region.get("image_rotation"):
            raise ValueError(f"the image was turned by {region['image_rotation']} degrees there")
        kind = next((key for key in SHAPES if key in region), None)
        labels = _labels(region)
        if not labels and (kind is None or region.get("id") in labelled):
            continue  # a choice or a text, or the twin
        if kind is None or not labels:
            left["regions without an area or a label, which are left out"] += 1
            continue
        if kind == "points" and len(region["points"]) < 3:
            left["polygons of fewer than three points, which are left out"] += 1
            continue
        if len(labels) > 1:
            left["regions of several labels, of which the first counts"] += 1
        if "original_width" in region:
            size = (region["original_height"], region["original_width"])
        shape = ("rle", "points", "x", "y", "width", "height", "radiusX", "radiusY", "rotation")
        objects.append((labels[0], {key: region[key] for key in shape if key in region}))
    return size, objects


def _labels(region: dict) -> list[str]:
    found = [value for key, value in region.items() if key.endswith("labels")]
    return [label for labels in found if isinstance(labels, list) for label in labels]


def _masks(masks: dict[str, re.Match], tree: Tree) -> dict[str, list[tuple[str, dict]]]:
    """The regions of each task that PNG files hold, those of its newest annotation."""
    newest: dict[str, int] = {}
    for match in masks.values():
        newest[match[1]] = max(newest.get(match[1], 0), int(match[2]))
    by_task: dict[str, list[tuple[str, dict]]] = {task: [] for task in newest}
    for path, match in sorted(masks.items(), key=lambda item: (item[1][5], int(item[1][6]))):
        if int(match[2]) == newest[match[1]]:
            encoded = base64.b64encode(tree[path].read()).decode()
            by_task[match[1]].append((match[5], {"png": encoded}))
    return by_task


def _by_number(
    drawn: dict[str, list], masks: dict[str, re.Match], tree: Tree
) -> tuple[list[Picture], list[str]]:
    """Images called as the numbers of the tasks, where no JSON says more."""
    numbered = {
        posixpath.basename(stem(path)).removeprefix("task-"): path
        for path in tree
        if is_image(path) and path not in masks
    }
    pictures, faults = [], []
    for task, objects in drawn.items():
        if (path := numbered.get(task)) is None:
            faults.append(
                f"{next(tree[p].where for p, m in masks.items() if m[1] == task)} is of task "
                f"{task}, and no image is called so: put Label Studio's JSON export beside"
            )
            continue
        file = tree[path]
        pictures.append(
            Picture(stem(path), split_of(path), file, f"task {task} ({path})", None, objects)
        )
    return pictures, faults


def paint(label: np.ndarray, region: dict, value: int) -> None:
    """Draw a region."""
    height, width = label.shape
    if "png" in region:
        mask = codec.decode_unchanged(base64.b64decode(region["png"]))
        if mask is None or mask.shape[:2] != label.shape:
            raise ValueError("its mask is no picture of the image's size")
        label[(mask if mask.ndim == 2 else mask.max(axis=2)) > 0] = value
    elif "rle" in region:
        label[decode(region["rle"], height, width) > 0] = value
    else:
        label_size = np.array((width, height), np.float64) / 100
        turn = region.get("rotation") or 0
        if "points" in region:
            ring = polygons.points_of(region["points"]) * label_size
        elif "radiusX" in region:
            keys = ("x", "y", "radiusX", "radiusY")
            ring = polygons.ellipse(*_pixels(region, keys, label_size), turn)
        else:
            ring = polygons.box(*_pixels(region, ("x", "y", "width", "height"), label_size), turn)
        polygons.paint(label, polygons.points_of(ring), value)


def _pixels(region: dict, keys: tuple[str, ...], scale: np.ndarray) -> list[float]:
    percent = polygons.points_of([region[key] for key in keys])
    return (percent * scale).ravel().tolist()


def decode(rle: Sequence[int], height: int, width: int) -> np.ndarray:
    """The alpha of a brush stroke from the run-length code of npm's ``@thi.ng/rle-pack``.

    The bytes are read as bits, the highest first: 32 for the number of values, 5 for the bits of a
    value less one, four times 4 for the bits of a length less one. Then come blocks of a bit, which
    says whether it is a run, two that choose the bits of its length, the length less one, and the
    value of the run or all the values of the block. The values are the RGBA of the picture.

    Args:
      rle: the bytes.
      height: of the image.
      width: of the image.

    Returns:
      uint8 [height, width].

    Raises:
      ValueError: the code is cut short, or of a picture of another size.
    """
    bits = np.unpackbits(np.asarray(rle, np.uint8))
    position = 0

    def take(number: int, width: int) -> np.ndarray:
        nonlocal position
        end = position + number * width
        if end > len(bits):
            raise ValueError("its brush stroke is cut short")
        words = bits[position:end].reshape(number, width)
        position = end
        return words @ (1 << np.arange(width - 1, -1, -1))

    total = int(take(1, 32)[0])
    if total != 4 * height * width:
        raise ValueError(f"its brush stroke is not of {height}x{width} pixels")
    word = int(take(1, 5)[0]) + 1
    lengths = [int(length) + 1 for length in take(4, 4)]
    values = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        is_run, which = take(1, 1)[0], take(1, 2)[0]
        number = min(int(take(1, lengths[which])[0]) + 1, total - done)
        values[done : done + number] = take(1 if is_run else number, word)
        done += number
    return values.reshape(height, width, 4)[..., 3]
