"""``classes.yaml``, the classes of a folder of masks: reading it, and creating it from the masks.

    masks: index                # the value of a pixel is its class; or `color`
    ignore: [255]               # values that are neither trained nor scored; for `color`, colours
    classes:
      - {name: road, value: 0, color: [128, 64, 128]}
      - {name: car, value: 26, color: [0, 0, 142]}

The list gives the order of the classes. For ``index`` masks, ``value`` defaults to the position in
the list and ``color`` to one of a palette, so that ``classes: [road, car]`` is enough. For
``color`` masks, ``color`` is the colour in the masks.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dropclass_jax.data import masks, strict_yaml
from dropclass_jax.data.files import File
from dropclass_jax.data.info import DatasetInfo, distinct_colors
from dropclass_jax.data.ordered import ordered_map, progress
from dropclass_jax.errors import UserError
from dropclass_jax.files import write_text
from dropclass_jax.ops.labels import IGNORE_LABEL

KINDS = ("index", "color")

Color = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Classes:
    """The content of a ``classes.yaml``.

    Attributes:
      kind: kind of the masks, ``index`` or ``color``.
      names: K class names.
      codes: K values in the masks: 0..255, or colours packed by ``masks.pack``.
      colors: K RGB colours to display the classes with.
      ignored: values in the masks that are ignored.
    """

    kind: str
    names: tuple[str, ...]
    codes: tuple[int, ...]
    colors: tuple[Color, ...]
    ignored: tuple[int, ...]

    def info(self, name: str) -> DatasetInfo:
        """The metadata of the data set."""
        return DatasetInfo(name, self.names, self.colors)

    def recipe(self) -> dict[str, Any]:
        """The part that determines the label maps: not the names, which may change at any time."""
        return {"kind": self.kind, "codes": self.codes, "ignored": self.ignored}

    def table(self) -> np.ndarray:
        """The class of each value for ``masks.translate``: uint8 [256], or [2**24] of colours."""
        table = np.full(256 if self.kind == "index" else 2**24, masks.UNKNOWN, np.uint8)
        table[list(self.ignored)] = IGNORE_LABEL
        table[list(self.codes)] = range(len(self.codes))
        return table


def read(source: Path | File) -> Classes:
    """Read a ``classes.yaml``.

    Raises:
      UserError: names the file, the faulty entry and how to mend it.
    """
    return parse(strict_yaml.name_of(source), strict_yaml.load(source))


def parse(path: str, content: Any) -> Classes:
    """Parse the content of a ``classes.yaml`` of this name; raises the errors of ``read``."""
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise UserError(f"{path} has no list of classes: write `classes: [road, car, ...]`")
    if unknown := set(content) - {"masks", "ignore", "classes"}:
        raise UserError(
            f"{path}: unknown key {min(map(str, unknown))!r}: want masks, ignore, classes"
        )
    kind = content.get("masks", "index")
    if kind not in KINDS:
        raise UserError(f"{path}: masks is {kind!r}: want index or color")
    entries = [_entry(path, i, entry, kind) for i, entry in enumerate(content["classes"])]
    ignored = _ignored(path, content.get("ignore", [IGNORE_LABEL] if kind == "index" else []), kind)
    names, codes, colors = zip(*entries, strict=True) if entries else ((), (), ())
    for what, values in (("name", names), ("value" if kind == "index" else "color", codes)):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            shown = masks.unpack(twice[0]) if what == "color" else twice[0]
            raise UserError(f"{path}: two classes have the {what} {shown!r}: make them differ")
    if "ignore" in content:
        _check_apart(path, kind, names, codes, ignored)
    ignored = tuple(code for code in ignored if code not in codes)  # 255, by default
    if not 2 <= len(names) <= masks.MAX_CLASSES:
        raise UserError(f"{path} lists {len(names)} classes: want 2 to {masks.MAX_CLASSES}")
    return Classes(kind, names, codes, colors, ignored)


def _check_apart(
    path: Path, kind: str, names: Sequence[str], codes: Sequence[int], ignored: Sequence[int]
) -> None:
    """Raise ``UserError`` for a value that is both a class and ignored."""
    for name, code in zip(names, codes, strict=True):
        if code in ignored:
            shown = f"value {code}" if kind == "index" else f"color {list(masks.unpack(code))}"
            raise UserError(
                f"{path}: {shown} is under ignore and is the class {name!r}: take it out of one of "
                "them (a class without a value has its place in the list, from 0; if yours count "
                f"from 1, write {{name: {names[0]}, value: 1}} and so on)"
            )


def _entry(path: Path, position: int, entry: Any, kind: str) -> tuple[str, int, Color]:
    """The name, code and colour of an entry of the list."""
    where = f"{path}: class {position + 1}"
    if not isinstance(entry, Mapping):
        entry = {"name": entry}
    if unknown := set(entry) - {"name", "value", "color"}:
        raise UserError(f"{where}: unknown key {min(map(str, unknown))!r}: want name, value, color")
    if entry.get("name") is None:
        raise UserError(f"{where} has no name: write {{name: road, ...}}")
    if isinstance(entry["name"], bool):  # yes, no, on, off
        raise UserError(f"{where}: its name means {entry['name']} in YAML: put it in quotes")
    if isinstance(entry["name"], (list, dict)) or not str(entry["name"]).strip().isprintable():
        raise UserError(f"{where}: its name is no plain text: write {{name: road, ...}}")
    name, value, color = str(entry["name"]), entry.get("value", position), entry.get("color")
    if color is not None:
        color = _color(f"{where}, {name}", color)
    if kind == "color":
        if color is None:
            raise UserError(f"{where}, {name}: want the colour in the masks, color: [0, 128, 255]")
        return name, int(masks.pack(np.array(color))), color
    return name, _value(f"{where}, {name}", value), color or distinct_colors(position + 1)[-1]


def _ignored(path: Path, ignored: Any, kind: str) -> tuple[int, ...]:
    where = f"{path}: ignore"
    if ignored is None:
        return ()
    is_one_color = kind == "color" and isinstance(ignored, list) and len(ignored) == 3
    if not isinstance(ignored, list) or (is_one_color and not isinstance(ignored[0], list)):
        ignored = [ignored]
    if kind == "index":
        return tuple(_value(where, value) for value in ignored)
    return tuple(int(masks.pack(np.array(_color(where, color)))) for color in ignored)


def _value(where: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
        raise UserError(f"{where}: value {value!r}: want a whole number, 0..255")
    return value


def _color(where: str, color: Any) -> Color:
    channels = color if isinstance(color, list) else []
    if len(channels) != 3 or any(type(c) is not int or not 0 <= c <= 255 for c in channels):
        raise UserError(f"{where}: color {color!r}: want [red, green, blue], each 0..255")
    return tuple(channels)


def make(path: Path, files: Sequence[File], other: Sequence[int] = ()) -> str:
    """Write a ``classes.yaml`` with the values found in masks, for the user to name the classes.

    Masks that cannot be read, or that hold more values than there can be classes, are skipped. If
    the masks are of both kinds, those of the rarer kind are skipped. All of these raise an error
    later, when the set is read.

    Args:
      path: the file to write.
      files: the masks.
      other: for index masks, values that are no class by the masks' own convention.

    Returns:
      A line that says what was written.

    Raises:
      UserError: no mask can be read, they hold too many values or only one, or the file cannot be
        written.
    """
    counts = {kind: Counter() for kind in KINDS}
    images = {kind: Counter() for kind in KINDS}
    held: list[frozenset[int]] = []  # the values of each index mask
    number = Counter()
    found = progress(ordered_map(_count, files), "values of the masks", len(files))
    for kind, codes, pixels in filter(None, found):
        if len(codes) > masks.MAX_CLASSES + 1:
            number["smooth"] += 1
            continue
        number[kind] += 1
        counts[kind].update(dict(zip(codes, pixels, strict=True)))
        images[kind].update(codes)
        if kind == "index":
            held.append(frozenset(codes))
    if not number:
        raise UserError(f"{path.parent}: no mask can be read, the first is {files[0].where}")
    kind = max(KINDS, key=number.__getitem__)
    codes = sorted(counts[kind])
    if not codes or len(codes) > masks.MAX_CLASSES + 1:
        raise UserError(
            f"{path.parent}: the masks hold more than {masks.MAX_CLASSES} values or colours: are "
            "they class maps, neither compressed with loss nor smoothed?"
        )
    # By convention 255 is unlabelled; but masks of 0 and 255 alone are black and white.
    ignored = [] if kind == "color" or codes == [0, 255] else [*other, 255]
    kept = [code for code in codes if code not in ignored]
    if len(kept) < 2:
        raise UserError(
            f"{path.parent}: the masks hold nothing but {kept} (and {ignored}, ignored): want two "
            "classes or more"
        )
    share_255 = ""
    if 255 in codes and ignored:
        share = counts[kind][255] / counts[kind].total()
        share_255 = f"{share:.1%} of the pixels, in {images[kind][255]} of {number[kind]} masks"
        _check_255(path, codes, held, share_255)
    colors = _display_colors(kind, kept, files)
    lines = [
        f"# What the values of the masks mean. Made from {number[kind]} masks: look whether these",
        "# are your classes, and name them. Names may change at any time; another order, value or",
        "# `ignore` prepares the set anew. Values under `ignore` are neither trained nor scored.",
        f"masks: {kind}",
        f"ignore: {ignored}",
        "classes:",
    ]
    total = sum(counts[kind][code] for code in kept)
    for position, (code, color) in enumerate(zip(kept, colors, strict=True)):
        value = f"value: {code}, " if kind == "index" else ""
        share = 100 * counts[kind][code] / total
        lines.append(
            f"  - {{name: class_{position}, {value}color: {list(color)}}}"
            f"  # {share:.3g} % of the pixels, in {images[kind][code]} masks"
        )
    _write(path, "\n".join(lines) + "\n")
    ignoring = f", 255 is ignored ({share_255})" if share_255 else ""
    return (
        f"made {path} from {number[kind]} {kind} masks: {len(kept)} classes{ignoring}; look "
        "whether they are right, and name them"
    )


def _check_255(
    path: Path, codes: Sequence[int], held: Sequence[frozenset[int]], share: str
) -> None:
    """Raise ``UserError`` if 255 may be an object drawn in white instead of the ignored value.

    Args:
      path: the ``classes.yaml`` that would be written.
      codes: all values in the masks.
      held: the values of each mask.
      share: how much of the masks is 255, as text.
    """
    between = [code for code in codes if code not in (0, 255)]
    is_mixed = frozenset((0, 255)) in held and not any(
        255 in values and values - {0, 255} for values in held
    )
    is_grey = min(between) >= 32  # up to 8 grey levels from 0 to 255
    if is_mixed:
        shown = ", ".join(map(str, sorted({0, *between})[:4]))
        why = f"some masks hold only 0 and 255, others {shown}"
        mend = "if it is an object, save all masks with the same values"
    elif is_grey:
        why = f"with {', '.join(map(str, between[:4]))} it looks like grey levels"
        mend = f"if it is a class, write {path} with it, as {{name: x, value: 255}}"
    else:
        return
    raise UserError(
        f"{path.parent}: is 255 ({share}) a class or not labelled? {why}: {mend}; if it is not "
        f"labelled, write {path.name} with `ignore: [255]`"
    )


def _count(file: File) -> tuple[str, list[int], list[int]] | None:
    """The kind of one mask, its values and their pixel counts; None if it cannot be read."""
    try:
        kind, codes = masks.read_codes(file)
    except UserError:
        return None
    values, pixels = np.unique(codes, return_counts=True)
    values = values[: masks.MAX_CLASSES + 2]  # enough to see that they are too many
    return kind, values.tolist(), pixels[: len(values)].tolist()


def _display_colors(kind: str, codes: Sequence[int], files: Iterable[File]) -> list[Color]:
    """The colours in colour masks; else the masks' palette, or distinct ones without it."""
    if kind == "color":
        return [masks.unpack(code) for code in codes]
    own = _first_palette(files)
    colors = [own[code] for code in codes if code < len(own)]
    if len(set(colors)) == len(codes):
        return colors
    return list(distinct_colors(len(codes)))


def _first_palette(files: Iterable[File]) -> list[Color]:
    for file in files:
        try:
            return masks.palette(file)
        except UserError:
            continue
    return []


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)  # several processes may write it at once, with the same text
    except OSError as error:
        raise UserError(
            f"{path} is missing and cannot be written ({error.strerror}): write one, and name it "
            "with --config.data.options.classes"
        ) from error
