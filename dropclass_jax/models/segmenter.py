"""The segmentation network: a backbone, a head, DropClass and a 1x1 classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from dropclass_jax.dropclass import DropClass
from dropclass_jax.keep_masks import keep_all
from dropclass_jax.models.batch_norm import MOMENTS
from dropclass_jax.models.heads import Auxiliary
from dropclass_jax.models.layers import Layers
from dropclass_jax.ops.convolution import PRODUCT

# For training. The drop path is one convolution between cheap products and norms: only the output
# of the convolution (and the moments, which all devices share) is stored for the backward pass; the
# rest is recomputed.
_Refine = nn.remat(
    DropClass,
    static_argnums=(2, 4),  # the classifier and whether to train
    policy=jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_saveable,
        jax.checkpoint_policies.save_only_these_names(MOMENTS, PRODUCT),
    ),
)


class Segmenter(nn.Module):
    """A segmentation network: images to per-class logits at the resolution of its features.

    Attributes:
      backbone: images ``[B, H, W, 3]`` -> maps from fine to deep, called with ``(images, train)``.
      head: maps -> features ``[B, h, w, C]``, called with ``(maps, train)``.
      num_classes: K.
      dropclass: keyword arguments of ``dropclass.DropClass``: the features are classified a second
        time, without the dropped classes. None for the plain network, without its parameters.
      auxiliary: index of the map that an auxiliary classifier reads; None for no such classifier.
      layers: makes the classifier and the refine block.
    """

    backbone: nn.Module
    head: Callable[[Any, bool], jax.Array]
    num_classes: int
    dropclass: Mapping[str, Any] | None = FrozenDict()
    auxiliary: int | None = None
    layers: Layers = Layers()

    @nn.compact
    def __call__(
        self, images: jax.Array, keep: jax.Array | None = None, train: bool = False
    ) -> dict[str, jax.Array]:
        """Apply the network.

        Args:
          images: float ``[B, H, W, 3]``, normalised.
          keep: ``[K]``, ``[B, K]`` or ``[B, gh, gw, K]``, 0 for a dropped class, see
            ``dropclass_jax.dropclass``; None drops nothing.
          train: normalise by the batch's statistics and update ``batch_stats``; a head with dropout
            needs a ``dropout`` key.

        Returns:
          ``features [B, h, w, C]``, ``logits [B, h, w, K]`` and, with DropClass,
          ``features_drop`` and ``logits_drop`` of the same shapes; with an auxiliary classifier
          ``logits_auxiliary`` at the resolution of its map. Logits are float32 or wider.
        """
        maps = self.backbone(images, train)
        features = self.head(maps, train)
        classifier = self.layers.conv(self.num_classes, 1, use_bias=True, name="classifier")
        outputs = {"features": features, "logits": classifier(features)}
        if self.dropclass is not None:
            # Unbound, the classifier is a pure function, which jax.grad can transform.
            unbound, classifier_variables = classifier.unbind()
            refine = (_Refine if train else DropClass)(
                self.layers.conv,
                self.layers.norm,
                **self.dropclass,
                name="refine",
            )
            features_drop = refine(
                features,
                lambda x: unbound.apply(classifier_variables, x),
                keep_all(self.num_classes) if keep is None else keep,
                train,
            )
            outputs |= {"features_drop": features_drop, "logits_drop": classifier(features_drop)}
        if self.auxiliary is not None:
            auxiliary = Auxiliary(self.num_classes, self.layers, name="auxiliary_head")
            outputs["logits_auxiliary"] = auxiliary(maps[self.auxiliary], train)
        return {
            name: value.astype(jnp.promote_types(value.dtype, jnp.float32))
            if name.startswith("logits")
            else value
            for name, value in outputs.items()
        }
