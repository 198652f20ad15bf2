"""What the forward pass keeps for the backward pass, before any compiler: exact on any machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dropclass_jax import objective
from dropclass_jax.benchmark.case import VARIANTS, Case, network
from dropclass_jax.benchmark.section import Options
from dropclass_jax.models.variables import init_shapes
from dropclass_jax.reporting.text_table import aligned

TITLE = "Memory kept for the backward pass (model.remat=none and blocks)"


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Sizes of what ``jax.vjp`` of the loss hands on.

    Returns:
      ``{variant: {"none": bytes, "blocks": bytes}}``.
    """
    return {
        variant: {
            name: kept_bytes(case, variant, remat=name == "blocks") for name in ("none", "blocks")
        }
        for variant in VARIANTS[:2]
    }


def kept_bytes(case: Case, variant: str, *, remat: bool = False) -> int:
    """The bytes of what the forward pass of one batch keeps, parameters and images included.

    Args:
      case: the network, the size and the dtype.
      variant: one of ``VARIANTS``.
      remat: compute the backbone's blocks again.
    """
    model = network(case, variant, remat=remat)
    shapes = init_shapes(model)
    labels = jax.ShapeDtypeStruct((case.batch, *case.size), jnp.uint8)
    images = jax.ShapeDtypeStruct((case.batch, *case.size, 3), jnp.float32)
    keep = None if variant == "plain" else jax.ShapeDtypeStruct((case.classes,), jnp.float32)

    def backward(variables: Any, images: Any, labels: Any, keep: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            outputs, _ = model.apply(
                {**variables, "params": params},
                images,
                keep=keep,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
            return objective.total(objective.loss_terms(outputs, labels, keep), 0.5)

        return jax.vjp(loss, variables["params"])[1]

    kept = jax.eval_shape(backward, shapes, images, labels, keep)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


def lines(results: Sequence[tuple[Case, Mapping[str, Any]]]) -> list[str]:
    """The table."""
    header = ["GiB", *(f"{variant}, {remat}" for variant in VARIANTS[:2] for remat in _REMAT)]
    rows = [
        [str(case), *(f"{result[v][r] / 2**30:.2f}" for v in VARIANTS[:2] for r in _REMAT)]
        for case, result in results
    ]
    return ["", *aligned(header, rows)]


_REMAT = ("none", "blocks")
