"""Flags for sliding windows, several scales and flips at inference (``inference.Views``)."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from dropclass_jax.errors import UserError
from dropclass_jax.evaluation import inference


def define(values: flags.FlagValues = flags.FLAGS) -> None:
    """``--mode``, ``--window``, ``--stride``, ``--scales`` and ``--flip``."""
    flags.DEFINE_enum(
        "mode",
        None,
        ["whole", "slide"],
        "Show whole images, or slide a window over them; whole unless a window is given.",
        flag_values=values,
    )
    texts = {
        "window": "HEIGHT,WIDTH of the sliding window; by default the training crop's.",
        "stride": "DOWN,RIGHT: how far it moves; by default two thirds of the window.",
        "scales": "Factors to resize the images by, as 0.75,1,1.25.",
    }
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text, flag_values=values)
    flags.DEFINE_bool("flip", False, "Show the mirrored images as well.", flag_values=values)


def read(crop: Sequence[int], given: flags.FlagValues = flags.FLAGS) -> inference.Views:
    """The views that the flags ask for.

    Args:
      crop: height and width of the training crop, the default window.
      given: the parsed flags.

    Raises:
      UserError: a flag that cannot be read, is out of range or contradicts another.
    """
    window, stride = _pair("window", given.window), _pair("stride", given.stride)
    if given.mode == "whole" and (window or stride):
        raise UserError(
            "--mode=whole has no window: leave out --window and --stride, or give --mode=slide"
        )
    if window is None and (given.mode == "slide" or stride):
        height, width = crop
        window = height, width
    try:
        scales = tuple(float(scale) for scale in (given.scales or "1").split(","))
    except ValueError:
        raise UserError(
            f"--scales is factors with commas, as 0.75,1,1.25, not {given.scales!r}"
        ) from None
    views = inference.Views(window, stride, scales, given.flip)
    inference.check(views)
    return views


def _pair(name: str, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        down, right = map(int, text.split(","))
    except ValueError:
        raise UserError(
            f"--{name} is two whole numbers of pixels, as 512,1024, not {text!r}"
        ) from None
    return down, right
