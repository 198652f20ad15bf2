"""The history of a run, ``metrics.jsonl``: one JSON record a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dropclass_jax.files import finite, write_text


def append(workdir: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add lines to ``metrics.jsonl``, in one write, so that a kill leaves all of them or none."""
    lines = "".join(json.dumps(finite(record)) + "\n" for record in records)
    with open(workdir / "metrics.jsonl", "ab", buffering=0) as file:
        file.write(lines.encode())


def read(workdir: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of ``metrics.jsonl``, and how many of its lines could not be read.

    A kill during a write may leave half a line; the rest is still read.
    """
    records, unreadable = [], 0
    try:
        lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return records, unreadable
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            unreadable += bool(line.strip())
    return records, unreadable


def forget_after(workdir: Path, step: int) -> None:
    """Drop the records that a run continuing at ``step`` will write again.

    These are all records after that step, and the evaluation at it, which follows the checkpoint.
    """
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return
    kept = (
        record
        for record in read(workdir)[0]
        if record["step"] < step or (record["step"] == step and record["kind"] != "eval")
    )
    write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
