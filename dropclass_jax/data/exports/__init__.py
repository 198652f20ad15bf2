"""Exports of annotation tools, read as they are and recognised by their content.

One file a format. A reader takes the files of an export and gives its images and labels as pairs of
files, split as the export has them, with its classes, their names and colours. Labels that are
stored as masks are read as they are (``stored``); objects are drawn when a label is read
(``drawing``, ``polygons``). Nothing is written into the export.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from dropclass_jax.data.exports import (
    ade20k,
    coco,
    cvat,
    label_studio,
    labelme,
    roboflow,
    supervisely,
)
from dropclass_jax.data.exports.drawing import Export, Rules
from dropclass_jax.data.exports.tree import CLASSES, Samples, Tree, listed, read_json
from dropclass_jax.errors import UserError

__all__ = ["CLASSES", "Export", "Rules", "find", "listed"]


def find(source: Path, tree: Tree, rules: Rules) -> Export | None:
    """Recognise and list an export.

    Args:
      source: its folder or zip.
      tree: the files in it, as ``listed`` gives them.
      rules: what becomes of pixels and images that nobody labelled.

    Returns:
      The export, or None if it is none that is known.

    Raises:
      UserError: it is one, and broken as a whole. What is wrong with single images is in the
        ``faults`` of its splits.
    """
    rules.check()
    for reader in (cvat, roboflow, ade20k):
        if (export := reader.read(tree, rules)) is not None:
            return _counted(export, source)
    samples, broken = _samples(tree)
    for reader in (supervisely, coco, label_studio, labelme):
        if (export := reader.read(tree, samples, rules)) is not None:
            return _counted(export, source)
    if broken:
        raise broken[0]
    return None


def _samples(tree: Tree) -> tuple[Samples, list[UserError]]:
    """The first JSON files of each folder, enough to see whose they are; and what is wrong."""
    first: dict[str, list[str]] = {}
    for path in tree:
        if path.endswith(".json"):
            first.setdefault(posixpath.dirname(path), []).append(path)
    samples, broken = {}, []
    for path in (path for paths in first.values() for path in paths[:3]):
        try:
            samples[path] = read_json(tree[path])
        except UserError as error:
            broken.append(error)
    return samples, broken


def _counted(export: Export, source: Path) -> Export:
    """The export with the line that says what it is."""
    number = sum(len(found.pairs) for found in export.splits.values())
    faults = [fault for found in export.splits.values() for fault in found.faults]
    if not export.splits or not export.splits.get("train", ([],))[0]:
        why = f": {faults[0]}" if faults else ""
        raise UserError(f"{source}, {export.title}, holds no image to train on{why}")
    classes = "" if export.classes is None else f"{len(export.classes.names)} classes, "
    return export._replace(notes=[f"{export.title}: {classes}{number} images", *export.notes])
