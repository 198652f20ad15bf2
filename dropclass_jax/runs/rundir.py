"""A run's folder: what lies in it, and who may continue it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.errors import UserError
from dropclass_jax.experiment.config import flatten, from_json, load_config, to_json
from dropclass_jax.files import write_json, write_text
from dropclass_jax.runs import lock

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
        check_free(workdir, config, fingerprint)
        if info is not None:
            check_classes(workdir, info.classes)
            check_normalization(workdir, info)
        about = {} if info is None else dataclasses.asdict(info)
        write_json(workdir / "data.json", {"fingerprint": fingerprint, **about})
        write_text(workdir / "config.json", to_json(config) + "\n")
    except OSError as error:
        raise UserError(f"workdir {workdir} cannot be written: {error.strerror}") from error


def check_free(workdir: Path, config: ConfigDict, fingerprint: str) -> None:
    """The first half of ``claim``: the folder is there, and nobody else's."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if (workdir / "config.json").exists():
            _check_same(workdir, config, fingerprint)
        elif any(path.name != lock.NAME for path in workdir.iterdir()):
            raise UserError(f"{workdir} is not empty and holds no run; choose another --workdir")
    except OSError as error:
        raise UserError(f"workdir {workdir} cannot be written: {error.strerror}") from error


def differences(workdir: Path, config: ConfigDict) -> list[str]:
    """What a config changes of a run's that its continuation must not: ``'KEY was A, is B'``."""
    old = dict(flatten(read_config(workdir)))
    new = dict(flatten(from_json(to_json(config))))
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
    """Refuse data whose classes are not those that a run was trained on, in their order.

    A class may be renamed: then its name is new. A name that the run knows at another place means
    another order, in which every score would be of the wrong class.

    Raises:
      UserError: the number of classes differs, or a name is at another place.
    """
    try:
        trained = json.loads((workdir / "data.json").read_text())["classes"]
    except (OSError, ValueError, KeyError):
        return  # nothing is known
    if not trained:
        return
    if len(trained) != len(classes):
        raise UserError(
            f"{workdir} was trained on {len(trained)} classes ({', '.join(trained)}), the data has "
            f"{len(classes)} ({', '.join(classes)}): score it on data of its own classes"
        )
    for position, name in enumerate(classes):
        if name in trained and trained[position] != name:
            raise UserError(
                f"{workdir} was trained with {name!r} as class {trained.index(name)}, in the data "
                f"it is class {position}: give the classes in the run's order "
                f"({', '.join(trained)}), or train anew"
            )


def check_normalization(workdir: Path, info: DatasetInfo) -> None:
    """Raise ``UserError`` unless a run was trained on images normalised as they would be now."""
    trained = read_info(workdir)
    if trained and (trained.mean, trained.std) != (info.mean, info.std):
        raise UserError(
            f"{workdir} was trained on images of mean {trained.mean} and deviation {trained.std} "
            f"(data.json), which its network and data set now take as {info.mean} and {info.std}: "
            "use the version that trained it, which run.json names"
        )


def read_config(workdir: Path) -> ConfigDict:
    """The config of a run.

    Raises:
      UserError: the folder holds no run.
    """
    try:
        config = from_json((Path(workdir) / "config.json").read_text())
    except (OSError, ValueError):
        raise UserError(f"{workdir} holds no run: config.json is missing or damaged") from None
    base = Path(__file__).parent.parent.parent / "configs" / "base.py"
    if base.is_file():  # not there where the package alone is installed
        _fill(config, load_config(str(base)))
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
