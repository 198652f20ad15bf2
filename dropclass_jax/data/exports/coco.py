"""COCO JSON: what COCO, CVAT, Label Studio, Roboflow and many others write.

    annotations/instances_train.json, instances_val.json    images/, or one folder a split
    train/_annotations.coco.json, valid/..., test/...       the images beside (Roboflow)
    result.json                                             images/ (Label Studio)

``segmentation`` is a list of polygons, which together are the object; or a run-length code, as a
list of numbers (COCO's crowds, CVAT's masks) or compressed to a text (pycocotools). Polygons are
drawn by pixel centres; pycocotools draws on a grid of fifths of a pixel, and differs from that at
a pixel of an edge here and there. pycocotools has no way to draw several objects into one map:
here those of an image follow each other in the order of the file, crowds first, since their
outlines are rough.

Roboflow lists its project as a category of its own, without objects, above the others: that one
is left out. See https://cocodataset.org/#format-data, and ``maskApi.c`` of the COCO API.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from typing import Any

import numpy as np

from dropclass_jax.data.exports import polygons
from dropclass_jax.data.exports.drawing import (
    Color,
    Export,
    Picture,
    Rules,
    assemble,
    hex_color,
    unnamed,
)
from dropclass_jax.data.exports.tree import (
    Images,
    Samples,
    Tree,
    as_written,
    read_json,
    split_of,
    split_of_list,
    stem,
)
from dropclass_jax.errors import UserError

TOOL = "COCO JSON"
BOXED = "objects with a box and no mask, the pixels of which are ignored"


def read(tree: Tree, samples: Samples, rules: Rules) -> Export | None:
    """The export, or None if it is another's.

    Args:
      tree: its files.
      samples: what the first JSON files of each folder hold.
      rules: what becomes of what nobody labelled.

    Raises:
      UserError: it is COCO's, and broken as a whole.
    """
    folders = {posixpath.dirname(path) for path, content in samples.items() if _is_list(content)}
    lists = {}
    for path, file in tree.items():
        if path.endswith(".json") and posixpath.dirname(path) in folders:
            content = samples[path] if path in samples else read_json(file)
            if _is_list(content) and "categories" in content:
                lists[path] = content
    if not lists:
        return None
    lists, others = _of_objects(lists)
    colors: dict[str, Color | None] = {}
    images, left = Images(tree), Counter()
    pictures, faults, used = [], [], set()
    for path, content in lists.items():
        with as_written(tree[path].where, TOOL):
            names = _classes(content, tree[path].where, colors)
            more, wrong, found = _pictures(path, content, tree, images, names, left)
        pictures += more
        faults += wrong
        used |= found
    pictures += unnamed(images, tree, used)
    where = tree[next(iter(lists))].where
    if left[BOXED] and not any(name for p in pictures for name, _ in p.objects or ()):
        raise UserError(f"{where} has boxes and no masks: export polygons or masks")
    notes = [f"{what}: {number}" for what, number in left.items() if number]
    if others:
        beside = ", ".join(tree[path].where for path in lists)
        notes += [f"{tree[path].where}: left out beside {beside}" for path in others]
    return assemble("COCO annotations", TOOL, paint, pictures, faults, colors, where, rules, notes)


def _of_objects(lists: dict[str, dict]) -> tuple[dict[str, dict], list[str]]:
    """The lists to read, and others: COCO has lists of keypoints and of whole pictures beside.

    Of one split, a list that is called ``instances_`` goes before others.
    """

    def is_another(content: dict) -> bool:
        categories, annotations = content["categories"], content["annotations"]
        return any(isinstance(c, dict) and "keypoints" in c for c in categories) or any(
            isinstance(a, dict) and "segments_info" in a for a in annotations[:1]
        )

    kept = {path: content for path, content in lists.items() if not is_another(content)} or lists
    called = {path for path in kept if posixpath.basename(path).startswith("instances_")}
    covered = {split_of_list(path) for path in called}
    kept = {p: c for p, c in kept.items() if p in called or split_of_list(p) not in covered}
    return kept, [path for path in lists if path not in kept]


def _is_list(content: Any) -> bool:
    is_object = isinstance(content, dict)
    return is_object and all(isinstance(content.get(k), list) for k in ("images", "annotations"))


def _classes(content: dict, where: str, colors: dict[str, Color | None]) -> dict[Any, str]:
    """The names of a file's categories by their ids; new ones are added to ``colors``."""
    used = {annotation["category_id"] for annotation in content["annotations"]}
    above = {category.get("supercategory") for category in content["categories"]}
    names: dict[Any, str] = {}
    for category in content["categories"]:
        number, name = category["id"], category["name"]
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"category {number!r} has the name {name!r}")
        if number not in used and name in above and category.get("supercategory") in (None, "none"):
            continue  # Roboflow's project
        if number in names or name in names.values():
            what = f"have the id {number!r}" if number in names else f"are called {name!r}"
            raise UserError(f"{where}: two categories {what}: correct one")
        names[number] = name
        colors.setdefault(name, hex_color(category.get("color")))
    return names


