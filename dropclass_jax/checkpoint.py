"""Checkpoints: the train state and the position in the data, saved together by orbax.

A checkpoint becomes visible by a rename when it is complete, so a kill while it is written leaves
the one before it as the latest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grain.checkpoint
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from dropclass_jax.errors import UserError
from dropclass_jax.state import TrainState


def manager(workdir: Path, keep: int = 2) -> ocp.CheckpointManager:
    """The checkpoints of a run, in ``workdir/checkpoints``, saved asynchronously."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
    return ocp.CheckpointManager(Path(workdir).absolute() / "checkpoints", options=options)


def save(checkpoints: ocp.CheckpointManager, state: TrainState, data: Any) -> None:
    """Start to save the state and the data iterator; waits for a save that is still going on."""
    step = int(state.step)
    if checkpoints.latest_step() == step:
        return
    args = ocp.args.Composite(
        state=ocp.args.StandardSave(state), data=grain.checkpoint.CheckpointSave(data)
    )
    checkpoints.save(step, args=args)


def restore_latest(checkpoints: ocp.CheckpointManager, state: TrainState, data: Any) -> TrainState:
    """The latest checkpoint's state, or the given one when there is none.

    Args:
      checkpoints: from ``manager``.
      state: a state of the right structure and shapes.
      data: the data iterator; set to the checkpoint's position.

    Returns:
      The restored state.

    Raises:
      UserError: the checkpoint holds another model's state.
    """
    step = checkpoints.latest_step()
    if step is None:
        return state
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
    args = ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract), data=grain.checkpoint.CheckpointRestore(data)
    )
    try:
        restored = checkpoints.restore(step, args=args)["state"]
    except ValueError as error:
        raise UserError(_mismatch(checkpoints.directory, step, error)) from error
    # By way of the host: orbax ties arrays to a device, and the step would refuse them where it
    # runs on more than that one.
    return jax.tree.map(jnp.asarray, jax.device_get(restored))


def restore_variables(workdir: Path, variables: Any) -> tuple[Any, int]:
    """What a run's latest checkpoint predicts with: parameters and statistics.

    The parameters are the averaged ones where the run averages them, as in
    ``TrainState.eval_variables``.

    Args:
      workdir: the run's folder.
      variables: ``{'params': ..., 'batch_stats': ...}`` of the right structure and shapes; arrays
        or ``jax.ShapeDtypeStruct``.

    Returns:
      The variables, on the host, and the step of the checkpoint.

    Raises:
      UserError: there is no checkpoint, or it holds another model's variables.
    """
    with _reader(workdir) as checkpoints:
        step = checkpoints.latest_step()
        averaged = bool(checkpoints.item_metadata(step)["state"].tree.get("ema_params"))
        wanted = dict(variables)
        if averaged:
            wanted["ema_params"] = wanted.pop("params")
        restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
        args = ocp.args.PyTreeRestore(item=wanted, restore_args=restore_args, partial_restore=True)
        try:
            restored = checkpoints.restore(step, args=ocp.args.Composite(state=args))["state"]
        except ValueError as error:
            raise UserError(_mismatch(checkpoints.directory, step, error)) from error
    if averaged:
        restored["params"] = restored.pop("ema_params")
    return restored, step


def exists(workdir: Path) -> bool:
    """Whether a run has a finished checkpoint to continue from."""
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


def variable_shapes(workdir: Path) -> dict[str, Any]:
    """What variables a run's latest checkpoint holds, without reading them.

    Args:
      workdir: the run's folder.

    Returns:
      ``{'params': ..., 'batch_stats': ...}`` of ``jax.ShapeDtypeStruct``.

    Raises:
      UserError: there is no checkpoint.
    """
    with _reader(workdir) as checkpoints:
        stored = checkpoints.item_metadata(checkpoints.latest_step())["state"].tree
    variables = {name: stored[name] for name in ("params", "batch_stats")}
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)


@contextmanager
def _reader(workdir: Path) -> Iterator[ocp.CheckpointManager]:
    """The checkpoints of a run that has at least one."""
    directory = Path(workdir).absolute() / "checkpoints"
    options = ocp.CheckpointManagerOptions(create=False)
    if not directory.is_dir():
        raise UserError(f"{workdir} holds no checkpoint; train there first")
    # Named, or orbax warns of each that it could not restore, which nobody asked it to.
    handlers = {
        "state": ocp.PyTreeCheckpointHandler(),
        "data": grain.checkpoint.CheckpointHandler(),
    }
    with ocp.CheckpointManager(directory, options=options, item_handlers=handlers) as checkpoints:
        if checkpoints.latest_step() is None:
            raise UserError(f"{workdir} holds no finished checkpoint; train there first")
        yield checkpoints


def _mismatch(directory: Any, step: int, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0]
    return f"checkpoint {directory}/{step} does not fit this config's model: {reason}"
