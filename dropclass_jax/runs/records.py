"""The history of a run, ``metrics.jsonl``: one JSON record a line.

A record says its ``kind``, ``train`` or ``eval``, and its ``step``. One of kind ``lost`` stands
where lines were that could not be read, or that are missing.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dropclass_jax.files import damaged_path, finite, write_text

NAME = "metrics.jsonl"


def append(workdir: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add lines to ``metrics.jsonl``: all of them or none, whatever the last line there is.

    Raises:
      OSError: they cannot be written.
    """
    lines = "".join(json.dumps(finite(record)) + "\n" for record in records).encode()
    with open(workdir / NAME, "a+b", buffering=0) as file:  # one write: a kill cannot divide it
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - 1, 0))
        if file.read(1) not in (b"", b"\n"):  # a line without an end must not take ours with it
            lines = b"\n" + lines
        try:
            if file.write(lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(workdir / NAME))
        except OSError:
            file.truncate(end)
            raise


def read(workdir: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of ``metrics.jsonl``, and how many of its lines could not be read or are lost."""
    records, lost = [], 0
    for record in map(_parse, _lines(workdir)):
        if record is None:
            lost += 1
        elif record["kind"] == "lost":
            lost += record["lines"] if isinstance(record.get("lines"), int) else 1
        else:
            records.append(record)
    return records, lost


def _lines(workdir: Path) -> list[bytes]:
    try:
        content = (workdir / NAME).read_bytes()
    except FileNotFoundError:
        return []
    return [line for line in content.split(b"\n") if line.strip()]


def _parse(line: bytes) -> dict[str, Any] | None:
    """A record; None for what is none."""
    try:
        record = json.loads(line.decode())
        kind, step = record["kind"], record["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if isinstance(kind, str) and isinstance(step, int) else None


def forget_after(
    workdir: Path, step: int, log_every: int = 0, say: Callable[[str], None] = print
) -> None:
    """Drop the records that a run continuing at ``step`` will write again.

    These are all records after that step, and the evaluation at it, which follows the checkpoint.
    What lacks among the others is not written again, so it is reported: lines that cannot be read
    are moved to ``damaged_metrics.jsonl``, and a record of kind ``lost`` takes their place.

    Args:
      workdir: the run's folder.
      step: of the checkpoint.
      log_every: how far the records of training are apart; with 0 none are expected.
      say: told of what is lost.

    Raises:
      OSError: the file cannot be written.
    """
    kept: list[dict[str, Any]] = []
    lost: list[bytes] = []
    unread: list[bytes] = []  # since the last record; lost if one of the kept ones follows
    for line in _lines(workdir):
        record = _parse(line)
        if record is None:
            unread.append(line)
            continue
        if record["step"] < step or (record["step"] == step and record["kind"] != "eval"):
            if unread:
                kept.append({"kind": "lost", "step": record["step"], "lines": len(unread)})
                lost += unread
            kept.append(record)
        unread = []
    trained = max((r["step"] for r in kept if r["kind"] in ("train", "lost")), default=0)
    if log_every and trained < step // log_every * log_every:
        say(f"{workdir / NAME} has no record of the training from step {trained + 1} to {step}")
        kept.append({"kind": "lost", "step": step, "lines": max(len(unread), 1)})
        lost += unread
    if lost:
        path = damaged_path(workdir / NAME)
        path.write_bytes(b"\n".join(lost) + b"\n")
        say(f"{workdir / NAME}: lines that cannot be read were moved to {path.name}")
    if kept or (workdir / NAME).exists():
        write_text(workdir / NAME, "".join(json.dumps(record) + "\n" for record in kept))
