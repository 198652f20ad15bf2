"""Checkpoints of the train state, saved by orbax while training goes on.

A checkpoint becomes visible by a rename once it is complete, so that a kill during a save leaves
the previous one as the newest. One that was damaged later is found when it is read: it is set
aside, and the next older one is used. The position in the data is the state's step, so nothing else
needs to be saved, and a run may continue on another number of devices or processes.

The last few checkpoints are kept, and the best one by the mean IoU of the evaluations.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util
from orbax.checkpoint import checkpoint_managers

from dropclass_jax.errors import UserError, first_line
from dropclass_jax.files import read_object, write_json
from dropclass_jax.models import weight_files
from dropclass_jax.parallel import leaving, processes
from dropclass_jax.runs import checksums, records
from dropclass_jax.training.state import TrainState

Say = Callable[[str], None]


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


class Best(NamedTuple):
    """The best evaluation so far of a run.

    Attributes:
      step: the step it was at.
      mean_iou: its mean IoU, 0 to 1.
      split: of what; None in the file of an earlier version.
    """

    step: int
    mean_iou: float
    split: str | None = None


def manager(workdir: Path, keep: int = 2) -> ocp.CheckpointManager:
    """The checkpoints of a run, in ``workdir/checkpoints``, saved asynchronously.

    Args:
      workdir: the run's folder.
      keep: how many of the last ones to keep; the best one is kept besides.
    """
    policies = [checkpoint_managers.LatestN(keep), _KeepBest(workdir)]
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(_directory(workdir), options=options)


class _KeepBest(checkpoint_managers.PreservationPolicy):
    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        best = read_best(self._workdir)
        return [best is not None and saved.step == best.step for saved in checkpoints]


def read_best(workdir: Path) -> Best | None:
    """The best evaluation of a run, or None before the first.

    Where ``best.json`` is lost or damaged, it is found again in the run's records.
    """
    found = read_object(workdir / "best.json") or {}
    step, mean_iou, split = (found.get(key) for key in Best._fields)
    if isinstance(step, int) and isinstance(mean_iou, (int, float)):
        return Best(step, mean_iou, split)
    evaluations: dict[int, Best] = {}
    for record in records.read(workdir)[0]:
        mean_iou = record.get("mean_iou")
        if record["kind"] == "eval" and isinstance(mean_iou, (int, float)):
            # The first of a step is of the first split and the network's own head.
            best = Best(record["step"], mean_iou, record.get("split"))
            evaluations.setdefault(best.step, best)
    if not evaluations:
        return None
    latest = evaluations[max(evaluations)].split
    of_split = (best for best in evaluations.values() if best.split == latest)
    return max(of_split, key=lambda best: (best.mean_iou, -best.step))


def note_evaluation(
    workdir: Path, step: int, mean_iou: float, split: str, say: Say = print
) -> None:
    """Record an evaluation if it is the best so far of its split; the first of equal ones stays.

    Scores of two splits say nothing about which network is better: where another split is evaluated
    from now on, the best one is found anew, which ``say`` is told.
    """
    if jax.process_index() == 0:
        best = read_best(workdir)
        if best is not None and best.split not in (None, split):
            say(f"the best checkpoint was by {best.split}; it is by {split} from step {step} on")
            best = None
        if best is None or mean_iou > best.mean_iou:
            best = Best(step, mean_iou, split)
        if read_object(workdir / "best.json") != best._asdict():
            write_json(workdir / "best.json", best._asdict())


def save(checkpoints: ocp.CheckpointManager, state: TrainState) -> None:
    """Start saving the state in the background; waits for an unfinished save first.

    The state is copied to the host first, so that training may overwrite it at once.

    Raises:
      UserError: this or the last checkpoint cannot be written.
    """
    step = int(state.step)
    if step in checkpoints.all_steps():
        return
    with _one_line_errors(checkpoints):
        on_host = jax.device_get(state)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(on_host),
            checksums=ocp.args.JsonSave(checksums.of(on_host)),
        )
        checkpoints.save(step, args=args)


def finish(checkpoints: ocp.CheckpointManager) -> None:
    """Wait until the last save is complete.

    Raises:
      UserError: it cannot be written.
    """
    with _one_line_errors(checkpoints):
        checkpoints.wait_until_finished()


@contextmanager
def _one_line_errors(checkpoints: ocp.CheckpointManager) -> Iterator[None]:
    """Turn whatever orbax raises while it saves, as on a full disk, into a ``UserError``."""
    try:
        yield
    except Exception as error:
        if leaving.is_lost_process(error):
            raise
        saved = list(checkpoints.all_steps(read=True))
        last = f"the last good one is of step {max(saved)}" if saved else "there is none yet"
        raise UserError(
            f"cannot save a checkpoint in {checkpoints.directory} ({first_line(error)}); {last}. "
            "Make room or make it writable; the same command continues"
        ) from error


def restore_latest(
    checkpoints: ocp.CheckpointManager, state: TrainState, say: Say = print
) -> TrainState:
    """Restore the newest undamaged checkpoint; the given state where there is none.

    Args:
      checkpoints: from ``manager``.
      state: a state of the right structure and shapes.
      say: called with a message for each damaged checkpoint, which is moved away.

    Returns:
      The restored state, on the host.

    Raises:
      UserError: there are checkpoints, but none of them can be read; or the processes of a run see
        different ones, because their folder is not shared.
    """
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, jax.device_get(state))
    faults = []
    _quiet_about_closed_loops()
    steps = sorted(checkpoints.all_steps(), reverse=True)
    processes.check_agreement({f"the steps in {checkpoints.directory}": steps})
    for step in steps:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        fault = None
        try:
            restored = jax.device_get(checkpoints.restore(step, args=args)["state"])
            _check_shapes(restored, target)  # orbax hands out arrays of any
            _check_values(checkpoints, step, restored, int(restored.step), say)
        except Exception as error:
            fault = first_line(error)
        # What one process cannot read, none may continue from.
        if not processes.any_process(fault is not None):
            for bad, why in faults:
                _set_aside(checkpoints, bad, why, say)
            return restored
        faults.append((step, fault or "another process cannot read it"))
    if faults:
        told = "; ".join(f"{step}: {why}" for step, why in faults)
        raise UserError(
            f"no checkpoint in {checkpoints.directory} can be read ({told}): they are damaged, or "
            "of another model. Delete that folder to start anew"
        )
    return state


@functools.cache  # once a process
def _quiet_about_closed_loops() -> None:
    """Silence what threads of orbax print after a read has failed.

    They report to an event loop that is closed by then: pages of tracebacks around the one line
    that says what is wrong. Everything else is printed as before.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # the same of tasks nobody awaits
    printed = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not (kind is RuntimeError and str(error) == "Event loop is closed"):
            printed(kind, error, trace)

    sys.excepthook = hook


