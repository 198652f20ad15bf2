"""CVAT's "Segmentation mask 1.1", and other folders in the manner of Pascal VOC.

    labelmap.txt    JPEGImages/a.jpg    SegmentationClass/a.png
    ImageSets/Segmentation/default.txt

``labelmap.txt`` (``name:r,g,b:parts:actions``) gives the classes of CVAT's colour masks; in masks
of one channel a value is the number of a line. Without it the masks are Pascal's palettes, or
labelme's ``SegmentationClassPNG/`` with ``class_names.txt``: a value is a class, 255 is ignored.
CVAT has drawn the masks by its z-order, so that nothing overlaps; black is its ``background``. CVAT
writes no mask for an image without an object, done or not: of such an image nothing is said.

A list in ``ImageSets/Segmentation/`` is a split (CVAT's subsets are ``Train``, ``Validation`` and
``Test``). Where none is called so, what ``default``, ``trainval`` and others hold beside the splits
is trained on. See
https://docs.cvat.ai/docs/dataset_management/formats/format-smask and Datumaro's ``voc_format``.
"""

from __future__ import annotations

import posixpath

import numpy as np

from dropclass_jax.data import masks as mask_files
from dropclass_jax.data.classes import Classes
from dropclass_jax.data.exports import stored
from dropclass_jax.data.exports.drawing import (
    BACKGROUND,
    Export,
    Rules,
    in_order,
    is_background,
    training_split,
)
from dropclass_jax.data.exports.tree import Tree, read_text
from dropclass_jax.data.files import File
from dropclass_jax.data.layout import SPLITS, Found
from dropclass_jax.data.pairs import Pair
from dropclass_jax.errors import UserError

IMAGES = ("JPEGImages", "images")
MASKS = ("SegmentationClassPNG", "SegmentationClass")
LISTS = "ImageSets/Segmentation/"


def read(tree: Tree, rules: Rules) -> Export | None:
    """The export, or None if it is another's.

    Raises:
      UserError: there are no images, or a list of the classes is broken.
    """
    masks, twice = _first(tree, MASKS)
    if not masks:
        return None
    where = next(iter(masks.values())).where
    images, images_twice = _first(tree, IMAGES)
    if not images:
        raise UserError(f"{where} has no image in {IMAGES[0]}/: export with images")
    if (file := tree.get("labelmap.txt")) is not None:
        title, classes = "CVAT segmentation masks", _labelmap(file, list(masks.values()), rules)
    elif (file := tree.get("class_names.txt")) is not None:
        title, classes = "labelme's VOC folder", _class_names(file, rules)
    else:
        title, classes = "Pascal VOC masks", None
        if rules.unlabelled != BACKGROUND:
            raise UserError(
                f"{where}: the masks do not say which value is the background, which "
                f"unlabelled={rules.unlabelled} ignores: put it under ignore in classes.yaml"
            )
    lists, notes = _lists(tree)
    if not lists:
        lists = {"train": sorted(images)}
    elif "train" not in lists:
        lists, why = _with_train(lists, where)
        notes += why
    without = [n for names in lists.values() for n in names if n in images and n not in masks]
    blank = _blank(classes) if rules.unannotated == BACKGROUND else None
    if without:
        fate = "all background"
        if rules.unannotated != BACKGROUND:
            fate = "left out (unannotated=background keeps them)"
        elif blank is None:
            fate = "left out, as no class is called background"
        notes.append(f"images without a mask: {len(without)}, {fate}; the first: {without[0]}")
    listed = {name for names in lists.values() for name in names}
    if rest := sorted((images.keys() & masks.keys()) - listed):
        notes.append(
            f"images with a mask and in no list: {len(rest)}, left out; the first: {rest[0]}"
        )
    splits = {split: _pairs(names, images, masks, blank) for split, names in lists.items()}
    splits["train"].faults[:0] = [*images_twice, *twice]
    splits = in_order(splits)
    listed_in = file.where if file is not None else "classes.yaml"
    return Export(title, classes, listed_in, splits, notes)


def _first(tree: Tree, folders: tuple[str, ...]) -> tuple[dict[str, File], list[str]]:
    """``stored.by_name`` of the first of some folders that holds an image."""
    found = (stored.by_name(tree, folder) for folder in folders)
    return next((of for of in found if of[0]), ({}, []))


