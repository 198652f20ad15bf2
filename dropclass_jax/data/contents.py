"""Which values masks hold, found out once for each file and remembered as checksums are."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dropclass_jax.data import masks
from dropclass_jax.data.files import File
from dropclass_jax.data.ordered import ordered_map, progress
from dropclass_jax.errors import UserError
from dropclass_jax.files import write_text

MOST = 512  # a mask with more values is no class map


def values(files: Sequence[File], memory: Path) -> list[list[int]]:
    """The values in each mask, sorted; none of one that cannot be read or holds too many.

    Args:
      files: masks of one source, as ``masks.read_codes`` takes them.
      memory: a JSON file that remembers them; done without where it cannot be written.
    """
    known = _read(memory)
    each = list(progress(ordered_map(lambda f: _values(f, known), files), "classes", len(files)))
    fresh = {file.where: [*_stamp(file), held] for file, held in zip(files, each, strict=True)}
    if not fresh.items() <= known.items():
        with contextlib.suppress(OSError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_text(memory, json.dumps({**known, **fresh}))
    return each


def _stamp(file: File) -> list[int | None]:
    """What changes when the file does."""
    return [file.size, file.crc if file.changed is None else file.changed]


def _values(file: File, known: dict[str, list]) -> list[int]:
    *stamp, held = known.get(file.where, (None, None, None))
    if stamp == _stamp(file) and stamp[1] is not None:
        return held
    try:
        kind, codes = masks.read_codes(file)
    except UserError:  # reading it for the set will say so
        return []
    is_index = kind == "index"
    held = np.flatnonzero(np.bincount(codes.ravel())) if is_index else np.unique(codes)
    return held.tolist() if len(held) <= MOST else []


def _read(memory: Path) -> dict[str, list]:
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
