"""Seg-Grad-CAM: where a layer speaks for a class, in a region of an image.

Vinogradova, Dibrov, Myers, "Towards Interpretable Semantic Segmentation via Gradient-Weighted Class
Activation Mapping", AAAI 2020: Grad-CAM (Selvaraju et al., ICCV 2017) with the class's score summed
over the pixels of a region in place of an image's one score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from dropclass_jax.ops.resize import resize_bilinear

Arrays = Mapping[str, jax.Array]


def region_score(logits: jax.Array, class_index: int | jax.Array, region: jax.Array) -> jax.Array:
    """The class's logits, upsampled, summed over the region.

    Args:
      logits: ``[B, h, w, K]``.
      class_index: may be traced.
      region: ``[B, H, W]``, True or 1 where a pixel belongs to it.

    Returns:
      A scalar, over all of the batch.
    """
    score = jnp.take(logits, jnp.asarray(class_index)[None], axis=-1)  # [B, h, w, 1]
    score = resize_bilinear(score, region.shape[1:3])[..., 0]
    return jnp.sum(jnp.where(region, score, 0))


def heat_map(activation: jax.Array, gradient: jax.Array) -> jax.Array:
    """``relu(sum_k mean(gradient_k) * activation_k)``: ``[B, h, w, C]`` each to ``[B, h, w]``."""
    wide = jnp.promote_types(activation.dtype, jnp.float32)
    weights = jnp.mean(gradient.astype(wide), axis=(1, 2), keepdims=True)  # [B, 1, 1, C]
    return jax.nn.relu(jnp.sum(weights * activation.astype(wide), axis=-1))


def seg_grad_cam(
    network: Callable[[Arrays], tuple[jax.Array, Arrays]],
    class_index: int | jax.Array,
    region: jax.Array,
) -> dict[str, jax.Array]:
    """The heat maps of several layers for one class.

    Args:
      network: called with ``{layer: what to add to it}``, returns logits ``[B, h, w, K]`` and
        ``{layer: its activations [B, h', w', C']}``; see ``layer_access.apply``. No example may
        change another's logits.
      class_index: may be traced.
      region: ``[B, H, W]``, whose score is explained.

    Returns:
      ``{layer: [B, h', w']}``, 0 or more, unscaled.
    """

    def score(push: Arrays) -> tuple[jax.Array, Arrays]:
        logits, activations = network(push)
        return region_score(logits, class_index, region), activations

    _, shapes = jax.eval_shape(network, {})
    still = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
    gradients, activations = jax.grad(score, has_aux=True)(still)
    return {name: heat_map(activations[name], gradients[name]) for name in gradients}


def share_inside(heat: np.ndarray, region: np.ndarray) -> float:
    """How much of a heat map lies in a region, both ``[H, W]``; NaN where it is 0 everywhere.

    The "energy" of Wang et al., "Score-CAM", CVPR workshops 2020. A map that is the same everywhere
    has the region's share of the image.
    """
    total = float(np.sum(heat, dtype=np.float64))
    inside = float(np.sum(heat, where=np.asarray(region, bool), dtype=np.float64))
    return inside / total if total > 0 else float("nan")
