"""An export as it lies there: its files by their paths, and what is found by a name or a path.

A reader never opens a path that an export names. It looks the name up among the files that are
there, so that ``../../etc/passwd`` is a missing image and nothing else.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import posixpath
import re
import unicodedata
import urllib.parse
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dropclass_jax.data import files
from dropclass_jax.data.files import File
from dropclass_jax.data.layout import SPLITS, SUFFIXES, split_name
from dropclass_jax.errors import UserError

CLASSES = "classes.yaml"  # of the user's own

Tree = Mapping[str, File]
# What the first JSON files of each folder hold, by their paths.
Samples = Mapping[str, Any]


def listed(source: Path) -> dict[str, File]:
    """The files of a folder or a zip by their paths; without the one folder that holds them all.

    That folder may have a ``classes.yaml`` beside it. Paths are as ``files.key`` makes names, so
    that what a tool wrote on another system is found.

    Raises:
      UserError: it is a broken zip, or holds a ``classes.yaml`` beside that folder and in it.
    """
    there = files.zip_archive(source) if source.is_file() else files.folder(source)
    by_path = {files.key(path): file for path, file in there.items()}
    beside = {path: file for path, file in by_path.items() if path == CLASSES}
    tops = {path.partition("/")[0] for path in by_path} - beside.keys()
    if len(tops) != 1 or tops & by_path.keys():
        return by_path
    (top,) = tops
    inside = {p.partition("/")[2]: file for p, file in by_path.items() if p not in beside}
    # A folder that means something is no wrapping; one that holds several splits is.
    is_split = split_of(f"{top}/") and len({split_of(path) for path in inside} - {None}) < 2
    if is_split or top in ("images", "JPEGImages", "SegmentationClass"):
        return by_path
    if both := beside.keys() & inside.keys():
        file, other = beside[CLASSES], inside[min(both)]
        raise UserError(f"there are {file.where} and {other.where}: keep one")
    return {**inside, **beside}


def is_image(path: str) -> bool:
    """Whether a file is an image, by its name."""
    return path.lower().endswith(SUFFIXES)


def stem(path: str) -> str:
    """A path without the ending of the name."""
    return posixpath.splitext(path)[0]


def split_of(path: str) -> str | None:
    """The split that a folder of a path is called after.

    >>> split_of("images/val2017/test.jpg")
    'val'
    >>> split_of("images/test.jpg") is None
    True
    """
    names = (split_name(folder) for folder in path.split("/")[:-1])
    return next((name for name in names if name in SPLITS.values()), None)


def split_of_list(path: str) -> str | None:
    """The split that a list is for: its own name says it, best at the end, or its folder's.

    >>> split_of_list("annotations/instances_val2017.json")
    'val'
    >>> split_of_list("val_annotations.json")
    'val'
    >>> split_of_list("train/_annotations.coco.json")
    'train'
    """
    words = re.findall(r"[a-z]+", stem(posixpath.basename(path)).lower())
    if words and words[-1] in SPLITS:
        return SPLITS[words[-1]]
    named = {SPLITS[word] for word in words if word in SPLITS}
    return named.pop() if len(named) == 1 else split_of(path)


class Images:
    """The images of a tree, to be found by what an export calls them."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.paths = [path for path in tree if is_image(path)]
        self._folders = {posixpath.dirname(path) for path in self.paths}
        self._splits = {split_of(path) for path in self.paths}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            self._by_name[posixpath.basename(path)].append(path)

    def __contains__(self, name: str) -> bool:
        """Whether there is an image of this name in any folder."""
        return name in self._by_name

    def find(self, name: Any, near: str, where: str, is_relative: bool = False) -> str:
        """The path of an image.

        Args:
          name: a path or address as the tool wrote it, perhaps on another machine.
          near: the path of the file that names it.
          where: that file, for the message.
          is_relative: the tool writes paths that are relative to that file. A name alone is then of
            an image beside it, if there are any: of another folder it would be another image.

        Raises:
          UserError: there is none, or several of this name and nothing that tells them apart.
        """
        if not isinstance(name, str) or not name:
            raise UserError(f"{where} names the image {name!r}: want a file name")
        written = name.replace("\\", "/")
        address = urllib.parse.urlsplit(written)
        # Label Studio serves local files as /data/local-files/?d=PATH.
        local = urllib.parse.parse_qs(address.query).get("d", [])
        asked = [written, urllib.parse.unquote(address.path), *local]
        asked = [unicodedata.normalize("NFC", path) for path in asked]
        own = posixpath.dirname(near)
        for path in asked:
            places = (posixpath.join(f, path.lstrip("/")) for f in (own, "", "images"))
            there = [p for p in dict.fromkeys(map(posixpath.normpath, places)) if p in self._tree]
            if found := there[:1] if is_relative else there:
                return _only(found, name, where)
        is_beside = is_relative and "/" not in written and own in self._folders
        for path in () if is_beside else asked:
            if found := self._of_split(split_of_list(near) or split_of(path), self._like(path)):
                return _only(found, name, where)
        raise UserError(
            f"{where} names {name!r}, which is not {'beside it' if is_beside else 'in the folder'}:"
            " add it, or remove it there"
        )

    def _of_split(self, split: str | None, paths: list[str]) -> list[str]:
        """The paths that may be of a split: those in its own folders, where it has any."""
        if split is None or split not in self._splits:
            return paths
        mine = [path for path in paths if split_of(path) == split]
        return mine or [path for path in paths if split_of(path) is None]

    def _like(self, path: str) -> list[str]:
        """The images of this name; those in the same folders where there are several."""
        parts = path.split("/")
        found = self._by_name.get(parts[-1], [])
        for number in range(2, len(parts) + 1):
            ending = "/" + "/".join(parts[-number:])
            nearer = [candidate for candidate in found if f"/{candidate}".endswith(ending)]
            if len(found) == 1 or not nearer:
                break
            found = nearer
        return found


def _only(found: list[str], name: str, where: str) -> str:
    if len(found) > 1:
        raise UserError(f"{where} names {name!r}, which may be {found[0]} or {found[1]}: keep one")
    return found[0]


def read_text(file: File) -> str:
    """A text file, with or without a byte order mark.

    Raises:
      UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file.where} is not UTF-8 (byte {error.start}): save it so, or export it again"
        ) from None


def read_json(file: File) -> Any:
    """What a JSON file holds.

    Raises:
      UserError: it cannot be read, is not UTF-8, or is no JSON.
    """
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{file.where}, line {error.lineno}, is no JSON ({error.msg}): export it again"
        ) from None
    except (RecursionError, ValueError) as error:
        raise UserError(f"{file.where} is no JSON ({error}): export it again") from None


@contextlib.contextmanager
def as_written(where: str, tool: str) -> Iterator[None]:
    """What a reader stumbles over in here is not as the tool writes it: a ``UserError``."""
    try:
        yield
    except KeyError as error:
        raise UserError(f"{where} has no {error}, which {tool} writes: export it again") from None
    except (
        *(TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError),
        *(binascii.Error, zlib.error, MemoryError),
    ) as error:
        raise UserError(f"{where} is not as {tool} writes it: {error}; export it again") from None
