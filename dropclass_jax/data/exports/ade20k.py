"""ADE20K's folders, as of the scene parsing challenge of 2016.

    images/training/a.jpg    annotations/training/a.png    images/validation/...
    objectInfo150.txt

The masks are grey: 0 is "other", which is no class and is ignored as in the challenge, and 1 to 150
are the classes of ``objectInfo150.txt``. Where that is missing the classes are those that the masks
hold. (The full ADE20K, with its ``*_seg.png``, is another format.) See
https://github.com/CSAILVision/sceneparsing.
"""

from __future__ import annotations

from pathlib import Path

from dropclass_jax.data.classes import Classes
from dropclass_jax.data.exports import stored
from dropclass_jax.data.exports.drawing import Export, Rules
from dropclass_jax.data.exports.tree import Tree, read_text
from dropclass_jax.data.files import File
from dropclass_jax.data.layout import Found
from dropclass_jax.data.pairs import Pair
from dropclass_jax.errors import UserError

OTHER = 0
LISTS = ("objectInfo150.txt", "objectInfo150.csv")
FOLDERS = {"training": "train", "validation": "val", "testing": "test"}


def is_here(root: Path) -> bool:
    """Whether a folder has ADE20K's layout, and no ``classes.yaml`` that gives its values names."""
    folders = (root / "images" / "training", root / "annotations" / "training")
    return all(folder.is_dir() for folder in folders) and not (root / "classes.yaml").exists()


def read(tree: Tree, rules: Rules) -> Export | None:
    """The export, or None if it is another's.

    Raises:
      UserError: the list of the classes is broken.
    """
    starts = ("images/training/", "annotations/training/")
    if not all(any(path.startswith(start) for path in tree) for start in starts):
        return None
    if rules != Rules():
        where = next(tree[path].where for path in tree if path.startswith(starts[1]))
        raise UserError(
            f'{where} is of ADE20K\'s folders, where what nobody labelled is "other": leave '
            "unlabelled and unannotated out; a classes.yaml may make 0 a class"
        )
    splits = {split: _pairs(folder, tree) for folder, split in FOLDERS.items()}
    notes = ['ADE20K: the value 0, "other", is ignored; a classes.yaml may say otherwise']
    splits = {split: found for split, found in splits.items() if found.pairs or found.faults}
    file = next((tree[path] for path in LISTS if path in tree), None)
    classes = None if file is None else _classes(file)
    where = "classes.yaml" if file is None else file.where
    return Export("ADE20K folders", classes, where, splits, notes)


def _pairs(folder: str, tree: Tree) -> Found:
    images, twice = stored.by_name(tree, f"images/{folder}")
    masks, masks_twice = stored.by_name(tree, f"annotations/{folder}")
    if not masks:  # the test split has been published without
        return Found([], [], [])
    pairs = [Pair(name, images[name], masks[name]) for name in images if name in masks]
    lonely = [(f, "mask", "annotations") for name, f in images.items() if name not in masks]
    lonely += [(f, "image", "images") for name, f in masks.items() if name not in images]
    faults = [f"{f.where} has no {what} in {where}/{folder}/" for f, what, where in lonely]
    return Found(pairs, [*twice, *masks_twice, *faults], [])


def _classes(file: File) -> Classes:
    """From a table with a number in the first column and a name in the last."""
    separator = "," if file.where.endswith(".csv") else "\t"
    entries = []
    for number, line in enumerate(read_text(file).splitlines()[1:], 2):
        if not line.strip():
            continue
        value, *_, name = line.strip().split(separator)
        if not (value.strip().isdecimal() and 0 < int(value) <= 255 and name.strip()):
            raise UserError(f"{file.where}, line {number}: want a number, 1..255, and a name")
        entries.append((name.split(",")[0].split(";")[0].strip(), int(value), None))
    names = [entry[0] for entry in entries]
    # Two of the 150 may share their first word: they are told apart by their numbers.
    entries = [(n if names.count(n) == 1 else f"{n} {v}", v, c) for n, v, c in entries]
    return stored.classes_of("index", entries, file.where, Rules(), (OTHER,))