def _with_train(lists: dict[str, list[str]], where: str) -> tuple[dict[str, list[str]], list[str]]:
    """The lists with one to train on, and lines to tell; see ``drawing.training_split``."""
    splits = {split: names for split, names in lists.items() if split in SPLITS.values()}
    inside = {name for names in splits.values() for name in names}
    others = dict.fromkeys(n for split in lists.keys() - splits.keys() for n in lists[split])
    outside = sorted(others.keys() - inside)
    trained, notes = training_split(splits, len(outside), where)
    names = outside if trained is None else splits.pop(trained)
    return {"train": names, **splits}, notes


def _labelmap(file: File, masks: list[File], rules: Rules) -> Classes:
    kind = stored.kind_of(masks)
    entries = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{file.where}, line {number}"
        fields = line.strip().rsplit(":", 3)
        if len(fields) != 4 or not fields[0].strip():
            raise UserError(f"{where}: {line.strip()!r}: want name:red,green,blue:parts:actions")
        color = _color(fields[1], where) if fields[1].strip() else None
        if kind == "color" and color is None:
            raise UserError(
                f"{where}: {fields[0]} has no colour, and the masks are coloured: add it"
            )
        code = len(entries) if kind == "index" else int(mask_files.pack(np.array(color)))
        entries.append((fields[0].strip(), code, color))
    return stored.classes_of(kind, entries, file.where, rules)


def _color(text: str, where: str) -> tuple[int, int, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or any(not (p.isascii() and p.isdecimal() and int(p) < 256) for p in parts):
        raise UserError(f"{where}: the colour {text!r}: want red,green,blue, each 0..255")
    return int(parts[0]), int(parts[1]), int(parts[2])


def _class_names(file: File, rules: Rules) -> Classes:
    names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    names = [name for name in names if name != "__ignore__"]
    entries = [(name, value, None) for value, name in enumerate(names)]
    return stored.classes_of("index", entries, file.where, rules)


def _lists(tree: Tree) -> tuple[dict[str, list[str]], list[str]]:
    """The names in each list by its split, and what is said of others."""
    lists: dict[str, list[str]] = {}
    notes = []
    for path, file in tree.items():
        if not path.startswith(LISTS) or not path.endswith(".txt"):
            continue
        lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
        names = list(dict.fromkeys(lines))
        if len(names) < len(lines):
            notes.append(
                f"{file.where} lists {len(lines) - len(names)} names twice: each counts once"
            )
        name = posixpath.basename(path).removesuffix(".txt")
        split = SPLITS.get(name.lower(), name)
        lists[split] = list(dict.fromkeys([*lists.get(split, ()), *names]))
    if "trainval" in lists and "train" in lists:
        notes.append("trainval.txt is the other lists together: left out")
        del lists["trainval"]
    if both := set(lists.get("train", ())) & set(lists.get("val", ())):
        where = next(file.where for path, file in tree.items() if path.startswith(LISTS))
        folder = posixpath.dirname(where)
        raise UserError(f"{folder}: {min(both)} is in train and in val: take it out of one")
    return lists, notes


def _blank(classes: Classes | None) -> tuple[str, int] | None:
    """Kind and value of an empty mask."""
    if classes is None:
        return "index", 0
    named = [c for n, c in zip(classes.names, classes.codes, strict=True) if is_background(n)]
    if classes.kind == "index":
        return "index", (*named, *classes.ignored)[0]
    return ("color", (*named, *classes.ignored)[0]) if named or classes.ignored else None


def _pairs(
    names: list[str],
    images: dict[str, File],
    masks: dict[str, File],
    blank: tuple[str, int] | None,
) -> Found:
    pairs, faults = [], []
    for name in names:
        if name not in images:
            faults.append(f"{name} is listed in {LISTS} and has no image in {IMAGES[0]}/: add it")
        elif name in masks:
            pairs.append(Pair(name, images[name], masks[name]))
        elif blank is not None:
            pairs.append(Pair(name, images[name], stored.blank(images[name], *blank)))
    return Found(pairs, faults, [])
