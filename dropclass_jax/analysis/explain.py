"""Seg-Grad-CAM of one class in one image, at several layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from dropclass_jax.analysis import layer_access
from dropclass_jax.analysis.grad_cam import seg_grad_cam
from dropclass_jax.models.segmenter import Segmenter
from dropclass_jax.ops.images import normalize
from dropclass_jax.ops.resize import resize_bilinear
from dropclass_jax.runs.trained_network import TrainedNetwork

REGIONS = ("label", "predicted")


class Explained(NamedTuple):
    """One class in one image of H x W.

    Attributes:
      heat: ``{layer: [H, W] float32}``, 0 or more, unscaled, upsampled.
      answer: ``[H, W]`` bool: where the network says that class.
      strides: ``{layer: how many pixels its positions are apart}``.
    """

    heat: dict[str, np.ndarray]
    answer: np.ndarray
    strides: dict[str, int]


Explainer = Callable[[np.ndarray, np.ndarray, int], Explained]


def explainer(network: TrainedNetwork, shape: tuple[int, int], region: str = "label") -> Explainer:
    """Make a function that explains a class in an image by the network's own output.

    For a DropClass network that is ``drop``, with nothing dropped.

    Args:
      network: a run's.
      shape: ``(H, W)`` of the images.
      region: whose score is explained: that of the pixels that are the class by their ``label``, or
        that are ``predicted`` to be.

    Returns:
      ``(image uint8 [H, W, 3], label [H, W], class index) -> Explained``, compiled once.
    """
    images = jax.ShapeDtypeStruct((1, *shape, 3), jnp.float32)
    layers = layer_access.find(network.model, network.variables, images)
    compiled = jax.jit(
        partial(
            explain_batch,
            model=network.model,
            layers=layers,
            mean=network.info.mean,
            std=network.info.std,
            by_answer=region == "predicted",
        )
    )

    def explain(image: np.ndarray, label: np.ndarray, class_index: int) -> Explained:
        heat, answer = jax.device_get(
            compiled(network.variables, image[None], label[None], class_index)
        )
        heat = {layer: heat[layer] for layer in layers}  # from fine to deep; jax orders by name
        strides = {layer: round(shape[0] / array.shape[1]) for layer, array in heat.items()}
        # OpenCV's bilinear upsampling has half-pixel centres, as that of the logits.
        upsampled = {
            layer: cv2.resize(np.float32(array[0]), shape[::-1], interpolation=cv2.INTER_LINEAR)
            for layer, array in heat.items()
        }
        return Explained(upsampled, answer[0], strides)

    return explain


def explain_batch(
    variables: Any,
    images: jax.Array,
    labels: jax.Array,
    class_index: int | jax.Array,
    *,
    model: Segmenter,
    layers: Mapping[str, layer_access.Layer],
    mean: Any,
    std: Any,
    by_answer: bool = False,
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Heat maps ``{layer: [B, h, w]}`` of one class, and where it is the answer, ``[B, H, W]``.

    Args:
      variables: the model's.
      images: uint8 ``[B, H, W, 3]``.
      labels: ``[B, H, W]``.
      class_index: may be traced.
      model: the network.
      layers: the layers, from ``layer_access.find``.
      mean, std: of the images, on the scale 0 to 1.
      by_answer: explain the pixels predicted to be the class, not those labelled so.
    """
    images = normalize(images, mean, std)
    own_output = "logits_drop" if model.dropclass is not None else "logits"

    def network(added: Mapping[str, jax.Array]) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        outputs, activations = layer_access.apply(model, variables, images, layers, added)
        return outputs[own_output], activations

    logits, _ = network({})
    answer = jnp.argmax(resize_bilinear(logits, labels.shape[1:]), axis=-1) == class_index
    region = answer if by_answer else labels == class_index
    return seg_grad_cam(network, class_index, region), answer
