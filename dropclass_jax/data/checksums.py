"""Checksums of a source's files, cached between runs.

A data set is identified by the content of its files, not by their names and times: a copy on
another machine is the same set, and an edit that keeps a file's size makes a different one. To
avoid reading the whole source at every start, each checksum is stored with the file's size and
ctime (the time of change, which programs cannot set), as git does in its index.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dropclass_jax.data.files import File
from dropclass_jax.data.ordered import ordered_map, progress
from dropclass_jax.errors import UserError
from dropclass_jax.files import write_text


def memory_of(prepared_dir: Path, source_dir: Path) -> Path:
    """The path of the file that caches the checksums of a source."""
    name = hashlib.sha256(os.path.abspath(source_dir).encode()).hexdigest()[:16]
    return prepared_dir / "checksums" / f"{name}.json"


def checksums(files: Sequence[File], memory: Path) -> list[int | None]:
    """The CRC-32 of each file, in order; None for a file that cannot be read.

    Args:
      files: the files of one source.
      memory: path of the JSON cache; updated if a checksum is new. A cache that cannot be read or
        written is not an error.
    """
    known = _read(memory)
    sums = list(progress(ordered_map(lambda f: _checksum(f, known), files), "files", len(files)))
    fresh = {
        file.where: [file.size, file.changed, crc]
        for file, crc in zip(files, sums, strict=True)
        if file.changed is not None and crc is not None
    }
    if not fresh.items() <= known.items():
        _write(memory, {**known, **fresh})
    return sums


def _checksum(file: File, known: Mapping[str, list[int]]) -> int | None:
    size, changed, crc = known.get(file.where, (None, None, None))
    if file.changed is not None and [size, changed] == [file.size, file.changed]:
        return crc
    try:
        return file.checksum()
    except UserError:  # reported when the file is read for the set
        return None


def _read(memory: Path) -> dict[str, list[int]]:
    try:
        return json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}


def _write(memory: Path, content: Mapping[str, list[int]]) -> None:
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_text(memory, json.dumps(content))
