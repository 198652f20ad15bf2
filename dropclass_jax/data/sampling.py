"""Which images are read: as they come, or a share of them by class.

*Class-uniform sampling* (Zhu et al., "Improving Semantic Segmentation via Video Propagation and
Label Relaxation", CVPR 2019, after Rota Bulò et al., CVPR 2018): draw a class, every one as likely,
then one of the images that hold it, and crop where it is. What is drawn depends on the position in
the stream alone; the other positions show what they would show without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dropclass_jax.errors import UserError

VARIATES = 3


class Sampler(NamedTuple):
    """How to draw images by class.

    Attributes:
      share: of the examples that are drawn so, 0..1.
      crop: also place their crops over the class.
      images: for each class that any image holds, the class and the indices of its images, int64.
    """

    share: float = 0.0
    crop: bool = True
    images: tuple[tuple[int, np.ndarray], ...] = ()


AS_THEY_COME = Sampler()


def class_uniform(class_pixels: np.ndarray, share: float, crop: bool = True) -> Sampler:
    """A sampler for a split.

    Args:
      class_pixels: [N, K], pixels of each class in each image.
      share: of the examples that are drawn by class, 0 to 1.
      crop: also place their crops over the class.

    Raises:
      UserError: the share is not one, or no image holds any class.
    """
    if not 0 <= share <= 1:
        raise UserError(f"class_uniform {share}: want a share of the examples, 0 (off) to 1")
    holds = np.asarray(class_pixels) > 0
    images = tuple((k, np.flatnonzero(holds[:, k])) for k in np.flatnonzero(holds.any(axis=0)))
    if share > 0 and not images:
        raise UserError("class_uniform: no image of the training split holds a labelled pixel")
    return Sampler(share, crop, tuple((int(k), indices) for k, indices in images))


def choose(sampler: Sampler, index: int, variates: Sequence[float]) -> tuple[int, int | None]:
    """The image to read, and the class that its crop shall hold.

    Args:
      sampler: how to draw.
      index: the image that comes at this position anyway.
      variates: ``VARIATES`` uniform ones in [0, 1): whether, which class, which image.

    Returns:
      An image's index, and a class or None.
    """
    whether, which, image = variates
    if whether >= sampler.share:
        return index, None
    focus, indices = sampler.images[int(which * len(sampler.images))]
    return int(indices[int(image * len(indices))]), focus if sampler.crop else None
