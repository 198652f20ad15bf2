"""Losses that are not finite: stop the run at that step, or leave the update out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dropclass_jax.errors import UserError

ON_NONFINITE = ("stop", "skip")

Step = Callable[[Any, Any, jax.Array], tuple[Any, dict[str, jax.Array]]]


def skip_nonfinite(train_step: Step) -> Step:
    """A train step that leaves out an update whose loss or outcome is not finite.

    Parameters, statistics and the optimizer's state stay as they were; the step counts, its batch
    and draws are used up. The learning rate goes by the updates that were taken, as Adam's moments
    and the moving average do. Equal on all devices, as the loss and the new state are.

    Args:
      train_step: ``(state, batch, key) -> (state, scalars)``, see ``step.train_step``.

    Returns:
      The same with a scalar ``skipped``, the number of updates that were left out so far.
    """

    def step(state: Any, batch: Any, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        new, scalars = train_step(state, batch, key)
        floats = [x for x in jax.tree.leaves(new) if jnp.issubdtype(x.dtype, jnp.floating)]
        finite = jnp.isfinite(scalars["loss"])
        for leaf in floats:
            finite &= jnp.all(jnp.isfinite(leaf))
        kept = jax.tree.map(lambda ours, old: jnp.where(finite, ours, old), new, state)
        skipped = state.skipped + jnp.where(finite, 0, 1)
        return kept.replace(step=new.step, skipped=skipped), {**scalars, "skipped": skipped}

    return step


class LossCheck:
    """``check_finite`` of every step, one step late.

    So that the device has the next step to do while the loss of this one is awaited.

    Args:
      workdir: the run's folder.
    """

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir
        self._unchecked: tuple[Any, ...] | None = None

    def add(self, step: int, scalars: Mapping[str, Any], batch: Mapping[str, np.ndarray]) -> None:
        """A step was begun: check the one before it; arguments as of ``check_finite``."""
        self.finish()
        self._unchecked = (step, scalars, batch)

    def finish(self) -> None:
        """Check the last step that was added."""
        if self._unchecked:
            check_finite(self._workdir, *self._unchecked)
        self._unchecked = None


def check_finite(
    workdir: Path,
    step: int,
    scalars: Mapping[str, Any],
    batch: Mapping[str, np.ndarray],
) -> None:
    """Stop a run at the first step whose loss is not finite, and save that step's batch.

    A step of ``skip_nonfinite`` has dealt with it already, and passes.

    Args:
      workdir: the run's folder.
      step: the step that the scalars are of, counted from 1.
      scalars: of the train step.
      batch: this process's part of the step's batch, ``image``, ``label`` and ``id``.

    Raises:
      UserError: names the step, the loss terms, the examples and the file with the batch.
    """
    if "skipped" in scalars or math.isfinite(scalars["loss"]):
        return
    losses = (name for name in sorted(scalars) if name.startswith(("loss", "suppression")))
    terms = ", ".join(f"{name} {float(scalars[name]):.4g}" for name in losses)
    path = workdir / f"nonfinite_step{step}_process{jax.process_index()}.npz"
    try:
        np.savez_compressed(path, **batch)
        saved = f"the batch is in {path}"
    except OSError as error:
        saved = f"the batch could not be saved: {error.strerror}"
    ids = ", ".join(map(str, batch["id"]))
    raise UserError(
        f"the loss is not finite at step {step} ({terms}) of the examples {ids}; {saved}. "
        "Lower --config.optim.lr, or leave such updates out with --config.on_nonfinite=skip"
    )