def _pictures(
    path: str,
    content: dict,
    tree: Tree,
    images: Images,
    names: dict[Any, str],
    left: Counter,
) -> tuple[list[Picture], list[str], set[str]]:
    """The images of one file with their objects, what is wrong with others, and all found."""
    where = tree[path].where
    objects: dict[Any, list[dict]] = {}
    for annotation in content["annotations"]:
        objects.setdefault(annotation["image_id"], []).append(annotation)
    pictures, faults = [], []
    users: dict[str, Any] = {}
    for entry in content["images"]:
        number, what = entry["id"], f"{where}: image {entry['id']!r}"
        if number in users.values():
            faults.append(f"{where} lists two images with the id {number!r}: export it again")
            continue
        try:
            image = images.find(entry["file_name"], path, what)
        except UserError as error:
            faults.append(str(error))
            continue
        if users.setdefault(image, number) != number:
            faults.append(
                f"{where} lists {image} twice, as {users[image]!r} and {number!r}: keep one"
            )
            continue
        # Crowds first; what is ignored before all.
        things = sorted(objects.get(number, ()), key=lambda a: not a.get("iscrowd"))
        things = [thing for a in things if (thing := _object(a, names, left)) is not None]
        things.sort(key=lambda thing: thing[0] is not None)
        split = split_of_list(path) or split_of(image)
        size = (entry["height"], entry["width"])
        pictures.append(Picture(stem(image), split, tree[image], f"{what} ({image})", size, things))
    listed = {entry["id"] for entry in content["images"]}
    if strays := objects.keys() - listed:
        faults.append(
            f"{where} has objects of image {min(strays, key=str)!r}, which it does not list"
        )
    return pictures, faults, set(users)


def _object(
    annotation: dict, names: dict[Any, str], left: Counter
) -> tuple[str | None, Any] | None:
    """Class and outline of an object; None if it has no area."""
    number = annotation["category_id"]
    # One that no list has is refused, with its image, when labels are made.
    name = names.get(number, f"category {number!r}")
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        return name, {"size": outline["size"], "counts": outline["counts"]}
    if outline:
        is_small = all(isinstance(ring, list) and len(ring) < 6 for ring in outline)
        left["objects of fewer than three points, which are left out"] += is_small
        return None if is_small else (name, outline)
    x, y, width, height = annotation.get("bbox") or (0, 0, 0, 0)
    left[BOXED] += 1
    return None, [polygons.box(x, y, width, height).tolist()]


def paint(label: np.ndarray, outline: Any, value: int) -> None:
    """Draw polygons or a run-length code."""
    if isinstance(outline, dict):
        mask = decode(outline["counts"], *outline["size"])
        if mask.shape != label.shape:
            sizes = [f"{height}x{width}" for height, width in (mask.shape, label.shape)]
            raise ValueError("its mask is {}, its image {}".format(*sizes))
        label[mask] = value
        return
    for ring in outline:
        polygons.paint(label, polygons.points_of(ring), value)


def decode(counts: str | list[int], height: int, width: int) -> np.ndarray:
    """A mask from COCO's run-length code, column by column, the first run outside.

    Compressed, a number is written in groups of five bits, the lowest first, as characters from
    ``0`` on; the sixth bit says that more follow, the fifth of the last group is the sign. From
    the fourth number on it is the difference to the one before the last.

    >>> decode("111", 1, 3).astype(int).tolist()
    [[0, 1, 0]]

    Args:
      counts: the runs, or the text that they are compressed to.
      height: of the mask.
      width: of the mask.

    Returns:
      bool [height, width].

    Raises:
      ValueError: the runs do not fill the mask.
    """
    runs = np.array(_runs(counts) if isinstance(counts, str) else counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"its runs do not fill {height}x{width} pixels")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _runs(text: str) -> list[int]:
    runs: list[int] = []
    number, shift = 0, 0
    for character in text.encode("ascii"):
        group = character - 48
        if not 0 <= group < 64:
            raise ValueError(f"its run-length code has the character {chr(character)!r}")
        number |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            number -= 1 << shift
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number, shift = 0, 0
    if shift:
        raise ValueError("its run-length code is cut short")
    return runs
