"""Sweeps: several arms (changes of a config) by several seeds, each an ordinary run.

A sweep file is a small Python file whose docstring asks a question, with one function::

    def get_arms(config):
        return {"plain": {"dropclass.enabled": False}, "alpha 1": {"dropclass.alpha": 1.0}}

The arms' settings are those that differ from ``config``, by their full keys; the first arm is what
the others are compared with. An arm that starts from the network of another arm's run of the same
seed says so by ``"init.path": "{sweep}/ARM/seed{seed}"``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from dropclass_jax.errors import UserError, first_line, unknown
from dropclass_jax.experiment import build, idle
from dropclass_jax.experiment.batches import load_data, train_batches
from dropclass_jax.experiment.check import check as check_config
from dropclass_jax.experiment.config import (
    flatten,
    from_values,
    is_section,
    load_config,
    unknown_key,
)
from dropclass_jax.experiment.python_file import call
from dropclass_jax.runs import results, rundir

Arms = dict[str, dict[str, Any]]

# Settings that change with the length of training.
LENGTH = ("total_steps", "eval.every_steps", "checkpoint.every_steps")


class Sweep(NamedTuple):
    """The content of a sweep file.

    Attributes:
      question: the first paragraph of its docstring.
      arms: ``{name: {config key: value}}``, the reference first.
    """

    question: str
    arms: Arms


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
      arm: its name.
      seed: of the run.
      workdir: ``SWEEPDIR/ARM/seedN``.
      config: the run's config, whole.
      after: the folder of the run that has to be finished before, where there is one.
    """

    arm: str
    seed: int
    workdir: Path
    config: ConfigDict
    after: Path | None

    @property
    def name(self) -> str:
        """``ARM/seedN``."""
        return f"{self.arm}/seed{self.seed}"


def load(path: str, config: ConfigDict) -> Sweep:
    """Read a sweep file.

    Args:
      path: of the file.
      config: the config that the arms differ from.

    Raises:
      UserError: it is missing or holds no sweep.
    """
    arms, doc = call(path, "get_arms", "sweep file", config.copy_and_resolve_references())
    if not isinstance(arms, Mapping):
        raise UserError(f"sweep file {path}: get_arms returns {arms!r}, not a dict of arms")
    if not arms:
        raise UserError(f"sweep file {path} has no arms")
    for name, settings in arms.items():
        if not isinstance(name, str) or not name or name.startswith(".") or "/" in name:
            raise UserError(f"sweep file {path}: {name!r} cannot be an arm's name, nor a folder's")
        if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
            raise UserError(
                f"sweep file {path}: arm {name!r} is {settings!r}, not a dict of config keys"
            )
    question = " ".join((doc or path).strip().split("\n\n")[0].split())
    return Sweep(question, arms)


def choose(sweep: Sweep, names: Sequence[str]) -> Sweep:
    """The sweep with these arms alone; all of them for none."""
    for name in names:
        if name not in sweep.arms:
            raise UserError(unknown("arm of the sweep", name, sweep.arms))
    kept = {name: arm for name, arm in sweep.arms.items() if not names or name in names}
    return sweep._replace(arms=kept)


def plan(sweep: Sweep, config: ConfigDict, folder: Path, seeds: Sequence[int]) -> list[Run]:
    """All runs of a sweep in order: seed by seed, and each after the run that it starts from.

    Args:
      sweep: the arms.
      config: what they differ from.
      folder: the sweep's; made absolute, as a run's config may name another run.
      seeds: of every arm.

    Raises:
      UserError: an arm sets what no config has.
    """
    folder = folder.absolute()
    known = dict(flatten(config))
    runs = [
        _run(arm, settings, config, known, folder, seed)
        for seed in seeds
        for arm, settings in sweep.arms.items()
    ]
    planned, waiting = [], runs
    while waiting:
        folders = {run.workdir for run in planned}
        others = {run.workdir for run in waiting}
        ready = [run for run in waiting if run.after is None or run.after in folders]
        if not ready:
            run = waiting[0]
            why = "waits for itself" if run.after in others else f"needs {run.after}, no run of it"
            raise UserError(f"arm {run.arm!r} of the sweep {why}")
        planned += ready
        waiting = [run for run in waiting if run not in ready]
    return planned


def _run(
    arm: str,
    settings: Mapping[str, Any],
    config: ConfigDict,
    known: Mapping[str, Any],
    folder: Path,
    seed: int,
) -> Run:
    changed = config.copy_and_resolve_references()
    after = None
    for key, value in {**settings, "seed": seed}.items():
        if key not in known:
            raise UserError(f"arm {arm!r}: {unknown_key(key, known)}")
        if is_section(known[key]):
            raise UserError(f"arm {arm!r}: config key {key!r} is a section; set one of its keys")
        if key == "seed" and key in settings:
            raise UserError(f"arm {arm!r} sets the seed; give --seeds")
        if key == "init.path" and isinstance(value, str) and "{sweep}" in value:
            value = value.replace("{sweep}", str(folder)).replace("{seed}", str(seed))
            after = Path(value)
        try:
            changed.update_from_flattened_dict({key: value})
        except (TypeError, ValueError) as error:
            raise UserError(f"arm {arm!r}: {key} = {value!r}: {first_line(error)}") from None
    return Run(arm, seed, folder / arm / f"seed{seed}", changed, after)


