"""The gradient of the global loss, part by part.

The loss is a function of sums over all examples: of every device, and of every part that a device
takes its examples in. The gradient of a part is that of the global loss with respect to this
part's sums; all other sums are constants. The gradients of all parts and devices add up to that of
the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dropclass_jax import objective
from dropclass_jax.models.layers import dropout_rows
from dropclass_jax.objective import Terms
from dropclass_jax.ops import axis
from dropclass_jax.training.recipe import Recipe


class Part(NamedTuple):
    """Some examples of a batch.

    Attributes:
      images: float ``[b, H, W, 3]``, normalised.
      labels: ``[b, H, W]``.
      keep: the keep-mask, or None for plain training.
      rows: ``[b]``, the examples' rows in the global batch, which decide their randomness.
    """

    images: jax.Array
    labels: jax.Array
    keep: jax.Array | None
    rows: jax.Array


class Outcome(NamedTuple):
    """The gradients of a batch or of a part of it, and what came with them.

    Attributes:
      gradients: in the parameters' structure, of each group of terms; their sum is that of the
        loss. The only group is ``loss``, or they are ``cross_entropy`` and ``suppression``.
      terms: see ``objective.loss_terms``.
      batch_stats: the running statistics after it.
    """

    gradients: dict[str, Any]
    terms: Terms
    batch_stats: Any


# (parameters, running statistics, part) -> loss terms, and the statistics after it.
Forward = Callable[[Any, Any, Part], tuple[Terms, Any]]


def forward(
    recipe: Recipe, dropout_key: jax.Array | None, variation_key: jax.Array | None
) -> Forward:
    """The forward pass in training; keys as of ``of_batch``."""
    rngs = None if dropout_key is None else {"dropout": dropout_key}

    def terms_of(params: Any, batch_stats: Any, part: Part) -> tuple[Terms, Any]:
        with dropout_rows(part.rows):
            outputs, updated = recipe.model.apply(
                {"params": params, "batch_stats": batch_stats},
                part.images,
                keep=part.keep,
                train=True,
                mutable=["batch_stats"],
                rngs=rngs,
            )
        keys = None
        if variation_key is not None:
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(variation_key, part.rows)
        terms = objective.loss_terms(
            outputs,
            part.labels,
            part.keep,
            loss=recipe.loss,
            class_weights=recipe.class_weights,
            ignore_label=recipe.ignore_label,
            keys=keys,
        )
        return terms, updated["batch_stats"]

    return terms_of


def of_part(
    terms_of: Forward,
    loss: Callable[[Terms], jax.Array],
    sums_of_all: Callable[[Terms], Terms],
    groups: tuple[str, ...],
    params: Any,
    batch_stats: Any,
    part: Part,
) -> Outcome:
    """Differentiate the global loss with respect to this part's sums.

    Args:
      terms_of: the forward pass.
      loss: the global loss, of the sums over all parts and devices.
      sums_of_all: the sums over all parts and devices, given this part's.
      groups: of which terms to take the gradient by itself, by name; the first one is that of all
        other terms.
      params: the parameters.
      batch_stats: the running statistics before.
      part: its examples.

    Returns:
      This part's share of the gradients, its own terms, the statistics after it.
    """
    terms, backward, batch_stats = jax.vjp(
        lambda params: terms_of(params, batch_stats, part), params, has_aux=True
    )
    sums = jax.tree.map(lambda every, own: every.astype(own.dtype), sums_of_all(terms), terms)
    slopes = jax.grad(loss)(sums)

    def of_group(group: str) -> Terms:
        return {
            name: slope
            if (name if name in groups else groups[0]) == group
            else jax.tree.map(jnp.zeros_like, slope)
            for name, slope in slopes.items()
        }

    gradients = {group: backward(of_group(group))[0] for group in groups}
    return Outcome(gradients, terms, batch_stats)


def of_batch(
    recipe: Recipe,
    loss: Callable[[Terms], jax.Array],
    params: Any,
    batch_stats: Any,
    batch: Part,
    *,
    dropout_key: jax.Array | None = None,
    variation_key: jax.Array | None = None,
) -> Outcome:
    """The gradients of the loss, summed over parts and devices.

    Args:
      recipe: model, loss, and how many parts there are.
      loss: the global loss, of the sums over all parts and devices.
      params: the parameters.
      batch_stats: the running statistics before.
      batch: this device's examples.
      dropout_key: the PRNG key of dropout, equal on all devices; None for a model without.
      variation_key: that of the loss's variation, likewise.

    Returns:
      The gradients, terms and statistics of all devices.
    """
    count, axis_name = recipe.accumulate_steps, recipe.axis_name
    terms_of = forward(recipe, dropout_key, variation_key)
    groups: tuple[str, ...] = ("loss",)
    if recipe.gradient_norms:
        groups = ("cross_entropy",) if batch.keep is None else ("cross_entropy", "suppression")
    if count == 1:
        of_all = partial(axis.psum, axis_name=axis_name)
        outcome = of_part(terms_of, loss, of_all, groups, params, batch_stats, batch)
        return Outcome(*axis.psum(outcome[:2], axis_name), outcome.batch_stats)

    parts = _split(batch, count)
    if recipe.loss.weighs_labels_alone:  # the sums may be any: their factors do not depend on them
        weights = objective.label_weights(
            batch.labels,
            batch.keep,
            class_weights=recipe.class_weights,
            ignore_label=recipe.ignore_label,
        )
        known = {name: (jnp.zeros_like(weight), weight) for name, weight in weights.items()}
    else:
        terms = lax.map(lambda part: terms_of(params, batch_stats, part)[0], parts)
        known = jax.tree.map(partial(jnp.sum, axis=0), terms)
    known = axis.psum(known, axis_name)

    def of_all(terms: Terms) -> Terms:
        # What is not known beforehand has the same weight in every part.
        alike = jax.tree.map(lambda x: count * x, axis.psum(terms, axis_name))
        return {name: known.get(name, alike[name]) for name in terms}

    def add_part(sums: tuple[Any, Any], part: Part) -> tuple[Any, Terms]:
        gradients, batch_stats = sums
        outcome = of_part(terms_of, loss, of_all, groups, params, batch_stats, part)
        gradients = jax.tree.map(jnp.add, gradients, outcome.gradients)
        return (gradients, outcome.batch_stats), outcome.terms

    none = {group: jax.tree.map(jnp.zeros_like, params) for group in groups}
    (gradients, batch_stats), terms = lax.scan(add_part, (none, batch_stats), parts)
    terms = jax.tree.map(partial(jnp.sum, axis=0), terms)
    return Outcome(*axis.psum((gradients, terms), axis_name), batch_stats)


def _split(batch: Part, count: int) -> Part:
    """``[b, ...]`` -> ``[count, b / count, ...]``: part i is every count-th example from i on."""
    examples = len(batch.labels)
    if batch.keep is not None and batch.keep.ndim == 1:
        batch = batch._replace(keep=jnp.broadcast_to(batch.keep, (examples, *batch.keep.shape)))

    def split(x: jax.Array) -> jax.Array:
        return jnp.swapaxes(x.reshape(examples // count, count, *x.shape[1:]), 0, 1)

    return jax.tree.map(split, batch)
