"""The folder of a run: its config, the facts of its data, and which run may continue it."""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.errors import UserError
from dropclass_jax.experiment import facts
from dropclass_jax.experiment.config import flatten, from_values, is_section
from dropclass_jax.experiment.facts import Facts
from dropclass_jax.files import damaged_path, finite, read_object, write_text
from dropclass_jax.runs import given_weights

# Keys that may differ between the starts of one run: they do not change what is learned.
_FREE = (
    *("data.dir", "data.prepared_dir", "data.num_threads", "data.cache_gib"),
    *("eval.", "checkpoint.", "log_every"),
)


# What is set aside where it cannot be read: the run goes on without it.
_KEPT = ("run.json", "data.json", "best.json")

# All that a run leaves in its folder. A folder of nothing else may be taken.
_OURS = re.compile(
    r"lock|checkpoints|tensorboard|(config|data|run|best|class_weights)\.json"
    r"|metrics\.(jsonl?|csv)|report\.html"
    r"|(images|samples)\.npz|(damaged|nonfinite)_.*|\..*\.tmp|[a-z]+\.tmp"
)


def claim(
    workdir: Path,
    config: Mapping[str, Any],
    fingerprint: str,
    info: DatasetInfo | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Claim a folder for a run, or make sure that it already holds this run.

    Args:
      workdir: the run's folder; made when it is missing.
      config: the run's config as nested plain values, written to ``config.json``.
      fingerprint: of the prepared data set, written to ``data.json``.
      info: the facts of the data set, written there too: a run can then predict without its data.
      say: told of what cannot be read there and is moved out of the way.

    Raises:
      UserError: the folder holds a run of another config or other data (the differences are
        listed), something that is no run at all, or cannot be written.
    """
    with writing(workdir):
        check_free(workdir, config, fingerprint)
        if info is not None:
            check_classes(workdir, info.classes)
            check_normalization(workdir, info)
        for name in _KEPT:
            path = workdir / name
            if path.is_file() and read_object(path) is None:
                damaged = damaged_path(path)
                path.replace(damaged)
                say(f"{path} cannot be read: moved to {damaged.name}")
        if not exists(workdir) and _has_checkpoints(workdir):
            say(f"{workdir} has checkpoints but no config.json: taken to be of this config")
        known = {} if info is None else dataclasses.asdict(info)
        data = json.dumps(finite({"fingerprint": fingerprint, **known}), indent=1) + "\n"
        _write_changed(workdir / "data.json", data)
        weights = given_weights.text(from_values(config).loss.class_weights)
        if weights is not None:
            _write_changed(workdir / given_weights.COPY, weights)
        _write_changed(workdir / "config.json", json.dumps(config, indent=2) + "\n")


@contextmanager
def writing(workdir: Path) -> Iterator[None]:
    """A block that writes into a run's folder: where it cannot, that is a ``UserError``."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise UserError(
            f"workdir {workdir} cannot be written: {error.strerror or error}{where}; checkpoints "
            "that are there stay good. Make room or make it writable; the same command continues"
        ) from error


def check_writable(workdir: Path) -> None:
    """Raise ``UserError`` unless files can be written into a run's folder, which is there."""
    with writing(workdir), tempfile.TemporaryFile(dir=workdir):
        pass


def _write_changed(path: Path, text: str) -> None:
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except (OSError, ValueError):
        pass
    write_text(path, text)


def check_free(workdir: Path, config: Mapping[str, Any], fingerprint: str) -> None:
    """The checks of ``claim``: the folder exists and does not hold anything else."""
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in workdir.iterdir() if not _OURS.fullmatch(path.name)]
        readable = read_object(workdir / "config.json") is not None
        if readable or (exists(workdir) and _has_checkpoints(workdir)):
            _check_same(workdir, config)
        elif others:
            raise UserError(
                f"{workdir} is not empty and holds no run ({min(others)}); choose another --workdir"
            )
        if _read_data(workdir).get("fingerprint", fingerprint) != fingerprint:
            raise UserError(
                f"{workdir} holds a run on other data: the source or its options have changed. "
                "Choose another --workdir, or restore the data"
            )


def _has_checkpoints(workdir: Path) -> bool:
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


def exists(workdir: Path) -> bool:
    """Whether the folder holds a run."""
    return (workdir / "config.json").exists()