def check(runs: Sequence[Run]) -> dict[str, str]:
    """Check the runs of a sweep before the first one starts.

    Does what a run does before its first step, except initialising the network: the data sets are
    prepared and all values are checked.

    Returns:
      The fingerprint of each data set, for ``check_data``.

    Raises:
      UserError: names the arm, and what is wrong with it.
    """
    datasets, fingerprints = {}, {}
    arms = {run.arm: run for run in runs}
    for run in arms.values():
        try:
            check_config(run.config)
            data = str(run.config.data.to_dict())
            if data not in datasets:
                datasets[data] = load_data(run.config)
            fingerprints[_data_of(run)] = datasets[data].fingerprint
            build.build(run.config, datasets[data])
            for split in ("train", *run.config.eval.splits):
                datasets[data].check_split(split)
            train_batches(run.config, datasets[data])
        except UserError as error:
            raise UserError(f"arm {run.arm!r}: {error}") from None
    return fingerprints


def notes(runs: Sequence[Run], arms: Arms, given: Collection[str]) -> list[str]:
    """Lines on settings that change nothing: an arm's own, and the user's that no arm looks at.

    Args:
      runs: of the sweep.
      arms: their settings.
      given: the keys that the user has set for all of them.
    """
    configs = {run.arm: run.config for run in runs}
    of_all = [idle.notes(config, given) for config in configs.values()]
    lines = [line for key, line in of_all[0].items() if all(key in found for found in of_all)]
    for arm, config in configs.items():
        lines += [f"arm {arm!r}: {line}" for line in idle.notes(config, arms[arm]).values()]
    return lines


def check_data(runs: Sequence[Run], now: Mapping[str, str] | None = None) -> None:
    """Refuse to go on with, or to compare, runs of data that has changed between them.

    Args:
      runs: of the sweep; those that have not begun are passed over.
      now: what ``check`` returned, where more runs are about to start.

    Raises:
      UserError: names two runs, or the one that is of other data than there is now.
    """
    known = {data: (fingerprint, None) for data, fingerprint in (now or {}).items()}
    for run in runs:
        fingerprint = rundir.fingerprint(run.workdir)
        if fingerprint is None:
            continue
        other, before = known.setdefault(_data_of(run), (fingerprint, run.workdir))
        if fingerprint != other:
            than = f"{before} was" if before else "there is now"
            raise UserError(
                f"{run.workdir} was trained on other data than {than}: the source or its options "
                "have changed. Restore the data, or train anew with another --dir"
            )


def _data_of(run: Run) -> str:
    """What names the run's data set in its config: not how it is read, nor what is trained on."""
    settings = run.config.data
    return str((settings.name, settings.dir, settings.options.to_dict()))


def is_finished(run: Run) -> bool:
    """Whether a run has reached its last step and was evaluated there, on all of its splits.

    Raises:
      UserError: its folder holds a run of another config.
    """
    if not rundir.exists(run.workdir):
        return False
    if changed := rundir.differences(run.workdir, _as_begun(run)):
        raise UserError(
            f"{run.workdir} holds a run of another config: {'; '.join(changed)}. "
            "Choose another --dir, or give the old values"
        )
    metrics = results.try_metrics(run.workdir)
    scored = {entry["split"] for entry in metrics.get("results", ())}
    return metrics.get("step") == run.config.total_steps and scored >= {*run.config.eval.splits}


def _as_begun(run: Run) -> dict[str, Any]:
    """The run's config, but for an older place of the sweep's folder, which is no difference."""
    config = run.config.copy_and_resolve_references()
    begun = from_values(rundir.read_config(run.workdir)).init.path
    if run.after and begun and Path(begun).parts[-2:] == run.after.parts[-2:]:
        config.init.path = begun
    return config.to_dict()


def steps_in_all(run: Run, runs: Sequence[Run]) -> int:
    """The steps of a run and of all runs before it from whose weights it started."""
    before = next((other for other in runs if other.workdir == run.after), None)
    return run.config.total_steps + (steps_in_all(before, runs) if before else 0)


def family(settings: Mapping[str, Any]) -> str:
    """A key that is equal for arms which differ only in the length of training."""
    return str(sorted((key, str(value)) for key, value in settings.items() if key not in LENGTH))


def arguments(spec: str, run: Run) -> list[str]:
    """The arguments of ``dropclass_jax.train`` for a run: only what differs from ``spec``."""
    given = dict(flatten(load_config(spec)))
    changed = [
        f"--config.{key}={value}"
        for key, value in flatten(run.config)
        if not is_section(value) and given[key] != value
    ]
    return [f"--config={spec}", f"--workdir={run.workdir}", *changed]
