"""One step of training and one of evaluation: pure functions of a state and a batch.

Both are written for one device. With an ``axis_name`` they are one device's part of a step of all
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

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from dropclass_jax import losses, objective
from dropclass_jax.dropclass import draw_keep
from dropclass_jax.models.layers import dropout_rows
from dropclass_jax.ops import axis
from dropclass_jax.ops.images import Batch, normalize
from dropclass_jax.ops.labels import IGNORE_LABEL
from dropclass_jax.training.state import TrainState, update_ema

# Folded into a step's key: beyond any row of a batch, whose keys are drawn likewise.
_DROPOUT = 2**31
_VARIATION = 2**31 + 1


class Coefficients(NamedTuple):
    """The schedules of DropClass, each step -> value."""

    lambda_: optax.Schedule
    p: optax.Schedule
    alpha: optax.Schedule


class Draw(NamedTuple):
    """How the dropped class is drawn.

    Attributes:
      class_odds: ``[K]``, each class's odds of being drawn; ones in the paper.
      per_example: draw for each example, not once for the whole batch.
      present_only: draw only from classes that the (whole) batch, or the example, holds.
    """

    class_odds: jax.Array
    per_example: bool = False
    present_only: bool = False


def _step_key(seed: int, step: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), step)


def draw_for_batch(
    draw: Draw,
    seed: int,
    step: jax.Array,
    drop_probability: jax.Array,
    labels: jax.Array,
    axis_name: str | None = None,
) -> jax.Array:
    """The keep-mask of one step: a function of (seed, step, example) alone.

    Args:
      draw: how to draw.
      seed: the run's seed.
      step: int32 scalar.
      drop_probability: p(t).
      labels: ``[B, H, W]``, this device's part.
      axis_name: the axis of the devices.

    Returns:
      ``[K]``, equal on all devices, or ``[B, K]`` when drawn per example.
    """
    key = _step_key(seed, step)
    odds = jnp.asarray(draw.class_odds, jnp.float32)
    if draw.present_only:
        classes = jnp.arange(odds.shape[0])
        present = lax.map(lambda c: jnp.any(labels == c, axis=(1, 2)), classes).T  # [B, K]
        if not draw.per_example:
            present = axis.psum(jnp.sum(present, axis=0), axis_name) > 0  # [K]
        odds = odds * present
    if draw.per_example:
        rows = axis.example_rows(labels.shape[0], axis_name)
        key = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)
        odds = jnp.broadcast_to(odds, (labels.shape[0], odds.shape[-1]))
    return draw_keep(key, drop_probability, odds)


def update(
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    keep: jax.Array | None,
    lambda_: jax.Array | float,
    alpha: jax.Array | float,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: losses.Loss = losses.LOSSES["cross_entropy"],
    auxiliary: float = 0.5,
    class_weights: jax.Array | None = None,
    ignore_label: int = IGNORE_LABEL,
    dropout_key: jax.Array | None = None,
    variation_key: jax.Array | None = None,
    accumulate_steps: int = 1,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimizer step for given draws and given coefficients: no schedule, no other randomness.

    Args:
      state: the state before.
      images: float ``[B, H, W, 3]``, normalised.
      labels: ``[B, H, W]``, 0 to K - 1 or ``ignore_label``.
      keep: ``[K]`` or ``[B, K]``; None for plain training.
      lambda_: share of the plain path in the loss.
      alpha: weight of the suppression.
      model: see ``dropclass_jax.models``; its batch norms use the same ``axis_name``.
      optimizer: an optax optimizer.
      loss: what stands in the place of the cross-entropy; see ``objective.LOSSES``.
      auxiliary: weight of the auxiliary classifier's loss, where the model has one.
      class_weights: ``[K]`` or None.
      ignore_label: the value of pixels that do not count.
      dropout_key: the PRNG key of dropout, equal on all devices; None for a model without.
      variation_key: that of the loss's variation, likewise.
      accumulate_steps: how many parts the batch is taken in; divides B.
      ema_decay: of the moving average of the parameters, where the state has one.
      axis_name: the axis of the devices.

    Returns:
      The state after, and scalars: ``loss``, ``loss_plain`` and, for DropClass, ``loss_drop`` and
      ``suppression`` (unscaled), ``loss_auxiliary`` where there is one, over all devices. A loss of
      regions comes beside that of pixels, as ``loss_plain_region``.
    """
    rngs = None if dropout_key is None else {"dropout": dropout_key}
    of_labels = {"class_weights": class_weights, "ignore_label": ignore_label}

    def terms_of(params: Any, batch_stats: Any, part: tuple[Any, ...]) -> tuple[Any, Any]:
        """Of one part on this device: loss terms, and the statistics after it."""
        images, labels, keep, rows = part
        with dropout_rows(rows):
            outputs, updated = model.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                keep=keep,
                train=True,
                mutable=["batch_stats"],
                rngs=rngs,
            )
        keys = None
        if variation_key is not None:
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(variation_key, rows)
        terms = objective.loss_terms(outputs, labels, keep, loss=loss, keys=keys, **of_labels)
        return terms, updated["batch_stats"]

    def gradients_of(
        batch_stats: Any, part: tuple[Any, ...], whole: objective.Terms
    ) -> tuple[Any, objective.Terms, Any]:
        """Of one part on this device: its share of the gradients, loss terms, statistics."""

        def share_of_loss(params: Any) -> tuple[jax.Array, tuple[objective.Terms, Any]]:
            terms, updated = terms_of(params, batch_stats, part)
            # Everybody's sums, as a function of this part's own: so the gradients of all parts and
            # devices add up to that of the global loss.
            fixed = lax.stop_gradient(terms)
            alike = jax.tree.map(lambda x: accumulate_steps * x, axis.psum(fixed, axis_name))
            sums = {name: whole.get(name, alike[name]) for name in terms}
            sums = jax.tree.map(lambda every, own, held: every + (own - held), sums, terms, fixed)
            total = objective.total(sums, lambda_, alpha, auxiliary, loss.region_weight)
            return total, (terms, updated)

        gradients, (terms, batch_stats) = jax.grad(share_of_loss, has_aux=True)(state.params)
        return gradients, terms, batch_stats

    rows = axis.example_rows(labels.shape[0], axis_name)
    if accumulate_steps == 1:
        part = images, labels, keep, rows
        gradients, terms, batch_stats = gradients_of(state.batch_stats, part, {})
    else:
        if keep is not None:
            keep = jnp.broadcast_to(keep, (labels.shape[0], keep.shape[-1]))
        split = partial(_in_parts, parts=accumulate_steps)
        parts = jax.tree.map(split, (images, labels, keep, rows))
        if loss.weighs_labels_alone:  # the sums may be any: their factors do not depend on them
            weights = axis.psum(objective.label_weights(labels, keep, **of_labels), axis_name)
            whole = {name: (jnp.zeros_like(weight), weight) for name, weight in weights.items()}
        else:
            terms = lax.map(lambda part: terms_of(state.params, state.batch_stats, part)[0], parts)
            whole = axis.psum(jax.tree.map(partial(jnp.sum, axis=0), terms), axis_name)

        def add_part(sums: tuple[Any, Any], part: tuple[Any, ...]) -> tuple[Any, objective.Terms]:
            gradients, batch_stats = sums
            more, terms, batch_stats = gradients_of(batch_stats, part, whole)
            return (jax.tree.map(jnp.add, gradients, more), batch_stats), terms

        none = jax.tree.map(jnp.zeros_like, state.params)
        (gradients, batch_stats), terms = lax.scan(add_part, (none, state.batch_stats), parts)
        terms = jax.tree.map(partial(jnp.sum, axis=0), terms)
    gradients, terms = axis.psum((gradients, terms), axis_name)

    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_params is not None:
        ema_params = update_ema(ema_params, params, ema_decay, state.step + 1)
    new_state = state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema_params=ema_params,
    )
    scalars = {
        name if name == "suppression" else f"loss_{name}": objective.mean(term)
        for name, term in terms.items()
    }
    total = objective.total(terms, lambda_, alpha, auxiliary, loss.region_weight)
    return new_state, {"loss": total, **scalars}


