"""A list of inputs in a text file: a path a line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dropclass_jax.errors import UserError

SUFFIX = ".txt"


def is_list(path: Path) -> bool:
    """Whether a path is such a file, by its suffix."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def read(path: Path) -> list[Path]:
    """The paths that a list holds, in order, each once.

    A relative path starts at the list's own folder. Empty lines and spaces at the ends of a line
    are left out; a path may have any bytes that the file system takes.

    Raises:
      UserError: it cannot be read or is empty, or names something that does not exist, or another
        list; with the number of the line.
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        text = os.fsdecode(line.strip())
        if not text:
            continue
        if "\0" in text:
            raise UserError(f"{path} is no text: want a list of images, a path a line")
        listed = path.parent / os.path.expanduser(text)
        if not listed.exists():
            raise UserError(
                f"{path}, line {number}: {listed} does not exist; relative paths start at the "
                "list's own folder"
            )
        if is_list(listed):
            raise UserError(f"{path}, line {number}: {listed} is itself a list: give it directly")
        found.append(listed)
    if not found:
        raise UserError(f"{path} is empty: want a list of images, a path a line")
    return each_once(found)


def each_once(paths: Iterable[Path]) -> list[Path]:
    """The paths in order, of several that name one place the last spelling."""
    return list({os.path.abspath(path): path for path in paths}.values())
