"""Supervisely: a project of datasets.

    meta.json    DATASET/img/a.jpg    DATASET/ann/a.jpg.json ...

``bitmap`` objects are PNG pictures, most of them compressed by zlib, at a place; in versions of
before 2019 the annotation of ``a.jpg`` is ``a.json``. Bitmaps, polygons and rectangles are drawn as
Supervisely's SDK does, in the order of the file: coordinates are floored to whole pixels (those of
newer exports have fractions), and OpenCV fills polygons with the pixels of their outlines, half a
pixel more than by pixel centres. The holes of an object show what was drawn before it.

A dataset called ``train``, ``val`` or ``test`` is that split, and so is a tag of an image; others
are one set. Supervisely writes an annotation for every image, so that no object means an empty one.
See https://developer.supervisely.com and the ``supervisely`` package.
"""

from __future__ import annotations

import base64
import math
import posixpath
import zlib
from collections import Counter
from typing import Any

import cv2
import numpy as np

from dropclass_jax.data import codec
from dropclass_jax.data.exports import polygons
from dropclass_jax.data.exports.drawing import (
    Color,
    Export,
    Picture,
    Rules,
    assemble,
    hex_color,
)
from dropclass_jax.data.exports.tree import Samples, Tree, as_written, is_image, read_json, split_of
from dropclass_jax.data.layout import SPLITS
from dropclass_jax.errors import UserError

TOOL = "Supervisely"
AREAS = ("bitmap", "alpha_mask", "polygon", "rectangle", "multipolygon")
NO_AREAS = ("point", "line", "graph", "cuboid", "polyline", "point_location")
LARGEST_MASK = 1 << 28  # bytes of a PNG
FARTHEST = 1 << 20  # OpenCV counts in fractions of a pixel


def read(tree: Tree, samples: Samples, rules: Rules) -> Export | None:
    """The export, or None if it is another's; arguments and errors as ``coco.read``."""
    del samples
    if "meta.json" not in tree or not any("/ann/" in f"/{path}" for path in tree):
        return None
    meta = read_json(tree["meta.json"])
    if not isinstance(meta, dict) or not isinstance(meta.get("classes"), list):
        return None
    where = tree["meta.json"].where
    colors: dict[str, Color | None] = {}
    with as_written(where, TOOL):
        for entry in meta["classes"]:
            if entry["title"] in colors:
                raise UserError(f"{where} has two classes called {entry['title']!r}: rename one")
            colors[entry["title"]] = hex_color(entry.get("color"))
    pictures, faults, left = [], [], Counter()
    for path in tree:
        folder, name = posixpath.split(path)
        if posixpath.basename(folder) != "img" or not is_image(path):
            continue
        annotation = posixpath.join(posixpath.dirname(folder), "ann", name)
        mine = next(
            (
                a
                for a in (f"{annotation}.json", f"{posixpath.splitext(annotation)[0]}.json")
                if a in tree
            ),
            None,
        )
        if mine is None:
            faults.append(
                f"{tree[path].where} has no annotation {annotation}.json: export it again"
            )
            continue
        file = tree[mine]
        try:
            content = read_json(file)
            with as_written(file.where, TOOL):
                size = (content["size"]["height"], content["size"]["width"])
                split = split_of(path) or _tagged(content)
                objects = [t for o in content["objects"] if (t := _object(o, left)) is not None]
        except UserError as error:
            faults.append(str(error))
            continue
        name = posixpath.join(posixpath.dirname(folder), posixpath.splitext(name)[0])
        pictures.append(Picture(name, split, tree[path], file.where, size, objects))
    notes = [f"{what}: {number}" for what, number in left.items()]
    return assemble(
        "Supervisely project", TOOL, paint, pictures, faults, colors, where, rules, notes
    )


def _tagged(content: dict) -> str | None:
    names = [tag.get("name") for tag in content.get("tags", ()) if isinstance(tag, dict)]
    return next(
        (SPLITS[n.lower()] for n in names if isinstance(n, str) and n.lower() in SPLITS), None
    )


def _object(thing: dict, left: Counter) -> tuple[str, dict] | None:
    """Class and geometry; None if it has no area."""
    kind = thing.get("geometryType") or ("bitmap" if thing.get("bitmap") else "polygon")
    if kind in NO_AREAS:
        left[f"objects of the kind {kind}, which has no area, left out"] += 1
        return None
    if kind not in AREAS:
        raise ValueError(f"an object of {thing['classTitle']!r} is a {kind!r}")
    kept = {key: thing[key] for key in ("bitmap", "points", "parts") if key in thing}
    return thing["classTitle"], {"kind": kind, **kept}


def paint(label: np.ndarray, thing: dict, value: int) -> None:
    """Draw an object as the SDK does."""
    kind = thing["kind"]
    if kind in ("bitmap", "alpha_mask"):
        bitmap = thing["bitmap"]
        _stamp(label, _mask(bitmap["data"]), bitmap["origin"], value)
    elif kind == "rectangle":
        first, second = polygons.points_of(thing["points"]["exterior"])
        left, top = _rounded(np.minimum(first, second), 0.7)
        right, bottom = _rounded(np.maximum(first, second), 0.3)
        if (np.modf([*first, *second])[0] != 0).any():  # in fractions the far edge is outside
            right, bottom = max(right - 1, left), max(bottom - 1, top)
        label[max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)] = value
    else:
        for part in thing["parts"] if kind == "multipolygon" else [thing["points"]]:
            mask = np.zeros(label.shape, np.uint8)
            cv2.fillPoly(mask, [_floored(part["exterior"], label.shape)], 1)
            for hole in part.get("interior") or ():
                cv2.fillPoly(mask, [_floored(hole, label.shape)], 0)
            label[mask > 0] = value


def _rounded(point: np.ndarray, threshold: float) -> list[int]:
    """Up if the fraction is at least the threshold, else down."""
    return [math.floor(c) + (c % 1 >= threshold) for c in point.tolist()]


def _floored(ring: Any, shape: tuple[int, int]) -> np.ndarray:
    points = polygons.points_of(ring)
    if not len(points) or np.abs(points).max() > FARTHEST:
        raise ValueError("its polygon has no point, or one nowhere near the image")
    edge = np.array(shape[::-1], np.float64)  # a corner on the far edge is in the last pixel
    return np.floor(np.where(points == edge, points - 1, points)).astype(np.int32)


def _mask(data: str) -> np.ndarray:
    """bool [H, W] of a bitmap's data, compressed or not."""
    encoded = base64.b64decode(data)
    if encoded[:4] != b"\x89PNG":
        inflate = zlib.decompressobj()
        encoded = inflate.decompress(encoded, LARGEST_MASK)
        if inflate.unconsumed_tail:
            raise ValueError(f"its mask is over {LARGEST_MASK} bytes")
    pixels = codec.decode_unchanged(encoded)
    if pixels is None:
        raise ValueError("its mask is no picture")
    if pixels.ndim == 2:
        return pixels > 0
    return pixels[..., 3] > 0 if pixels.shape[2] == 4 else pixels.any(axis=2)


def _stamp(label: np.ndarray, mask: np.ndarray, origin: Any, value: int) -> None:
    """A mask with its top left pixel at a place; what lies outside of the label is cut off."""
    left, top = (math.floor(c) for c in polygons.points_of(origin)[0].tolist())
    height, width = label.shape
    cut = mask[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    top, left = max(top, 0), max(left, 0)
    label[top : top + cut.shape[0], left : left + cut.shape[1]][cut] = value
