"""Predict frames with a trained network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dropclass_jax.data import images
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation.inference import WHOLE, Views
from dropclass_jax.ops import cpu_compiler
from dropclass_jax.ops.resize import resize_bilinear
from dropclass_jax.prediction.frames import Frame
from dropclass_jax.runs import trained_network
from dropclass_jax.runs.trained_network import TrainedNetwork

# uint8 [H, W, 3] -> uint8 [H, W], which the device may not have finished yet.
Predictor = Callable[[np.ndarray], jax.Array]


class Prediction(NamedTuple):
    """A frame, and the class of each of its pixels, uint8 [H, W]."""

    frame: Frame
    classes: np.ndarray


def predictor(
    network: TrainedNetwork, head: str | None = None, views: Views = WHOLE, pad_to: int = 1
) -> Predictor:
    """A function from an image to its classes, compiled once for each size of images.

    Images are those of the data set's source: where the set was prepared at another resolution, the
    network sees them at that, too, and its scores are upsampled to the image.

    Args:
      network: a run's.
      head: ``drop`` or ``plain``; the network's own by default.
      views: how the network is shown an image.
      pad_to: images are padded below and on the right to multiples of this, with black as in
        evaluation: fewer sizes are compiled, but classes may change, most near the border. 1 pads
        nothing.

    Raises:
      UserError: the network has no such head, or a value is out of range.
    """
    if pad_to < 1:
        raise UserError(f"--pad_to={pad_to}: give 1 pixel or more")
    score = trained_network.scorer(network, head, views)
    resolution = images.exact(network.facts.resolution)

    @partial(
        jax.jit,
        compiler_options=cpu_compiler.forward_options(),
        static_argnames=("inside", "size"),
    )
    def classify(variables, padded, inside=None, size=None):
        scores = score(variables, padded)
        if inside is not None:
            scores = resize_bilinear(scores[:, : inside[0], : inside[1]], size)
        return jnp.argmax(scores, axis=-1).astype(jnp.uint8)

    def predict(image: np.ndarray) -> jax.Array:
        seen = images.reduce(image, resolution)
        height, width = seen.shape[:2]
        padded = np.pad(seen, ((0, -height % pad_to), (0, -width % pad_to), (0, 0)))[None]
        if seen is not image:
            return classify(network.variables, padded, (height, width), image.shape[:2])[0]
        return classify(network.variables, padded)[0, :height, :width]

    return predict


def predicted(
    predict: Predictor, outcomes: Iterable[Frame | UserError]
) -> Iterator[Prediction | UserError]:
    """Predict all frames; each result is yielded after the next frame was sent to the device.

    So the device works while a result is being written.

    Args:
      predict: from ``predictor``.
      outcomes: frames, and what is wrong with others, which is passed on.
    """
    running: tuple[Frame, jax.Array] | None = None
    for outcome in outcomes:
        coming = None
        try:
            if isinstance(outcome, UserError):
                yield outcome
            else:
                coming = outcome, predict(outcome.image)
        except jax.errors.JaxRuntimeError as error:
            yield _out_of_memory(outcome, error)
        if running is not None:
            yield _finished(*running)
        running = coming
    if running is not None:
        yield _finished(*running)


def _finished(frame: Frame, classes: jax.Array) -> Prediction | UserError:
    try:
        return Prediction(frame, np.asarray(classes))
    except jax.errors.JaxRuntimeError as error:
        return _out_of_memory(frame, error)


def _out_of_memory(frame: Frame, error: jax.errors.JaxRuntimeError) -> UserError:
    """A ``UserError`` for a lack of memory; any other error of the device is a bug, and raised."""
    if "RESOURCE_EXHAUSTED" not in str(error):
        raise error
    height, width = frame.image.shape[:2]
    return UserError(
        f"{frame.source.path} of {height}x{width} does not fit the device's memory: predict it in "
        "parts, with --window=H,W"
    )
