"""The flags that say how images are shown to a network: ``inference.Views`` from a command line."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from dropclass_jax import inference
from dropclass_jax.errors import UserError


def define() -> None:
    """``--mode``, ``--window``, ``--stride``, ``--scales`` and ``--flip``."""
    flags.DEFINE_enum(
        "mode",
        None,
        ["whole", "slide"],
        "Show whole images, or slide a window over them; whole unless --window is given.",
    )
    flags.DEFINE_string(
        "window", None, "HEIGHT,WIDTH of the sliding window; by default the training crop's."
    )
    flags.DEFINE_string(
        "stride", None, "DOWN,RIGHT: how far it moves; by default two thirds of the window."
    )
    flags.DEFINE_string("scales", "1", "Factors to resize images by, as 0.75,1,1.25.")
    flags.DEFINE_bool("flip", False, "Show the mirrored image as well.")


def read(crop: Sequence[int]) -> inference.Views:
    """The views that were asked for.

    Args:
      crop: height and width of the training crop, the default window.

    Raises:
      UserError: a flag that cannot be read, is out of range or contradicts another.
    """
    given = flags.FLAGS
    window, stride = _pair("window", given.window), _pair("stride", given.stride)
    if given.mode == "whole" and (window or stride):
        raise UserError(
            "--mode=whole has no window: leave out --window and --stride, or give --mode=slide"
        )
    if window is None and (given.mode == "slide" or stride):
        height, width = crop
        window = height, width
    try:
        scales = tuple(float(scale) for scale in given.scales.split(","))
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
