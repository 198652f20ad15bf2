"""From the objects of an export to label files that are drawn when they are read.

A drawn label is a ``files.File`` like any other: an index mask, whose values are

    0                     no object
    1, 2, ...             the classes, in the export's order
    255                   ignored

so that whatever reads, checks or fingerprints masks need not know where they come from. Its
checksum is that of the objects with their values: a mask need not be drawn to know it again.

What happens where
- **objects overlap**: they are drawn in the export's order, a later one over an earlier;
- **a pixel has no object**: it is of the class ``background``, or ignored
  (``unlabelled=ignore``). A class of the export that is itself called so is that class;
- **an object has no area**, as a point or a polygon of two corners: it is left out, and counted;
- **an object has a box and no mask**: nobody knows which of the box's pixels are its own. They are
  ignored, unless another object claims them, and the boxes are counted;
- **an object is broken or of an unknown class**: an error that names file, object and mend;
- **an image has no object**: see ``Rules``.
"""

from __future__ import annotations

import json
import posixpath
import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dropclass_jax.data import codec, headers, images, masks
from dropclass_jax.data.classes import Classes
from dropclass_jax.data.exports.tree import Images, Tree, as_written, split_of, stem
from dropclass_jax.data.files import File
from dropclass_jax.data.info import distinct_colors
from dropclass_jax.data.layout import Found
from dropclass_jax.data.pairs import Pair
from dropclass_jax.errors import UserError
from dropclass_jax.ops.labels import IGNORE_LABEL

Color = tuple[int, int, int]
# Draws one object: gives its pixels of a label, uint8 [H, W], a value. It may raise what a broken
# object makes it stumble over; ``as_written`` turns that into an error with the file's name.
Paint = Callable[[np.ndarray, Any, int], None]

BACKGROUND = "background"


class Rules(NamedTuple):
    """What becomes of pixels and images that nobody labelled.

    Attributes:
      unlabelled: of pixels: ``background``, a class of its own, or ``ignore``.
      unannotated: of images without an object. ``auto``: one that was saved empty is background,
        one of which the export says nothing is left out. ``background`` or ``skip``: both alike.
    """

    unlabelled: str = BACKGROUND
    unannotated: str = "auto"

    def check(self) -> Rules:
        """Itself; a ``UserError`` at a value that there is not."""
        for name, allowed in (
            ("unlabelled", (BACKGROUND, "ignore")),
            ("unannotated", ("auto", BACKGROUND, "skip")),
        ):
            if (value := getattr(self, name)) not in allowed:
                raise UserError(f"{name} is one of {', '.join(allowed)}, not {value!r}")
        return self


class Export(NamedTuple):
    """What an annotation tool left.

    Attributes:
      title: the tool and the form, for the line that says what was recognised.
      classes: what the masks hold; None where only the masks themselves tell.
      listed_in: the file with the classes, for messages.
      splits: the pairs of each split; one called ``train`` where the export has none.
      notes: lines to tell the user once.
    """

    title: str
    classes: Classes | None
    listed_in: str
    splits: dict[str, Found]
    notes: list[str]


class Picture(NamedTuple):
    """An image of an export and what is on it.

    Attributes:
      id: unique within its split.
      split: None where the export does not say.
      image: its file.
      where: what its objects are from, for messages; unique.
      size: height and width that the objects are drawn on; None for the image's own.
      objects: name of the class and the object as the tool wrote it, in the order of drawing;
        the name None for pixels to ignore. None where the export says nothing about the image.
    """

    id: str
    split: str | None
    image: File
    where: str
    size: tuple[int, int] | None
    objects: Sequence[tuple[str | None, Any]] | None


def assemble(
    title: str,
    tool: str,
    paint: Paint,
    pictures: Sequence[Picture],
    faults: Sequence[str],
    colors: Mapping[str, Color | None],
    listed_in: str,
    rules: Rules,
    notes: Sequence[str] = (),
) -> Export:
    """An export whose labels are drawn.

    Args:
      title: as in ``Export``.
      tool: its name, for messages.
      paint: draws an object.
      pictures: the images.
      faults: what is wrong with others, a line each.
      colors: the names of the classes, in order, with the export's colours where it has any.
      listed_in: the file with the classes.
      rules: what becomes of what nobody labelled.
      notes: further lines to tell.

    Raises:
      UserError: there are too many classes, or as of ``training_split``.
    """
    classes, values = _classes(colors, listed_in, rules)
    kept, said = _kept(pictures, rules)
    found: dict[str, Found] = {"train": Found([], list(faults), [])}
    splits = {picture.split for picture in kept} - {None}
    outside = [picture.where for picture in kept if picture.split is None]
    if "train" not in splits:
        trained, why = training_split(splits, len(outside), listed_in)
        said += why
        kept = [p._replace(split="train") if p.split == trained else p for p in kept]
    elif outside:
        said.append(f"images in no split: {len(outside)}, left out; the first: {outside[0]}")
    users: dict[tuple[str, str], str] = {}
    for picture in kept:
        if picture.split is None:
            continue
        into = found.setdefault(picture.split, Found([], [], []))
        other = users.setdefault((picture.split, picture.id), picture.where)
        if other is not picture.where:
            into.faults.append(f"{other} and {picture.where} have one name: rename an image")
            continue
        try:
            label = _label(picture, values, tool, paint, listed_in)
        except UserError as error:
            into.faults.append(str(error))
            continue
        into.pairs.append(Pair(picture.id, picture.image, label))
    return Export(title, classes, listed_in, in_order(found), [*notes, *said])


