"""Dense inference: whole images, sliding windows, several scales and flips.

In all of them ``softmax(scores)`` are the probabilities and ``argmax(scores)`` is the prediction.
Everything is pure, with only the images traced, so that it can be jitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dropclass_jax.errors import UserError
from dropclass_jax.ops.resize import resize_bilinear

Outputs = dict[str, jax.Array]  # by their names in OUTPUTS
Forward = Callable[[jax.Array], Outputs]

# What a network can predict with, the one that does so first: 'drop', the drop path with nothing
# dropped, as in the reference, which only a DropClass network has; and 'plain'. Flags and the files
# of a run call an output a head.
OUTPUTS = ("drop", "plain")
_LOGITS = {"drop": "logits_drop", "plain": "logits"}


class Views(NamedTuple):
    """How an image is presented to a network: the keyword arguments of ``scores``.

    Attributes:
      window: ``(height, width)`` of a sliding window in pixels; None for the whole image.
      stride: how far it moves, down and to the right; None for two thirds of the window.
      scales: factors that the image is resized by.
      flip: also present it mirrored.
    """

    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False


WHOLE = Views()


def forward(model: nn.Module, variables: Any) -> Forward:
    """``images [B, H, W, 3] -> {output: logits [B, h, w, K]}`` of a trained network.

    Args:
      model: see ``dropclass_jax.models``.
      variables: the model's.
    """

    def apply(images: jax.Array) -> Outputs:
        arrays = model.apply(variables, images, train=False)
        return {name: arrays[_LOGITS[name]] for name in OUTPUTS if _LOGITS[name] in arrays}

    return apply


def scores(
    forward: Forward,
    images: jax.Array,
    *,
    window: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Outputs:
    """Scores of every class at every pixel.

    For a single view (one scale, no flip) they are the bilinearly upsampled logits, averaged where
    windows overlap, as in mmsegmentation. For several views they are the logarithm of the mean
    probability over the views.

    Windows lie on a grid from the top left corner; the last ones are flush with the lower and right
    border. They are processed one after the other, so that memory does not grow with their number.
    A window larger than the (scaled) image is cut to it, and then gives exactly what the whole
    image gives.

    Args:
      forward: images -> ``{output: logits [B, h, w, K]}``; see the function of that name.
      images: ``[B, H, W, 3]``, float, normalised.
      window: ``(height, width)`` in pixels of the scaled image; None for the whole image.
      stride: ``(down, right)``, from 1 to the window's size; None for two thirds of the window.
      scales: the sides of the views, as factors of the image's.
      flip: add the mirrored view of each scale.

    Returns:
      ``{output: [B, H, W, K]}``, in the dtype of the logits.

    Raises:
      UserError: a value that is out of range; see ``check``.
    """
    check(Views(window, stride, tuple(scales), flip))
    size = images.shape[1:3]
    views = [(scale, mirrored) for scale in scales for mirrored in ((False, True)[: 1 + flip])]
    total: Outputs = {}
    for scale, mirrored in views:
        view = resize_bilinear(images, scaled(size, scale))  # [B, sH, sW, 3]
        logits = _slide(forward, _mirror(view, mirrored), window, stride)
        logits = {name: _mirror(resize_bilinear(y, size), mirrored) for name, y in logits.items()}
        if len(views) == 1:
            return logits
        for name, y in logits.items():
            log_probability = jax.nn.log_softmax(y)
            seen = total.get(name)
            total[name] = log_probability if seen is None else jnp.logaddexp(seen, log_probability)
    return {output: y - math.log(len(views)) for output, y in total.items()}


def predictions(scores: Mapping[str, jax.Array]) -> Outputs:
    """The class of the highest score, ``{output: [B, H, W] uint8}``."""
    return {output: jnp.argmax(y, axis=-1).astype(jnp.uint8) for output, y in scores.items()}


def _slide(
    forward: Forward,
    images: jax.Array,
    window: tuple[int, int] | None,
    stride: tuple[int, int] | None,
) -> Outputs:
    """Logits of the whole images at the network's resolution, or of windows at the images'."""
    batch, *size, channels = images.shape
    if window is None or (window[0] >= size[0] and window[1] >= size[1]):
        return forward(images)
    grid, cover = window_grid(size, window, stride or default_stride(window))
    window = (min(window[0], size[0]), min(window[1], size[1]))

    def add(sums: Outputs, start: jax.Array) -> tuple[Outputs, None]:
        logits = forward(lax.dynamic_slice(images, start, (batch, *window, channels)))
        for output, y in logits.items():
            y = resize_bilinear(y, window)
            y += lax.dynamic_slice(sums[output], start, y.shape)
            sums = sums | {output: lax.dynamic_update_slice(sums[output], y, start)}
        return sums, None

    shapes = jax.eval_shape(forward, images[:, : window[0], : window[1]])
    zeros = {h: jnp.zeros((batch, *size, y.shape[-1]), y.dtype) for h, y in shapes.items()}
    starts = np.pad(grid, ((0, 0), (1, 1)))  # of [B, H, W, C]
    sums, _ = lax.scan(add, zeros, jnp.asarray(starts))
    return {output: y / cover[None, :, :, None].astype(y.dtype) for output, y in sums.items()}


def window_grid(
    size: Sequence[int], window: tuple[int, int], stride: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the windows that cover an image.

    Args:
      size: ``(H, W)`` of the image.
      window: ``(height, width)``; cut to the image.
      stride: ``(down, right)``, at most the window.

    Returns:
      The windows' top left corners ``[N, 2] int32``, row by row, and how many windows cover each
      pixel, ``[H, W] int32``, 1 or more.
    """
    corners, covers = [], []
    for length, extent, step in zip(size, window, stride, strict=True):
        last = max(length - extent, 0)
        starts = np.minimum(np.arange(0, last + step, step), last)  # the last one flush
        places = np.arange(length)
        inside = (starts[:, None] <= places) & (places < starts[:, None] + extent)
        corners.append(starts)
        covers.append(inside.sum(axis=0))
    grid = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid.astype(np.int32), np.outer(*covers).astype(np.int32)