def _check_shapes(restored: Any, target: Any) -> None:
    wanted = dict(jax.tree.leaves_with_path(target))
    for path, leaf in jax.tree.leaves_with_path(restored):
        if isinstance(leaf, jax.ShapeDtypeStruct):  # left as it was asked for
            raise ValueError(f"{jax.tree_util.keystr(path)} is missing")
        if leaf.shape != wanted[path].shape:
            raise ValueError(
                f"{jax.tree_util.keystr(path)} has shape {leaf.shape}, not {wanted[path].shape}"
            )


def _check_values(
    checkpoints: ocp.CheckpointManager, step: int, restored: Any, stored_step: int, say: Say
) -> None:
    """Raise ``ValueError`` unless what was read is what was saved, at the step of its folder."""
    folder = checkpoints.directory / str(step)
    if (folder / "checksums").exists():
        expected = json.loads((folder / "checksums" / "metadata").read_text())
        if not isinstance(expected, dict):
            raise ValueError("its checksums are damaged")
        checksums.check(restored, expected)
    elif jax.process_index() == 0:
        say(f"checkpoint {step} is of an earlier version and has no checksums: used unchecked")
    if stored_step != step:
        raise ValueError(f"it holds the state of step {stored_step}")


def _set_aside(checkpoints: ocp.CheckpointManager, step: int, why: str, say: Say) -> None:
    """Move a damaged checkpoint out of the folder of checkpoints, under a free name."""
    damaged = checkpoints.directory.parent / f"damaged_checkpoint_{step}"
    if jax.process_index() == 0:
        number = 1
        while damaged.exists():
            number += 1
            damaged = damaged.with_name(f"damaged_checkpoint_{step}_{number}")
        (checkpoints.directory / str(step)).rename(damaged)
        say(f"checkpoint {step} is damaged ({why}): moved to {damaged}, using an older one")
    processes.barrier(f"set aside {step}")
    checkpoints.reload()


def exists(workdir: Path) -> bool:
    """Whether a run has a finished checkpoint to continue from."""
    return any(path.name.isdigit() for path in _directory(workdir).glob("*"))


