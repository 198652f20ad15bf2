"""Learning rate and coefficients of DropClass as optax schedules, step -> value."""

from __future__ import annotations

import jax.numpy as jnp
import optax

SHAPES = ("linear", "cosine", "constant")


def ramp(
    shape: str,
    start: float,
    end: float,
    total_steps: int,
    *,
    begin: float = 0.0,
    steps_per_epoch: int | None = None,
) -> optax.Schedule:
    """A coefficient that goes from ``start`` to ``end`` over training.

    The reference's are ``ramp('linear', 1, 0, total)`` for lambda and ``ramp('linear', 0, 1,
    total)`` for p, in whole epochs.

    Args:
      shape: ``'linear'``, ``'cosine'`` (half a period), or ``'constant'`` (``end`` from ``begin``
        on).
      start: the value at step 0.
      end: the value at step ``total_steps``.
      total_steps: the length of training, in steps.
      begin: the share of training, 0 to 1, that passes before anything changes.
      steps_per_epoch: round the step down to whole epochs of this many steps; None moves with
        every step.

    Returns:
      A schedule.

    Raises:
      ValueError: an unknown shape.
    """
    first = round(begin * total_steps)
    length = max(total_steps - first, 1)
    if shape == "linear":
        after = optax.linear_schedule(start, end, length)
    elif shape == "cosine":
        fall = optax.cosine_decay_schedule(1.0, length)

        def after(step):
            return end + (start - end) * fall(step)

    elif shape == "constant":
        after = optax.constant_schedule(end)
    else:
        raise ValueError(f"shape is one of {', '.join(SHAPES)}, not {shape!r}")
    schedule = after
    if first:
        schedule = optax.join_schedules([optax.constant_schedule(start), after], [first])
    return schedule if steps_per_epoch is None else in_epochs(schedule, steps_per_epoch)


def in_epochs(schedule: optax.Schedule, steps_per_epoch: int) -> optax.Schedule:
    """The schedule held at its value at the start of each epoch."""
    return lambda step: schedule(step // steps_per_epoch * steps_per_epoch)


def poly(
    base: float, total_steps: int, *, power: float = 0.9, warmup_steps: int = 0, lag: int = 1
) -> optax.Schedule:
    """The learning rate ``base * (1 - step / total)^power``, after a linear warm-up.

    Args:
      base: the learning rate at its highest.
      total_steps: where it reaches zero.
      power: 0.9 in the reference.
      warmup_steps: the first steps climb linearly from ``base / warmup_steps``.
      lag: how many steps the decay is late. The reference sets the rate after each optimizer step,
        so that its first two steps both run at the base rate: a lag of 1, the default.

    Returns:
      A schedule.
    """
    decay = optax.polynomial_schedule(base, 0.0, power, total_steps)

    def learning_rate(step):
        warm = jnp.minimum((step + 1) / max(warmup_steps, 1), 1.0) if warmup_steps else 1.0
        return warm * decay(jnp.maximum(step - lag, 0))

    return learning_rate