def default_stride(window: tuple[int, int]) -> tuple[int, int]:
    """Two thirds of the window, as in mmsegmentation: ``(513, 513)`` for ``(769, 769)``."""
    down, right = (max(round(2 * extent / 3), 1) for extent in window)
    return down, right


def scaled(size: Sequence[int], scale: float) -> tuple[int, int]:
    """Height and width of an image resized by a factor; 1 at least."""
    if scale == 1:  # also of sizes that an exported network leaves open, which cannot be rounded
        return tuple(size)
    height, width = (max(round(length * scale), 1) for length in size)
    return height, width


def check(views: Views) -> None:
    """Refuse invalid views.

    Raises:
      UserError: names the first such value and what it may be.
    """
    window, stride, scales, _ = views
    if window is None and stride is not None:
        raise UserError(f"stride {_by(stride)} moves a window: give a window as well")
    if window is not None and min(window) < 1:
        raise UserError(f"window {_by(window)}: height and width are 1 or more")
    if stride is not None and not all(1 <= s <= w for s, w in zip(stride, window, strict=True)):
        raise UserError(
            f"stride {_by(stride)} does not fit window {_by(window)}: it is 1 at least and the "
            "window's height and width at most, so that no pixel is left out"
        )
    if not scales or not all(0 < scale < float("inf") for scale in scales):
        shown = ",".join(f"{scale:g}" for scale in scales) or "none"
        raise UserError(f"scales {shown}: give one or more factors above 0, as 0.75,1,1.25")


def describe(views: Views) -> str:
    """Views in a few words: ``whole``, or ``slide 128x128/85x85, scales 0.75 1 1.25, flip``."""
    words = ["whole"]
    if views.window is not None:
        stride = views.stride or default_stride(views.window)
        words = [f"slide {_by(views.window)}/{_by(stride)}"]
    if tuple(views.scales) != (1.0,):
        words.append("scales " + " ".join(f"{scale:g}" for scale in views.scales))
    return ", ".join(words + ["flip"] * views.flip)


def _by(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


def _mirror(x: jax.Array, mirrored: bool) -> jax.Array:
    """Mirror ``[B, H, W, C]`` left to right."""
    return x[:, :, ::-1] if mirrored else x
