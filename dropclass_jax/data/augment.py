"""A training example from an image and its label: one view, cropped by a rule, jittered."""

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
    """What may happen to an example.

    Attributes:
      crop: height h and width w of the result.
      scales: the scales to draw from.
      flip: mirror half of the examples.
      jitter: how far the colours may go.
      crop_rule: when to place the crop anew.
    """

    crop: tuple[int, int]
    scales: tuple[Fraction, ...] = (Fraction(1),)
    flip: bool = True
    jitter: JitterRange = JitterRange()
    crop_rule: CropRule = CropRule()


class Draws(NamedTuple):
    """All that is random in one example, known before its image is read.

    Attributes:
      view: the variates of ``transforms.view_of``.
      jitter: of the colours.
      crop: the variates of ``crops.choose``.
    """

    view: np.ndarray
    jitter: Jitter
    crop: CropDraws


def check(augmentation: Augmentation) -> None:
    """Refuse values that make no sense.

    Raises:
      UserError: names the value.
    """
    if min(augmentation.crop) < 1:
        raise UserError(f"crop {tuple(augmentation.crop)}: want a height and a width above 0")
    photometric.check(augmentation.jitter)
    crops.check(augmentation.crop_rule)


def draw(rng: np.random.Generator, augmentation: Augmentation) -> Draws:
    """Draw everything, in an order and number that no option changes."""
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
    """One view of an example's image and label; its other entries stay.

    Padding is black whatever the jitter.

    Args:
      element: ``image`` uint8 [H, W, 3], ``label`` uint8 [H, W] and whatever else.
      draws: the randomness.
      augmentation: what may happen.
      focus: a class that the crop shall hold if the image does.

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
    """``apply`` to what ``draw`` draws."""
    return apply(element, draw(rng, augmentation), augmentation, focus)
