"""A run's folder: what lies in it, and who may continue it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dropclass_jax.cli import app
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.errors import UserError
from dropclass_jax.experiment import build

# Keys that may differ between the starts of one run: they do not change what is learned.
_FREE = (
    *("data.dir", "data.prepared_dir", "data.num_threads", "data.cache_gib"),
    *("eval.", "checkpoint.", "log_every"),
)


def claim(
    workdir: Path, config: ConfigDict, fingerprint: str, info: DatasetInfo | None = None
) -> None:
    """Make the folder this run's, or make sure that it already is.

    Args:
      workdir: the run's folder; made when it is missing.
      config: the run's config, written to ``config.json``.
      fingerprint: of the prepared data set, written to ``data.json``.
      info: the set's facts, written there too: a run can then predict without its data.

    Raises:
      UserError: the folder holds a run of another config or other data (the differences are
        listed), something that is no run at all, or cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if (workdir / "config.json").exists():
            _check_same(workdir, config, fingerprint)
        elif any(workdir.iterdir()):
            raise UserError(f"{workdir} is not empty and holds no run; choose another --workdir")
        about = {} if info is None else dataclasses.asdict(info)
        write_json(workdir / "data.json", {"fingerprint": fingerprint, **about})
        (workdir / "config.json").write_text(build.to_json(config) + "\n")
    except OSError as error:
        raise UserError(f"workdir {workdir} cannot be written: {error.strerror}") from error


def differences(workdir: Path, config: ConfigDict) -> list[str]:
    """What a config changes of a run's that its continuation must not: ``'KEY was A, is B'``."""
    old = dict(app.flatten(read_config(workdir)))
    new = dict(app.flatten(build.from_json(build.to_json(config))))
    return [
        f"{key} was {old.get(key)!r}, is {new.get(key)!r}"
        for key in sorted({*old, *new})
        if not isinstance(old.get(key, new.get(key)), ConfigDict)
        and not key.startswith(_FREE)
        and old.get(key) != new.get(key)
    ]


def _check_same(workdir: Path, config: ConfigDict, fingerprint: str) -> None:
    changed = differences(workdir, config)
    if changed:
        raise UserError(
            f"{workdir} holds a run of another config: {'; '.join(changed)}. "
            "Choose another --workdir, or give the old values"
        )
    data_file = workdir / "data.json"
    if data_file.exists() and json.loads(data_file.read_text())["fingerprint"] != fingerprint:
        raise UserError(
            f"{workdir} holds a run on other data: the source or its options have changed. "
            "Choose another --workdir, or restore the data"
        )


def check_classes(workdir: Path, classes: Sequence[str]) -> None:
    """Raise ``UserError`` unless a run was trained on as many classes; a name may change."""
    try:
        trained = json.loads((workdir / "data.json").read_text())["classes"]
    except (OSError, ValueError, KeyError):
        return  # nothing is known
    if trained and len(trained) != len(classes):
        raise UserError(
            f"{workdir} was trained on {len(trained)} classes ({', '.join(trained)}), the data has "
            f"{len(classes)} ({', '.join(classes)}): score it on data of its own classes"
        )


def read_config(workdir: Path) -> ConfigDict:
    """The config of a run.

    Raises:
      UserError: the folder holds no run.
    """
    try:
        config = build.from_json((Path(workdir) / "config.json").read_text())
    except (OSError, ValueError):
        raise UserError(f"{workdir} holds no run: config.json is missing or damaged") from None
    base = Path(__file__).parent.parent.parent / "configs" / "base.py"
    if base.is_file():  # not there where the package alone is installed
        _fill(config, app.load_config(str(base)))
    return config


def _fill(config: ConfigDict, defaults: ConfigDict) -> None:
    """Give a config the keys that have come since it was written: by default they change nothing.

    Sections for what a user names (``data.options``) are empty in the defaults, and stay.
    """
    for key, value in defaults.items():
        if key not in config:
            config[key] = value
        elif isinstance(value, ConfigDict):
            _fill(config[key], value)


def read_info(workdir: Path) -> DatasetInfo | None:
    """The facts of the data that a run was trained on; None for a run that did not keep them."""
    try:
        known = json.loads((workdir / "data.json").read_text())
        facts = {field.name for field in dataclasses.fields(DatasetInfo)} & known.keys()
        known["colors"] = tuple(map(tuple, known["colors"]))
        return DatasetInfo(
            **{
                name: tuple(known[name]) if isinstance(known[name], list) else known[name]
                for name in facts
            }
        )
    except (OSError, ValueError, KeyError, TypeError):  # the last: a fact without a default lacks
        return None


def append_records(workdir: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add lines to ``metrics.jsonl``, in one write, so that a kill leaves all of them or none."""
    lines = "".join(json.dumps(finite(record)) + "\n" for record in records)
    with open(workdir / "metrics.jsonl", "ab", buffering=0) as file:
        file.write(lines.encode())


def records(workdir: Path) -> Iterator[dict[str, Any]]:
    """The lines of ``metrics.jsonl``, without one that a kill cut short."""
    try:
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def forget_after(workdir: Path, step: int) -> None:
    """Drop the records that a run which continues at ``step`` will write again.

    Those are all past it, and the evaluation at it, which comes after the checkpoint.
    """
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return
    kept = (
        record
        for record in records(workdir)
        if record["step"] < step or (record["step"] == step and record["kind"] != "eval")
    )
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all; NaN becomes null."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(finite(value), indent=1) + "\n")
    temporary.replace(path)


def finite(value: Any) -> Any:
    """The value for JSON: arrays as lists, NaN and infinities as null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
