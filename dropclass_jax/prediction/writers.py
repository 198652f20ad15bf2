"""Write predictions as pictures or in the format of a benchmark's server."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dropclass_jax.data import codec
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.errors import UserError
from dropclass_jax.files import write_json
from dropclass_jax.prediction import frames, submission, video
from dropclass_jax.prediction.frames import Frame, Input
from dropclass_jax.prediction.predictor import Prediction, Predictor, predicted
from dropclass_jax.reporting import pictures
from dropclass_jax.reporting.legend_overlay import legend_overlay
from dropclass_jax.runs import trained_network
from dropclass_jax.runs.trained_network import TrainedNetwork

KINDS = ("index", "color", "overlay")
Write = Callable[[Frame, np.ndarray], None]
# For one input: a context in which its frames are written.
Writing = Callable[[Input], contextlib.AbstractContextManager[Write]]


def draw(kind: str, frame: Frame, classes: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """One of ``KINDS`` of pictures of a prediction, uint8 [H, W] or [H, W, 3]."""
    if kind == "index":
        return classes
    if kind == "color":
        return pictures.colorize(classes, info.colors)
    is_video = frame.source.is_video
    return legend_overlay(frame.image, classes, info.classes, info.colors, every_class=is_video)


def picture_writing(
    out: Path, kinds: Sequence[str], info: DatasetInfo, as_frames: bool = False
) -> Writing:
    """A writer of class maps, colour maps and overlays.

    Args:
      out: the folder of the results.
      kinds: some of ``KINDS``.
      info: names and colours of the classes.
      as_frames: write a PNG a frame of a video, for all kinds; else only for classes, which no
        codec keeps exact.
    """

    @contextlib.contextmanager
    def writing(source: Input) -> Iterator[Write]:
        with contextlib.ExitStack() as videos:
            append = {}
            for kind in kinds if source.is_video and not as_frames else ():
                if kind != "index":
                    path = _with_folder(out / kind / f"{source.name}.mp4")
                    rate = video.frame_rate(source.path)
                    append[kind] = videos.enter_context(video.writer(path, rate))

            def write(frame: Frame, classes: np.ndarray) -> None:
                number = f"/{frame.number:06}" if source.is_video else ""
                for kind in kinds:
                    picture = draw(kind, frame, classes, info)
                    if kind in append:
                        append[kind](picture)
                    else:
                        encode = codec.encode_label if kind == "index" else codec.encode_small
                        _write(out / kind / f"{source.name}{number}.png", encode(picture))

            yield write

    return writing


def submission_writing(
    out: Path, server: submission.Server, inputs: Sequence[Input], classes: Sequence[str]
) -> Writing:
    """A writer of what a benchmark's server takes.

    Args:
      out: the folder of the results.
      server: one of ``submission.SERVERS``.
      inputs: the images.
      classes: the names of the run's classes.

    Raises:
      UserError: these are not the benchmark's images or classes.
    """
    table = submission.class_table(server, classes)
    paths = submission.paths(server, inputs)

    def write(frame: Frame, predicted: np.ndarray) -> None:
        _write(out / paths[frame.source], server.encode(table[predicted]))

    return lambda source: contextlib.nullcontext(write)


def _write(path: Path, content: bytes) -> None:
    try:
        _with_folder(path).write_bytes(content)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}; choose another --out"
        ) from error


def _with_folder(path: Path) -> Path:
    """The path, once the folder that it is in has been made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder {path.parent} cannot be made: {error.strerror}; choose another --out"
        ) from error
    return path


def write_all(
    predict: Predictor,
    inputs: Sequence[Input],
    writing: Writing,
    window: str | tuple[int, int] | None = None,
) -> tuple[int, list[UserError]]:
    """Predict and write every input, with a progress bar; unreadable ones are reported at once.

    Args:
      predict: from ``predictor``.
      inputs: from ``frames.find``.
      writing: where to.
      window: of the training set; see ``DatasetInfo``.

    Returns:
      How many frames were written, and what was wrong with others.
    """
    bad: list[UserError] = []
    written = 0
    total = sum(source.length for source in inputs)
    with tqdm(total=total, unit="img", leave=False, disable=None) as bar:

        def good() -> Iterator[Prediction]:
            for outcome in predicted(predict, frames.ahead(frames.read(inputs, window))):
                if isinstance(outcome, UserError):
                    bad.append(outcome)
                    bar.write(f"bad input: {outcome}", file=sys.stderr)
                else:
                    yield outcome

        for source, predictions in itertools.groupby(good(), lambda p: p.frame.source):
            with writing(source) as write:
                for prediction in predictions:
                    write(*prediction)
                    written += 1
                    bar.update()
    return written, bad


def write_classes(out: Path, network: TrainedNetwork, head: str) -> None:
    """Write ``classes.json``: what the index pictures' values stand for, and of which run."""
    source = {"run": str(network.workdir), "step": network.step, "head": head}
    content = {**source, "classes": trained_network.values_of_classes(network)}
    write_json(_with_folder(out / "classes.json"), content)
