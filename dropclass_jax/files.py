"""Atomic writes: a file is there whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

SUFFIX = ".tmp"  # of a file that is still being written, or that a kill has left behind


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Write to a temporary file beside ``path`` that takes its place when the block ends.

    The content is on the disk before the name is (``fsync``), and several processes may write the
    same path at once: the last one wins. When the block raises, ``path`` stays as it was.

    Args:
      path: of the file; its folder must exist.

    Yields:
      The temporary file, open for writing bytes.

    Raises:
      OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically."""
    with atomic(path) as file:
        file.write(text.encode())


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows, the header first, as CSV, atomically; None is an empty cell."""
    with atomic(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([_plain(cell) for cell in row] for row in rows)
        text.detach()


def _plain(cell: Any) -> Any:
    """A cell that a spreadsheet takes for no formula, and a terminal for no command."""
    if not isinstance(cell, str):
        return cell
    cell = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", " ", cell)
    return f"'{cell}" if cell.lstrip().startswith(("=", "+", "-", "@")) else cell


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically; see ``finite`` for what it may hold."""
    write_text(path, json.dumps(finite(value), indent=1) + "\n")


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON file's object; None where there is no file, or what is there is no such thing."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def damaged_path(path: Path) -> Path:
    """A free name beside a file, for what of it cannot be read: ``damaged_NAME``."""
    names = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
    candidates = (path.with_name(f"damaged_{path.stem}{name}{path.suffix}") for name in names)
    return next(candidate for candidate in candidates if not candidate.exists())


def finite(value: Any) -> Any:
    """A value as JSON has it: arrays and tuples as lists, NaN and infinities as None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