def differences(workdir: Path, config: Mapping[str, Any]) -> list[str]:
    """What a run's continuation must not change, of the config or the file of weights it names."""
    rule = from_values(config).loss.class_weights
    return config_differences(workdir, config) + given_weights.changes(workdir, rule)


def config_differences(workdir: Path, config: Mapping[str, Any]) -> list[str]:
    """What a config changes of a run's that its continuation must not: ``'KEY was A, is B'``."""
    old, new = (dict(flatten(from_values(values))) for values in (read_config(workdir), config))
    return [
        f"{key} was {old.get(key)!r}, is {new.get(key)!r}"
        for key in sorted({*old, *new})
        if not is_section(old.get(key, new.get(key)))
        and not key.startswith(_FREE)
        and old.get(key) != new.get(key)
    ]


def _check_same(workdir: Path, config: Mapping[str, Any]) -> None:
    changed = differences(workdir, config)
    if changed:
        raise UserError(
            f"{workdir} holds a run of another config: {'; '.join(changed)}. "
            "Choose another --workdir, or give the old values"
        )


def read_config(workdir: Path) -> dict[str, Any]:
    """The config of a run as nested plain values; see ``config.from_values``.

    Raises:
      UserError: the folder holds no run, or ``config.json`` is damaged.
    """
    path = Path(workdir) / "config.json"
    mend = "train on with the run's own command, which writes it anew"
    if not path.exists():
        mend = f", but checkpoints: {mend}" if _has_checkpoints(Path(workdir)) else ""
        raise UserError(f"{workdir} holds no run: config.json is missing{mend}")
    values = read_object(path)
    try:
        from_values(values or {})
    except (AttributeError, TypeError, ValueError):  # a value in place of a section
        values = None
    if not values:
        raise UserError(f"{path} is damaged: delete it and {mend}")
    return values


def config_text(workdir: Path) -> str:
    """The content of ``config.json``.

    Raises:
      OSError: it cannot be read.
    """
    return (Path(workdir) / "config.json").read_text(encoding="utf-8", errors="replace")


def read_facts(workdir: Path) -> Facts:
    """The facts of a run's config.

    Raises:
      UserError: the folder holds no run.
    """
    return facts.of(from_values(read_config(workdir)))


def check_classes(workdir: Path, classes: Sequence[str]) -> None:
    """Refuse data whose classes are not those that a run was trained on, in their order.

    A class may be renamed: then its name is new. A name that the run knows at another place means
    another order, in which every score would be of the wrong class.

    Raises:
      UserError: the number of classes differs, or a name is at another place.
    """
    own = _read_data(workdir).get("classes")
    if not own:
        return  # an older run
    if len(own) != len(classes):
        raise UserError(
            f"{workdir} was trained on {len(own)} classes ({', '.join(own)}), the data has "
            f"{len(classes)} ({', '.join(classes)}): score it on data of its own classes"
        )
    for position, name in enumerate(classes):
        if name in own and own[position] != name:
            raise UserError(
                f"{workdir} was trained with {name!r} as class {own.index(name)}, in the data "
                f"it is class {position}: give the classes in the run's order "
                f"({', '.join(own)}), or train anew"
            )


def check_normalization(workdir: Path, info: DatasetInfo) -> None:
    """Raise ``UserError`` unless a run was trained on images normalised as they would be now."""
    own = read_info(workdir)
    if own and (own.mean, own.std) != (info.mean, info.std):
        raise UserError(
            f"{workdir} was trained on images of mean {own.mean} and deviation {own.std} "
            f"(data.json), which its network and data set now take as {info.mean} and {info.std}: "
            "use the version that trained it, which run.json names"
        )


def read_info(workdir: Path) -> DatasetInfo | None:
    """The facts of the data that a run was trained on; None for a run that did not keep them."""
    known = {field.name for field in dataclasses.fields(DatasetInfo)}
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in _read_data(workdir).items()
        if name in known
    }
    try:
        return DatasetInfo(**{**values, "colors": tuple(map(tuple, values["colors"]))})
    except (KeyError, TypeError):  # a required fact is missing
        return None


def fingerprint(workdir: Path) -> str | None:
    """The fingerprint of the data that a run was trained on; None where it is not known."""
    return _read_data(workdir).get("fingerprint")


def _read_data(workdir: Path) -> dict[str, Any]:
    """The content of ``data.json``; empty where it cannot be read."""
    return read_object(Path(workdir) / "data.json") or {}
