"""Class-uniform sampling of training images.

Zhu et al., "Improving Semantic Segmentation via Video Propagation and Label Relaxation", CVPR 2019,
after Rota Bulò et al., CVPR 2018: draw a class uniformly, then one of the images that contain it,
and crop over the class. It applies to a share of the examples; the draw depends on the position in
the stream alone, and the other positions show the same images as without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dropclass_jax.errors import UserError

VARIATES = 3


class Sampler(NamedTuple):
    """The settings of class-uniform sampling, for one split.

    Attributes:
      share: share of the examples that are drawn by class, 0..1.
      crop: whether to place their crops over the class.
      images: each class that occurs, with the indices of the images that contain it, int64.
    """

    share: float = 0.0
    crop: bool = True
    images: tuple[tuple[int, np.ndarray], ...] = ()


AS_THEY_COME = Sampler()


def class_uniform(class_pixels: np.ndarray, share: float, crop: bool = True) -> Sampler:
    """A sampler for a split.

    Args:
      class_pixels: [N, K], pixels of each class in each image.
      share: share of the examples that are drawn by class, 0 to 1.
      crop: whether to place their crops over the class.

    Raises:
      UserError: the share is outside 0 to 1, or it is above 0 and no image contains any class.
    """
    if not 0 <= share <= 1:
        raise UserError(f"class_uniform {share}: want a share of the examples, 0 (off) to 1")
    holds = np.asarray(class_pixels) > 0
    images = tuple((k, np.flatnonzero(holds[:, k])) for k in np.flatnonzero(holds.any(axis=0)))
    if share > 0 and not images:
        raise UserError("class_uniform: no image of the training split holds a labelled pixel")
    return Sampler(share, crop, tuple((int(k), indices) for k, indices in images))


def choose(sampler: Sampler, index: int, variates: Sequence[float]) -> tuple[int, int | None]:
    """Choose the image at one position of the stream, and the class to crop over.

    Args:
      sampler: the settings.
      index: the image at this position without class-uniform sampling.
      variates: ``VARIATES`` uniform in [0, 1): whether to draw by class, which class, which image.

    Returns:
      The index of the image, and the class to place the crop over or None.
    """
    whether, which, image = variates
    if whether >= sampler.share:
        return index, None
    focus, indices = sampler.images[int(which * len(sampler.images))]
    return int(indices[int(image * len(indices))]), focus if sampler.crop else None
