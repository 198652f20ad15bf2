"""One step of training: a pure function of a state, a batch and the run's PRNG key.

It is written for one device. With an ``axis_name`` it is one device's part of a step of all
devices, and every sum, weight and statistic is reduced over that axis before it is divided, so
that N devices compute what one device with the whole batch would.

A batch too large for the memory is taken in k parts, one after the other, whose sums add up to
those of the whole batch before anything is divided. Part i is every k-th example from the i-th on,
so that no example changes its part with the number of devices. Only batch norm sees a part alone:
its statistics are those of one part over all devices, and the running ones are updated k times.
A loss whose weights depend on the outputs runs the network twice on every part, first for the sums
of the whole batch, then for the gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dropclass_jax import objective
from dropclass_jax.ops import axis
from dropclass_jax.ops.images import Batch, normalize
from dropclass_jax.training import gradients
from dropclass_jax.training.draw import Draw, draw_for_batch
from dropclass_jax.training.recipe import Recipe
from dropclass_jax.training.state import TrainState, update_ema

# Folded into a step's key: beyond any row of a batch, whose keys are drawn likewise.
_DROPOUT = 2**31
_VARIATION = 2**31 + 1


class Coefficients(NamedTuple):
    """The schedules of DropClass, each step -> value."""

    lambda_: optax.Schedule
    p: optax.Schedule
    alpha: optax.Schedule


def update(
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    keep: jax.Array | None,
    lambda_: jax.Array | float,
    alpha: jax.Array | float,
    recipe: Recipe,
    *,
    dropout_key: jax.Array | None = None,
    variation_key: jax.Array | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update with everything given: no draw, no schedule, no other randomness.

    Args:
      state: the state before.
      images: float ``[B, H, W, 3]``, normalised.
      labels: ``[B, H, W]``, 0 to K - 1 or the recipe's ``ignore_label``.
      keep: ``[K]``, ``[B, K]`` or ``[B, gh, gw, K]``; None for plain training.
      lambda_: share of the plain path in the loss.
      alpha: weight of the suppression.
      recipe: what does not change from step to step.
      dropout_key: the PRNG key of dropout, equal on all devices; None for a model without.
      variation_key: that of the loss's variation, likewise.

    Returns:
      The state after, and scalars: ``loss``, ``loss_plain`` and, for DropClass, ``loss_drop`` and
      ``suppression`` (unscaled), ``loss_auxiliary`` where there is one, over all devices. A loss of
      regions comes beside that of pixels, as ``loss_plain_region``. On request
      ``gradient_norm_cross_entropy`` and ``gradient_norm_suppression``, weighted as in the loss.
    """

    def loss(terms: objective.Terms) -> jax.Array:
        return objective.total(terms, lambda_, alpha, recipe.auxiliary, recipe.loss.region_weight)

    rows = axis.example_rows(labels.shape[0], recipe.axis_name)
    outcome = gradients.of_batch(
        recipe,
        loss,
        state.params,
        state.batch_stats,
        gradients.Part(images, labels, keep, rows),
        dropout_key=dropout_key,
        variation_key=variation_key,
    )
    gradient = jax.tree.map(lambda *groups: sum(groups), *outcome.gradients.values())
    updates, opt_state = recipe.optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_params is not None:
        taken = state.step - state.skipped + 1
        ema_params = update_ema(ema_params, params, recipe.ema_decay, taken)
    new_state = state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=outcome.batch_stats,
        opt_state=opt_state,
        ema_params=ema_params,
    )
    scalars = {
        name if name == "suppression" else f"loss_{name}": objective.mean(term)
        for name, term in outcome.terms.items()
    }
    if recipe.gradient_norms:
        for group, part in outcome.gradients.items():
            scalars[f"gradient_norm_{group}"] = optax.tree.norm(part)
    return new_state, {"loss": loss(outcome.terms), **scalars}


def train_step(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    recipe: Recipe,
    learning_rate: optax.Schedule,
    image_mean: jax.Array,
    image_std: jax.Array,
    dropclass: tuple[Coefficients, Draw] | None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of training; what is named is bound by ``partial``.

    Args:
      state: the state before.
      batch: ``image`` uint8 ``[B, H, W, 3]`` and ``label`` integer ``[B, H, W]``.
      key: the run's PRNG key, which the draws, dropout and the loss's variation come from, with
        the step's number. Not bound, so that runs of all seeds share one compiled step.
      recipe: what does not change from step to step.
      learning_rate: the optimizer's schedule, for the record only.
      image_mean: ``[3]``, on the scale 0 to 1.
      image_std: ``[3]``, on the scale 0 to 1.
      dropclass: schedules and draw; None for plain training.

    Returns:
      The state after, and the scalars of ``update`` with ``lr`` and, for DropClass, ``lambda``,
      ``p``, ``dropped`` (the share of the positions where a class was dropped) and
      ``dropped_classes`` (how many were, on average over all positions).
    """
    images = normalize(batch["image"], image_mean, image_std)
    labels = batch["label"]
    key = jax.random.fold_in(key, state.step)
    keep, lambda_, alpha = None, 1.0, 0.0
    record = {"lr": learning_rate(state.step - state.skipped)}  # as the optimizer counts
    if dropclass is not None:
        coefficients, draw = dropclass
        lambda_, p, alpha = (schedule(state.step) for schedule in coefficients)
        keep = draw_for_batch(draw, key, p, labels, recipe.axis_name)
        record |= {"lambda": lambda_, "p": p, **_of_draw(keep, recipe.axis_name)}
    state, scalars = update(
        state,
        images,
        labels,
        keep,
        lambda_,
        alpha,
        recipe,
        dropout_key=jax.random.fold_in(key, _DROPOUT),
        variation_key=jax.random.fold_in(key, _VARIATION),
    )
    return state, {**scalars, **record}


def _of_draw(keep: jax.Array, axis_name: str | None) -> dict[str, jax.Array]:
    """What a keep-mask drops, on average over all places of all devices."""
    number = jnp.sum(keep == 0, axis=-1)
    means = {"dropped": jnp.mean(number > 0), "dropped_classes": jnp.mean(number)}
    means = {name: value.astype(jnp.float32) for name, value in means.items()}
    return means if axis_name is None else jax.lax.pmean(means, axis_name)
