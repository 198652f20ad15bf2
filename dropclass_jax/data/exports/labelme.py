"""labelme: a JSON file beside each image, with the image's bytes in it or without.

    a.jpg  a.json  b.jpg  b.json ...        or the JSON files in a folder of their own

Shapes are drawn as ``labelme.utils.shapes_to_label`` does, in their order: by Pillow, whose shapes
hold the pixels of their outlines too, half a pixel more than by pixel centres; lines 10 pixels
wide, points as discs of 11. So the labels are those of labelme's own ``labelme2voc`` (of 6.3; later
ones round the joints of lines). A ``mask`` is a picture at a place.

Where ``imageData`` is filled it is the image, as for labelme, whatever lies beside. The classes are
those of ``labels.txt``, in its order, else all that there are, by name; ``__ignore__`` is what its
converters give -1: ignored. An image without a JSON file is one of which nothing is said:
labelme does not save an image without a shape.

Of 3.x, old files have no ``shape_type`` (all are polygons) and no size of the image; masks came
with 5.3, turned rectangles with 6. See https://github.com/wkentaro/labelme.
"""

from __future__ import annotations

import base64
import math
import posixpath
import zlib
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dropclass_jax.data import codec
from dropclass_jax.data.exports import polygons
from dropclass_jax.data.exports.drawing import Export, Picture, Rules, assemble, unnamed
from dropclass_jax.data.exports.tree import (
    Images,
    Samples,
    Tree,
    as_written,
    read_json,
    read_text,
    split_of,
    stem,
)
from dropclass_jax.data.files import File
from dropclass_jax.errors import UserError

TOOL = "labelme"
IGNORE = "__ignore__"
LINE_WIDTH, POINT_RADIUS = 10, 5
# The kinds of shapes and how many points they have, where that is fixed.
POINTS = {
    **{"polygon": None, "linestrip": None, "oriented_rectangle": 4, "point": 1},
    **dict.fromkeys(("circle", "rectangle", "line", "mask"), 2),
}


def read(tree: Tree, samples: Samples, rules: Rules) -> Export | None:
    """The export, or None if it is another's; arguments and errors as ``coco.read``."""
    folders = {posixpath.dirname(path) for path, content in samples.items() if _is_labelme(content)}
    if not folders:
        return None
    images, left = Images(tree), Counter()
    pictures: list[Picture] = []
    faults: list[str] = []
    used, others = set(), []
    beside: dict[str, list[str]] = {}
    for path in images.paths:
        beside.setdefault(stem(path), []).append(path)
    for path, file in tree.items():
        if not path.endswith(".json") or posixpath.dirname(path) not in folders:
            continue
        try:
            content = samples[path] if path in samples else read_json(file)
            if not _is_labelme(content):
                others.append(path)
                continue
            with as_written(file.where, TOOL):
                objects = [t for s in content["shapes"] if (t := _object(s, left)) is not None]
                image, inside = _image(content, path, file, tree, images)
                size = (content.get("imageHeight"), content.get("imageWidth"))
        except UserError as error:
            faults.append(str(error))
            used.update(beside.get(stem(path), ()))  # it is annotated, if badly
            continue
        used.update(beside.get(stem(path), ()) if image is None else [image])
        known = None if None in size else size
        name = stem(path if image is None else image)
        split = split_of(path) or split_of(image or "")
        pictures.append(Picture(name, split, inside or tree[image], file.where, known, objects))
    if not pictures and faults:
        raise UserError(faults[0])
    pictures += unnamed(images, tree, used, folders)
    names, listed_in = _classes(tree, pictures)
    notes = [f"{what}: {number}" for what, number in left.items()]
    if others:
        notes.append(f"left out, as none of labelme's: {others[0]} and {len(others) - 1} more")
    return assemble(
        "labelme annotations",
        TOOL,
        paint,
        pictures,
        faults,
        dict.fromkeys(names),
        listed_in,
        rules,
        notes,
    )


def _is_labelme(content: Any) -> bool:
    is_object = isinstance(content, dict)
    return is_object and isinstance(content.get("shapes"), list) and "imagePath" in content


def _object(shape: dict, left: Counter) -> tuple[str | None, dict] | None:
    """Class and shape; None if it has no area."""
    name, kind, points = shape["label"], shape.get("shape_type") or "polygon", shape["points"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"a shape has the label {name!r}")
    if kind not in POINTS:
        raise ValueError(f"a shape of {name!r} is a {kind!r}, which has no area")
    if kind == "polygon" and len(points) < 3:
        left["polygons of fewer than three points, which are left out"] += 1
        return None
    kept = {"kind": kind, "points": points, "mask": shape.get("mask")}
    return None if name == IGNORE else name, kept


def _image(
    content: dict, path: str, file: File, tree: Tree, images: Images
) -> tuple[str | None, File | None]:
    """The path of the image, or the image itself where it is inside of the JSON file."""
    encoded = content.get("imageData")
    if not encoded:
        return images.find(content["imagePath"], path, file.where, is_relative=True), None
    data = base64.b64decode(encoded)

    def read() -> bytes:
        with as_written(file.where, TOOL):
            return base64.b64decode(read_json(file)["imageData"])

    return None, File(f"{file.where} (imageData)", len(data), read, crc=zlib.crc32(data))


def _classes(tree: Tree, pictures: list[Picture]) -> tuple[list[str], str]:
    """The names of the classes, and the file that lists them."""
    for path in ("labels.txt", "classes.txt"):
        if path in tree:
            lines = [line.strip() for line in read_text(tree[path]).splitlines()]
            names = [line for line in dict.fromkeys(lines) if line and line != IGNORE]
            return names, tree[path].where
    found = {name for picture in pictures for name, _ in picture.objects or ()}
    return sorted(found - {None}), "labels.txt"


def paint(label: np.ndarray, shape: dict, value: int) -> None:
    """Draw a shape as labelme does."""
    kind, points = shape["kind"], polygons.points_of(shape["points"])
    if len(points) != (POINTS[kind] or len(points)) or not len(points):
        raise ValueError(f"a {kind} of {len(points)} points")
    if kind == "mask":
        _stamp(label, shape["mask"], points[0], value)
        return
    mask = Image.fromarray(np.zeros(label.shape, np.uint8))
    draw = ImageDraw.Draw(mask)
    corners = [(x, y) for x, y in points.tolist()]
    if kind == "circle":
        (x, y), other = corners
        _disc(draw, x, y, math.dist((x, y), other))
    elif kind == "point":
        _disc(draw, *corners[0], POINT_RADIUS)
    elif kind == "rectangle":
        draw.rectangle([*points.min(axis=0).tolist(), *points.max(axis=0).tolist()], 1, 1)
    elif kind in ("line", "linestrip"):
        draw.line(corners, fill=1, width=LINE_WIDTH)
    else:
        draw.polygon(corners, outline=1, fill=1)
    label[np.asarray(mask) > 0] = value


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=1, outline=1)


def _stamp(label: np.ndarray, encoded: Any, corner: np.ndarray, value: int) -> None:
    """A mask with its top left pixel at a corner; what lies outside of the label is cut off."""
    mask = codec.decode_unchanged(base64.b64decode(encoded))
    if mask is None:
        raise ValueError("its mask is no picture")
    mask = mask if mask.ndim == 2 else mask[..., :3].any(axis=2)
    left, top = corner.astype(int).tolist()
    height, width = label.shape
    cut = mask[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    top, left = max(top, 0), max(left, 0)
    label[top : top + cut.shape[0], left : left + cut.shape[1]][cut > 0] = value
