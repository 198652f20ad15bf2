"""Roboflow's "semantic segmentation masks".

    train/_classes.csv    train/a_jpg.rf.1b2c.jpg    train/a_jpg.rf.1b2c_mask.png
    valid/...             test/...

The masks are grey, and ``_classes.csv`` (``Pixel Value, Class``) says what their values mean; 0 is
``background``. Roboflow has drawn them: where objects overlapped, the later is over the earlier.
Every image has a mask, an empty one if nothing is on it. Its COCO export is read by ``coco``.
"""

from __future__ import annotations

import csv
import posixpath

from dropclass_jax.data.exports import stored
from dropclass_jax.data.exports.drawing import Export, Rules, in_order
from dropclass_jax.data.exports.tree import Tree, is_image, read_text, split_of, stem
from dropclass_jax.data.files import File
from dropclass_jax.data.layout import Found
from dropclass_jax.data.pairs import Pair
from dropclass_jax.errors import UserError

CLASSES = "_classes.csv"
MASK = "_mask"


def read(tree: Tree, rules: Rules) -> Export | None:
    """The export, or None if it is another's.

    Raises:
      UserError: the lists of the classes are broken, or differ between splits.
    """
    folders = [posixpath.dirname(path) for path in tree if posixpath.basename(path) == CLASSES]
    masked = {posixpath.dirname(path) for path in tree if stem(path).endswith(MASK)}
    folders = [folder for folder in folders if folder in masked]
    if not folders:
        return None
    entries: dict[int, str] = {}
    splits: dict[str, Found] = {}
    notes = []
    if rules.unannotated != Rules().unannotated:
        notes.append("Roboflow draws a mask for every image: unannotated changes nothing")
    for folder in folders:
        file = tree[posixpath.join(folder, CLASSES)]
        own = _values(file)
        for value, name in own.items():
            if entries.setdefault(value, name) != name:
                raise UserError(
                    f"{file.where}: the value {value} is {name!r}, and {entries[value]!r} in "
                    "another split: export all splits together"
                )
        if missing := entries.keys() - own.keys():
            names = ", ".join(entries[value] for value in sorted(missing))
            notes.append(f"{file.where} does not list {names}, which another split has")
        pairs = _pairs(folder, tree)
        split = split_of(f"{folder}/") or folder or "train"
        before = splits.get(split, Found([], [], []))
        splits[split] = Found(before.pairs + pairs.pairs, before.faults + pairs.faults, [])
    listed_in = tree[posixpath.join(folders[0], CLASSES)].where
    listed = [(name, value, None) for value, name in sorted(entries.items())]
    classes = stored.classes_of("index", listed, listed_in, rules)
    if "train" not in splits:
        raise UserError(
            f"{listed_in}: there is a split {min(splits)}, and none to train on: add it"
        )
    splits = in_order(splits)
    return Export("Roboflow segmentation masks", classes, listed_in, splits, notes)


def _values(file: File) -> dict[int, str]:
    """The class of each value."""
    entries: dict[int, str] = {}
    rows = list(csv.reader(read_text(file).splitlines()))
    for line, row in enumerate(rows[1:], 2):
        if not "".join(row).strip():
            continue
        value, name = row[0].strip(), ",".join(row[1:]).strip()
        if not (value.isascii() and value.isdecimal() and int(value) <= 255 and name):
            raise UserError(
                f"{file.where}, line {line}: {','.join(row)!r}: want a value, 0..255, and a class"
            )
        if int(value) in entries:
            raise UserError(f"{file.where}, line {line}: the value {value} stands there twice")
        entries[int(value)] = name
    return entries


def _pairs(folder: str, tree: Tree) -> Found:
    here = [path for path in tree if posixpath.dirname(path) == folder and is_image(path)]
    masks = {stem(path).removesuffix(MASK): path for path in here if stem(path).endswith(MASK)}
    pairs, faults, seen = [], [], {}
    for path in sorted(set(here) - set(masks.values())):
        name = stem(path)
        if name in seen:
            faults.append(
                f"{tree[path].where} and {tree[seen[name]].where} have one name: remove one"
            )
        elif name not in masks:
            faults.append(
                f"{tree[path].where} has no mask {name}{MASK}.png: add it or remove the image"
            )
        else:
            pairs.append(Pair(posixpath.basename(name), tree[path], tree[masks[name]]))
        seen.setdefault(name, path)
    lonely = sorted(masks.keys() - seen.keys())
    faults += [
        f"{tree[masks[name]].where} has no image: add it or remove the mask" for name in lonely
    ]
    return Found(pairs, faults, [])