def restore_variables(
    workdir: Path, variables: Any, which: str = "last", say: Say = _warn
) -> tuple[dict[str, Any], int]:
    """Parameters and batch statistics of a checkpoint, for prediction.

    The parameters are the averaged ones where the run averages them, as in
    ``TrainState.eval_variables``.

    Args:
      workdir: the run's folder.
      variables: ``{'params': ..., 'batch_stats': ...}`` of the right structure and shapes; arrays
        or ``jax.ShapeDtypeStruct``.
      which: ``'last'``, ``'best'`` (by mean IoU) or a step.
      say: told of a checkpoint that has no checksums, as an earlier version saved it.

    Returns:
      The variables, on the host, and the step of the checkpoint.

    Raises:
      UserError: there is no such checkpoint, or it is damaged or holds another model's variables.
    """
    with _reader(workdir) as checkpoints:
        step = _step_of(checkpoints, workdir, which)
        wanted = {**variables, "step": jax.ShapeDtypeStruct((), np.int32)}
        try:
            averaged = bool(checkpoints.item_metadata(step)["state"].tree.get("ema_params"))
            if averaged:
                wanted["ema_params"] = wanted.pop("params")
            restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
            args = ocp.args.PyTreeRestore(
                item=wanted, restore_args=restore_args, partial_restore=True
            )
            restored = checkpoints.restore(step, args=ocp.args.Composite(state=args))["state"]
            _check_shapes(restored, wanted)
            _check_values(checkpoints, step, restored, int(restored["step"]), say)
        except Exception as error:
            raise UserError(
                f"checkpoint {checkpoints.directory}/{step} is damaged, or does not fit this "
                f"config's model: {first_line(error)}. There are steps "
                f"{', '.join(map(str, checkpoints.all_steps()))}"
            ) from error
    del restored["step"]
    if averaged:
        restored["params"] = restored.pop("ema_params")
    return restored, step


def variable_shapes(workdir: Path) -> dict[str, Any]:
    """Shapes and dtypes of the variables in a run's last checkpoint; nothing is read.

    Args:
      workdir: the run's folder.

    Returns:
      ``{'params': ..., 'batch_stats': ...}`` of ``jax.ShapeDtypeStruct``.

    Raises:
      UserError: there is no checkpoint, or it is damaged.
    """
    with _reader(workdir) as checkpoints:
        step = checkpoints.latest_step()
        try:
            stored = checkpoints.item_metadata(step)["state"].tree
            variables = {name: stored[name] for name in ("params", "batch_stats")}
        except Exception as error:
            raise UserError(
                f"checkpoint {checkpoints.directory}/{step} is damaged: {first_line(error)}"
            ) from error
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a file of weights, or of a run's last checkpoint.

    Args:
      path: a file that ``weight_files.read`` takes, or the folder of a run.

    Returns:
      ``{name: array}``; of a run, what it predicts with: ``params/...`` and ``batch_stats/...``.

    Raises:
      UserError: names the file or folder and what is wrong with it.
    """
    workdir = Path(path).expanduser()
    if not workdir.is_dir():
        return weight_files.read(workdir)
    variables, _ = restore_variables(workdir, variable_shapes(workdir))
    leaves = traverse_util.flatten_dict(variables, sep="/")
    return {name: np.asarray(leaf) for name, leaf in leaves.items()}


@contextmanager
def _reader(workdir: Path) -> Iterator[ocp.CheckpointManager]:
    """Open the checkpoints of a run for reading; there must be one."""
    directory = _directory(workdir)
    options = ocp.CheckpointManagerOptions(create=False)
    if not directory.is_dir():
        raise UserError(f"{workdir} holds no checkpoint; train there first")
    _quiet_about_closed_loops()
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "checksums": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(directory, options=options, item_handlers=handlers) as checkpoints:
        if checkpoints.latest_step() is None:
            raise UserError(f"{workdir} holds no finished checkpoint; train there first")
        yield checkpoints


def _step_of(checkpoints: ocp.CheckpointManager, workdir: Path, which: str) -> int:
    steps = sorted(checkpoints.all_steps())
    if which == "last":
        return steps[-1]
    best = read_best(workdir)
    if which == "best":
        if best is None:
            raise UserError(f"{workdir} has no evaluation yet to tell which checkpoint is best")
        which = str(best.step)
    if which not in map(str, steps):
        raise UserError(
            f"{workdir} has no checkpoint {which!r}; there are last, best and "
            f"{', '.join(map(str, steps))}"
        )
    return int(which)


def _directory(workdir: Path) -> Path:
    return Path(workdir).absolute() / "checkpoints"
