"""What a user's folder or zip holds: images and masks, or an annotation tool's export."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dropclass_jax.data import classes, contents, exports, layout, splits
from dropclass_jax.data.classes import Classes
from dropclass_jax.data.exports import ade20k, naming
from dropclass_jax.data.files import File
from dropclass_jax.data.pairs import source_folder
from dropclass_jax.data.strict_yaml import name_of
from dropclass_jax.errors import UserError


class Source(NamedTuple):
    """What a folder or zip holds.

    Attributes:
      classes: what its masks hold.
      listed_in: the file that says so, for messages.
      splits: the pairs of each split, ``train`` at least.
      notes: lines to tell the user once.
    """

    classes: Classes
    listed_in: str
    splits: dict[str, layout.Found]
    notes: list[str]


def path_of(name: str, source_dir: Path | None) -> Path:
    """The folder or zip of a source; errors as ``pairs.source_folder``."""
    if source_dir is not None and source_dir.is_file() and source_dir.suffix.lower() == ".zip":
        return source_dir
    return source_folder(name, source_dir, "the one with images/ and masks/, or a tool's export")


def find(source_dir: Path, option: str, rules: exports.Rules) -> Source:
    """List a source, of either kind, and find its classes.

    Args:
      source_dir: its folder or zip.
      option: the file that names the classes; ``''`` for ``classes.yaml`` in the folder, which is
        made if the source does not say what its classes are.
      rules: what becomes of what nobody labelled; of an export.

    Raises:
      UserError: it is arranged in no known way, or its classes cannot be found out.
    """
    export, tree = None, {}
    if source_dir.is_file() or ade20k.is_here(source_dir) or not layout.is_here(source_dir):
        tree = exports.listed(source_dir)
        export = exports.find(source_dir, tree, rules)
    if export is None:
        return _plain(source_dir, option, rules)
    given = Path(option).expanduser() if option else _given(source_dir, tree)
    named, where, notes = export.classes, export.listed_in, list(export.notes)
    if given is not None:
        where = name_of(given)
        read = classes.read if named is None else functools.partial(naming.read, export=named)
        named = read(given)
    elif named is None:
        path = source_dir / exports.CLASSES
        if source_dir.is_file():
            raise UserError(
                f"{source_dir} does not say what its classes are: unpack it, or put a "
                f"{exports.CLASSES} beside it"
            )
        pairs = [pair.label for f in export.splits.values() for pair in f.pairs]
        other = (ade20k.OTHER,) if ade20k.is_here(source_dir) else ()
        notes.append(classes.make(path, pairs, other))
        named = classes.read(path)
    return Source(named, where, export.splits, notes)


def _given(source_dir: Path, tree: Mapping[str, File]) -> Path | File | None:
    """The user's own list of the classes: in the export, or beside its zip."""
    inside = tree.get(exports.CLASSES)
    if not source_dir.is_file():
        return inside
    beside = source_dir.with_name(exports.CLASSES)
    if not beside.exists():
        return inside
    if inside is not None:
        raise UserError(f"there are {beside} and {inside.where}: keep one")
    return beside


def _plain(source_dir: Path, option: str, rules: exports.Rules) -> Source:
    """List a folder of images and masks."""
    if source_dir.is_file():
        raise UserError(f"{source_dir} is no export of {layout.TOOLS}: unpack it")
    if rules != exports.Rules():
        raise UserError(
            f"unlabelled and unannotated are for the exports of annotation tools, and {source_dir} "
            "is none: write values to ignore into classes.yaml"
        )
    folders, notes = layout.find_splits(source_dir)
    splits = {split or "train": layout.pair_up(where) for split, where in folders.items()}
    train = splits["train"]
    if not train.pairs:
        faults = f": {train.faults[0]}" if train.faults else ""
        raise UserError(f"{source_dir} holds no image with a mask{faults}")
    path = Path(option).expanduser() if option else source_dir / "classes.yaml"
    if not option and not path.exists():
        labels = [pair.label for f in splits.values() for pair in f.pairs]
        notes.insert(0, classes.make(path, labels))
    return Source(classes.read(path), "classes.yaml", splits, notes)


def draw_val(
    source_dir: Path,
    found: dict[str, layout.Found],
    of: Classes,
    memory: Path,
    share: float,
    seed: int,
) -> tuple[dict[str, layout.Found], list[str]]:
    """``val`` from the training images, stratified by class.

    Args:
      source_dir: the folder or zip, for messages.
      found: the splits.
      of: the classes.
      memory: a JSON file that remembers what masks hold.
      share: of the images that become ``val``.
      seed: of the draw.

    Returns:
      The splits with ``val``, and lines to tell.

    Raises:
      UserError: there is but one image.
    """
    train = found["train"]
    if len(train.pairs) < 2:
        raise UserError(f"{source_dir} holds one image: want one to train on and one for val")
    codes = contents.values([pair.label for pair in train.pairs], memory)
    position = {code: k for k, code in enumerate(of.codes)}
    holds = {
        pair.id: [position[code] for code in held if code in position]
        for pair, held in zip(train.pairs, codes, strict=True)
    }
    chosen = splits.draw(holds, share, seed)
    val = [pair for pair in train.pairs if pair.id in chosen]
    rest = [pair for pair in train.pairs if pair.id not in chosen]
    others = {split: f for split, f in found.items() if split != "train"}
    found = {"train": train._replace(pairs=rest), "val": layout.Found(val, [], []), **others}
    notes = [
        f"there is no val: {len(val)} of {len(train.pairs)} training images became it, drawn by "
        "seed and by class, rarest first; if images belong together (of one patient, video or "
        "place), give val yourself"
    ]
    return found, notes