def _in_parts(x: jax.Array, parts: int) -> jax.Array:
    """``[B, ...]`` -> ``[parts, B / parts, ...]``: part i is ``x[i::parts]``."""
    return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    seed: int,
    image_mean: jax.Array,
    image_std: jax.Array,
    dropclass: tuple[Coefficients, Draw] | None,
    loss: losses.Loss = losses.LOSSES["cross_entropy"],
    auxiliary: float = 0.5,
    class_weights: jax.Array | None = None,
    accumulate_steps: int = 1,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of training; everything but state and batch is bound by ``partial``.

    Args:
      state: the state before.
      batch: ``image`` uint8 ``[B, H, W, 3]`` and ``label`` integer ``[B, H, W]``.
      model: see ``dropclass_jax.models``.
      optimizer: an optax optimizer.
      learning_rate: the optimizer's schedule, for the record only.
      seed: of the draws, of dropout and of the loss's variation.
      image_mean: ``[3]``, on the scale 0 to 1.
      image_std: ``[3]``, on the scale 0 to 1.
      dropclass: schedules and draw; None for plain training.
      loss: what stands in the place of the cross-entropy; see ``objective.LOSSES``.
      auxiliary: weight of the auxiliary classifier's loss, where the model has one.
      class_weights: ``[K]`` or None.
      accumulate_steps: how many parts the batch is taken in; see ``update``.
      ema_decay: of the moving average of the parameters, where the state has one.
      axis_name: the axis of the devices.

    Returns:
      The state after, and the scalars of ``update`` with ``lr`` and, for DropClass, ``lambda``,
      ``p`` and ``dropped`` (the share of examples with a class dropped).
    """
    images = normalize(batch["image"], image_mean, image_std)
    labels = batch["label"]
    keep, lambda_, alpha = None, 1.0, 0.0
    record = {"lr": learning_rate(state.step)}
    if dropclass is not None:
        coefficients, draw = dropclass
        lambda_, p, alpha = (schedule(state.step) for schedule in coefficients)
        keep = draw_for_batch(draw, seed, state.step, p, labels, axis_name)
        dropped = jnp.mean(jnp.any(keep == 0, axis=-1).astype(jnp.float32))
        if axis_name is not None:
            dropped = lax.pmean(dropped, axis_name)
        record |= {"lambda": lambda_, "p": p, "dropped": dropped}
    state, scalars = update(
        state,
        images,
        labels,
        keep,
        lambda_,
        alpha,
        model=model,
        optimizer=optimizer,
        loss=loss,
        auxiliary=auxiliary,
        class_weights=class_weights,
        dropout_key=jax.random.fold_in(_step_key(seed, state.step), _DROPOUT),
        variation_key=jax.random.fold_in(_step_key(seed, state.step), _VARIATION),
        accumulate_steps=accumulate_steps,
        ema_decay=ema_decay,
        axis_name=axis_name,
    )
    return state, {**scalars, **record}