def training_split(
    named: Collection[str], outside: int, where: str
) -> tuple[str | None, list[str]]:
    """What to train on where no split is called ``train``.

    Args:
      named: the splits that there are.
      outside: how many images are in none.
      where: the export, for the message.

    Returns:
      The split, None for the images in none, and lines to tell.

    Raises:
      UserError: every image is in a split, and there are several.
    """
    if not named:
        return None, []
    splits = ", ".join(sorted(named))
    if outside:
        return None, [f"no split is train: the {outside} images outside of {splits} are trained on"]
    if len(named) > 1:
        raise UserError(f"{where}: there are the splits {splits}, and none to train on")
    return splits, [f"all images are in the split {splits}: they are trained on"]


def unnamed(
    images: Images, tree: Tree, used: Collection[str], folders: Collection[str] = ()
) -> list[Picture]:
    """Images that an export says nothing of, in the folders of those that it names.

    Args:
      images: all that there are.
      tree: the files.
      used: the paths of those that it names.
      folders: further folders to look in.
    """
    near = {posixpath.dirname(path) for path in used}.union(folders)
    return [
        Picture(stem(path), split_of(path), tree[path], tree[path].where, None, None)
        for path in images.paths
        if path not in used and posixpath.dirname(path) in near
    ]


def in_order(found: Mapping[str, Found]) -> dict[str, Found]:
    """The splits, ``train`` and ``val`` first."""
    first = [split for split in ("train", "val") if split in found]
    return {split: found[split] for split in dict.fromkeys([*first, *sorted(found)])}


def _classes(
    colors: Mapping[str, Color | None], listed_in: str, rules: Rules
) -> tuple[Classes, dict[str, int]]:
    """The classes, and the value of each name in the drawn masks."""
    names = list(colors)
    first = 0 if rules.unlabelled == BACKGROUND else 1
    if first == 0:
        background = next(filter(is_background, names), BACKGROUND)
        names = [background, *(name for name in names if name != background)]
    if len(names) + first > masks.MAX_CLASSES:
        raise UserError(f"{listed_in} has {len(names)} classes: want at most {masks.MAX_CLASSES}")
    codes = tuple(range(first, first + len(names)))
    # The palette begins with black, for the background.
    shown = distinct_colors(1 + len(names))[first : first + len(names)]
    if any(colors.values()):
        shown = tuple(colors.get(n) or c for n, c in zip(names, shown, strict=True))
    ignored = (IGNORE_LABEL, *range(first))
    values = dict(zip(names, codes, strict=True))
    return Classes("index", tuple(names), codes, shown, ignored), values


def is_background(name: str) -> bool:
    """Whether a class stands for what is none: ``background``, or labelme's ``_background_``."""
    return re.sub(r"[^a-z]", "", name.lower()) == BACKGROUND


def _kept(pictures: Sequence[Picture], rules: Rules) -> tuple[list[Picture], list[str]]:
    """The images to keep, and what is said of those without an object."""
    empty = [p for p in pictures if p.objects is not None and not p.objects]
    silent = [p for p in pictures if p.objects is None]
    out = [*silent, *empty] if rules.unannotated == "skip" else silent
    if rules.unannotated == BACKGROUND:
        out = []
    dropped = {p.where for p in out}
    notes = []
    meaning = BACKGROUND if rules.unlabelled == BACKGROUND else "ignored"
    for group, what in ((empty, "no object"), (silent, "no annotation")):
        if group:
            is_out = group[0].where in dropped
            other = "background" if is_out else "skip"
            fate = "left out" if is_out else f"all {meaning}"
            notes.append(
                f"{len(group)} of {len(pictures)} images have {what}: {fate} "
                f"(unannotated={other} changes that); the first: {group[0].where}"
            )
    return [p for p in pictures if p.where not in dropped], notes


def _label(
    picture: Picture, values: Mapping[str, int], tool: str, paint: Paint, listed_in: str
) -> File:
    """The label of an image, drawn when it is read."""
    objects = []
    for number, (name, thing) in enumerate(picture.objects or (), 1):
        if name is not None and name not in values:
            raise UserError(
                f"{picture.where}: object {number} is of the class {name!r}, which {listed_in} "
                "does not list: add it there, or correct the object"
            )
        objects.append((IGNORE_LABEL if name is None else values[name], thing))
    with as_written(picture.where, tool):
        if picture.size is not None:
            height, width = map(_whole, picture.size)
            if height * width > headers.MAX_PIXELS:
                raise ValueError(f"{width} x {height} are over {headers.MAX_PIXELS} pixels")
        size = None if picture.size is None else (height, width)
        text = json.dumps([size, objects], separators=(",", ":")).encode()

    def read() -> bytes:
        size, drawn = json.loads(text)
        label = np.zeros(size or images.read(picture.image)[1].shape[:2], np.uint8)
        for number, (value, thing) in enumerate(drawn, 1):
            with as_written(f"{picture.where}: object {number}", tool):
                paint(label, thing, value)
        return codec.encode_label(label)

    return File(picture.where, len(text), read, crc=zlib.crc32(text))


def _whole(length: Any) -> int:
    """A height or width; some tools write 640.0."""
    if type(length) not in (int, float) or length != int(length) or length < 1:
        raise ValueError(f"an image cannot be {length!r} pixels high or wide")
    return int(length)


def hex_color(text: Any) -> Color | None:
    """``#RRGGBB`` or ``[r, g, b]`` as a colour; None for anything else."""
    if isinstance(text, str) and re.fullmatch("#[0-9a-fA-F]{6}", text):
        return tuple(bytes.fromhex(text[1:]))
    is_triple = isinstance(text, list) and len(text) == 3
    if is_triple and all(type(c) is int and 0 <= c <= 255 for c in text):
        return tuple(text)
    return None
