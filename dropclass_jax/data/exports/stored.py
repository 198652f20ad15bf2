"""Exports whose labels are stored as masks: what their readers share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dropclass_jax.data import codec, images, masks
from dropclass_jax.data.classes import Classes
from dropclass_jax.data.exports.drawing import BACKGROUND, Color, Rules, is_background
from dropclass_jax.data.exports.tree import Tree, is_image, stem
from dropclass_jax.data.files import File
from dropclass_jax.data.info import distinct_colors
from dropclass_jax.errors import UserError
from dropclass_jax.ops.labels import IGNORE_LABEL


def by_name(tree: Tree, folder: str) -> tuple[dict[str, File], list[str]]:
    """The images below a folder by their names without the ending, and names there twice."""
    found: dict[str, File] = {}
    faults = []
    for path, file in tree.items():
        if not path.startswith(f"{folder}/") or not is_image(path):
            continue
        other = found.setdefault(stem(path).removeprefix(f"{folder}/"), file)
        if other is not file:
            faults.append(f"{file.where} and {other.where} have one name: remove one")
    return found, faults


def classes_of(
    kind: str,
    entries: Sequence[tuple[str, int, Color | None]],
    listed_in: str,
    rules: Rules,
    ignored: Sequence[int] = (),
) -> Classes:
    """The classes that an export lists with their values.

    Args:
      kind: ``index`` or ``color``.
      entries: name, value in the masks and colour of each.
      listed_in: the file, for messages.
      rules: with ``unlabelled=ignore`` a background is no class.
      ignored: further values.

    Raises:
      UserError: two have one name or one value, or there are too few or too many.
    """
    for what, values in (("name", [e[0] for e in entries]), ("value", [e[1] for e in entries])):
        twice = next((v for i, v in enumerate(values) if v in values[:i]), None)
        if twice is not None:
            shown = masks.unpack(twice) if what == "value" and kind == "color" else twice
            raise UserError(
                f"{listed_in} has two classes of the {what} {shown!r}: make them differ"
            )
    palette = distinct_colors(len(entries))  # black for the first, which is the background
    entries = [(n, code, own or c) for (n, code, own), c in zip(entries, palette, strict=True)]
    ignored = list(ignored)
    if rules.unlabelled != BACKGROUND:
        ignored += [code for name, code, _ in entries if is_background(name)]
        entries = [entry for entry in entries if not is_background(entry[0])]
    if not 2 <= len(entries) <= masks.MAX_CLASSES:
        raise UserError(
            f"{listed_in} has {len(entries)} classes: want 2 to {masks.MAX_CLASSES}"
            + (" (unlabelled=background makes what has none one)" if entries[:1] else "")
        )
    names, codes, shown = zip(*entries, strict=True)
    if kind == "index":
        ignored = [code for code in (*ignored, IGNORE_LABEL) if code not in codes]
    return Classes(kind, names, codes, shown, tuple(dict.fromkeys(ignored)))


def kind_of(files: Sequence[File]) -> str:
    """``index`` or ``color``, of the first mask that can be read; ``index`` if none can."""
    for file in files:
        try:
            return masks.read_codes(file)[0]
        except UserError:
            continue
    return "index"


def blank(image: File, kind: str, code: int) -> File:
    """A mask of an image without one: a single value, or a single colour, everywhere."""

    def read() -> bytes:
        shape = images.read(image)[1].shape[:2]
        if kind == "index":
            return codec.encode_label(np.full(shape, code, np.uint8))
        color = np.array(masks.unpack(code), np.uint8)
        return codec.encode_small(np.broadcast_to(color, (*shape, 3)).copy())

    return File(f"{image.where} (no mask)", 0, read, crc=code)
