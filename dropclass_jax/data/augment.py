"""Data augmentation: random scale, crop, flip and colour jitter of an image and its label."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from dropclass_jax.data import crops, photometric, transforms
from dropclass_jax.data.crops import CropDraws, CropRule
from dropclass_jax.data.photometric import Jitter, JitterRange
from dropclass_jax.errors import UserError


class Augmentation(NamedTuple):
    """The settings of the augmentation.

    Attributes:
      crop: height h and width w of the result.
      scales: the scales to draw from.
      flip: whether to mirror half of the examples.
      jitter: ranges of the colour jitter.
      crop_rule: when to move the crop to another place.
    """

    crop: tuple[int, int]
    scales: tuple[Fraction, ...] = (Fraction(1),)
    flip: bool = True
    jitter: JitterRange = JitterRange()
    crop_rule: CropRule = CropRule()


class Draws(NamedTuple):
    """All random numbers of one example, drawn before its image is read.

    Attributes:
      view: variates for ``transforms.view_of``.
      jitter: the colour jitter.
      crop: variates for ``crops.choose``.
    """

    view: np.ndarray
    jitter: Jitter
    crop: CropDraws


def check(augmentation: Augmentation) -> None:
    """Check that the settings are in their ranges.

    Raises:
      UserError: one is not; the message names it.
    """
    if min(augmentation.crop) < 1:
        raise UserError(f"crop {tuple(augmentation.crop)}: want a height and a width above 0")
    photometric.check(augmentation.jitter)
    crops.check(augmentation.crop_rule)


def draw(rng: np.random.Generator, augmentation: Augmentation) -> Draws:
    """Draw all random numbers of an example; their order and number depend on no setting."""
    return Draws(
        view=rng.random(transforms.VIEW_VARIATES),
        jitter=photometric.draw_jitter(rng, augmentation.jitter),
        crop=crops.draw(rng),
    )


def apply(
    element: Mapping[str, Any],
    draws: Draws,
    augmentation: Augmentation,
    focus: int | None = None,
) -> dict[str, Any]:
    """Augment an example's image and label; its other entries are kept.

    Padding is black whatever the jitter.

    Args:
      element: ``image`` uint8 [H, W, 3], ``label`` uint8 [H, W] and any other entries.
      draws: from ``draw``.
      augmentation: the settings.
      focus: a class to place the crop over, if the image contains it.

    Returns:
      The element with ``image`` uint8 [h, w, 3] and ``label`` uint8 [h, w].
    """
    image, label = element["image"], element["label"]
    crop, scales, flip, _, rule = augmentation
    view = transforms.view_of(draws.view, label.shape, crop=crop, scales=scales, flip=flip)
    view = crops.choose(view, label, rule, draws.crop, focus)
    window = photometric.jitter_image(transforms.resample_image(image, view), draws.jitter)
    return {
        **element,
        "image": transforms.frame(window, view, 0),
        "label": transforms.view_label(label, view),
    }


def augment(
    element: Mapping[str, Any],
    rng: np.random.Generator,
    augmentation: Augmentation,
    focus: int | None = None,
) -> dict[str, Any]:
    """Draw random numbers and ``apply`` them: ``draw`` and ``apply`` in one call."""
    return apply(element, draw(rng, augmentation), augmentation, focus)
