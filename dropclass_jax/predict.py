"""Predict images, folders of them, and videos with a trained run; its data is not needed.

    python -m dropclass_jax.predict --workdir=RUN INPUT... --out=DIR

Writes, of each image, under its path in the folder that was given:

    DIR/index/NAME.png      the class of every pixel, a grey value; DIR/classes.json names them
    DIR/color/NAME.png      the same in the classes' colours
    DIR/overlay/NAME.png    the colours over the image, and the key to them beside it

`--save=index,color` writes only these. Of a video, colours and overlays become NAME.mp4, and the
classes NAME/000000.png and so on; with `--frames` all do. `--submission=cityscapes|voc` writes what
that benchmark's server takes, and nothing else.

The network is compiled once for each size of images. `--pad_to=32` pads them with black to
multiples of 32: fewer sizes, and for networks of several resolutions, as HRNet, often better
classes.

An input that cannot be read is reported and skipped; the exit code is then 1.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from dropclass_jax.cli import app, view_flags
from dropclass_jax.data import codec
from dropclass_jax.data.info import DatasetInfo
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation.inference import HEADS, WHOLE, Views
from dropclass_jax.prediction import frames, submission, video
from dropclass_jax.prediction.frames import Frame, Input
from dropclass_jax.reporting import pictures
from dropclass_jax.reporting.keyed import keyed_overlay
from dropclass_jax.runs import rundir, trained
from dropclass_jax.runs.trained import Trained

KINDS = ("index", "color", "overlay")

# uint8 [H, W, 3] -> uint8 [H, W], which the device may not have finished yet.
Predictor = Callable[[np.ndarray], jax.Array]
Write = Callable[[Frame, np.ndarray], None]
# For one input: a context in which its frames are written.
Writing = Callable[[Input], contextlib.AbstractContextManager[Write]]


class Prediction(NamedTuple):
    """A frame, and the class of each of its pixels, uint8 [H, W]."""

    frame: Frame
    classes: np.ndarray


def predictor(
    network: Trained, head: str | None = None, views: Views = WHOLE, pad_to: int = 1
) -> Predictor:
    """A function from an image to its classes, compiled once for each size of images.

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
    score = trained.scorer(network, head, views)

    @jax.jit
    def classify(variables, images):
        return jnp.argmax(score(variables, images), axis=-1).astype(jnp.uint8)

    def predict(image: np.ndarray) -> jax.Array:
        height, width = image.shape[:2]
        padded = np.pad(image, ((0, -height % pad_to), (0, -width % pad_to), (0, 0)))
        return classify(network.variables, padded[None])[0, :height, :width]

    return predict


def predicted(
    predict: Predictor, outcomes: Iterable[Frame | UserError]
) -> Iterator[Prediction | UserError]:
    """The predictions of all frames, each handed out when the next is on the device.

    So the device works while a result is written.

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
    """In one line; anything else that the device says is a bug, and raised."""
    if "RESOURCE_EXHAUSTED" not in str(error):
        raise error
    height, width = frame.image.shape[:2]
    return UserError(
        f"{frame.source.path} of {height}x{width} does not fit the device's memory: predict it in "
        "parts, with --window=H,W"
    )


def draw(kind: str, frame: Frame, classes: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """One of ``KINDS`` of pictures of a prediction, uint8 [H, W] or [H, W, 3]."""
    if kind == "index":
        return classes
    if kind == "color":
        return pictures.colorize(classes, info.colors)
    is_video = frame.source.is_video
    return keyed_overlay(frame.image, classes, info.classes, info.colors, every_class=is_video)


def picture_writing(
    out: Path, kinds: Sequence[str], info: DatasetInfo, as_frames: bool = False
) -> Writing:
    """Write pictures for people and programs.

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
                    path = _made_room(out / kind / f"{source.name}.mp4")
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
    """Write what a benchmark's server takes.

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
        _made_room(path).write_bytes(content)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}; choose another --out"
        ) from error


def _made_room(path: Path) -> Path:
    """The path, with the folder that it is in."""
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
    """Predict and write every input, with a bar on a terminal; say at once what cannot be read.

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


def write_classes(out: Path, network: Trained, head: str) -> None:
    """``classes.json``: what the values of the index pictures stand for, and whose they are."""
    about = {"run": str(network.workdir), "step": network.step, "head": head}
    content = {**about, "classes": trained.class_list(network)}
    rundir.write_json(_made_room(out / "classes.json"), content)


def predict_run(
    workdir: Path,
    paths: Sequence[Path],
    out: Path,
    *,
    kinds: Sequence[str] = KINDS,
    as_frames: bool = False,
    server: str | None = None,
    head: str | None = None,
    which: str = "last",
    views: Views = WHOLE,
    pad_to: int = 1,
) -> list[UserError]:
    """Predict images and videos with a run and write the results.

    Args:
      workdir: the run's folder.
      paths: images, folders of them, and videos.
      out: the folder of the results.
      kinds: of pictures, some of ``KINDS``; nothing is drawn for a server.
      as_frames: write each frame of a video as a PNG.
      server: write what this one of ``submission.SERVERS`` takes.
      head: ``drop`` or ``plain``; the network's own by default.
      which: the checkpoint: ``last``, ``best`` or a step.
      views: how the network is shown an image.
      pad_to: see ``predictor``.

    Returns:
      What was wrong with inputs, which have been left out.

    Raises:
      UserError: anything else that the user can mend; before the first image is predicted, unless
        the disk is full.
    """
    if not set(kinds) <= set(KINDS):
        raise UserError(f"--save={','.join(kinds)}: give some of {','.join(KINDS)}")
    inputs, notes = frames.find(paths, leave_out=out)
    for note in notes:
        print(note)
    network = trained.load(workdir, which)
    head = trained.own_head(network, head)
    predict = predictor(network, head, views, pad_to)
    if server:
        takes = submission.SERVERS[server]
        writing = submission_writing(out, takes, inputs, network.info.classes)
    else:
        writing = picture_writing(out, kinds, network.info, as_frames)
        write_classes(out, network, head)
    written, bad = write_all(predict, inputs, writing, network.info.window)
    print(f"written: {written} to {out}" + ("" if server else f", as {', '.join(kinds)}"))
    if server:
        print(f"to submit it: cd {out} && {takes.pack}")
    if bad:
        print(f"bad inputs: {len(bad)}, see above", file=sys.stderr)
    return bad


def main(argv: list[str]) -> int:
    """The command."""
    given = flags.FLAGS
    workdir = Path(given.workdir)
    if len(argv) == 1:
        raise UserError("nothing to predict: give images, folders or videos")
    if given.submission and given.save:
        raise UserError("--submission writes what the server takes and nothing else: drop --save")
    bad = predict_run(
        workdir,
        [Path(path) for path in argv[1:]],
        Path(given.out),
        kinds=given.save or KINDS,
        as_frames=given.frames,
        server=given.submission,
        head=given.head,
        which=given.checkpoint,
        views=view_flags.read(rundir.read_config(workdir).augment.crop),
        pad_to=given.pad_to,
    )
    return 1 if bad else 0


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
    flags.DEFINE_string("out", None, "The folder of the results.", required=True)
    flags.DEFINE_list("save", None, f"Some of {','.join(KINDS)}; all by default.")
    flags.DEFINE_bool("frames", False, "Write a video's colours and overlays as PNGs, too.")
    flags.DEFINE_enum("submission", None, list(submission.SERVERS), "Write for this server.")
    flags.DEFINE_enum("head", None, list(HEADS), "The model's own by default.")
    flags.DEFINE_string("checkpoint", "last", "Which: last, best (by mean IoU) or a step.")
    flags.DEFINE_integer("pad_to", 1, "Pad images to multiples of so many pixels.")
    view_flags.define()
    flags.adopt_module_key_flags(view_flags)  # so that --help lists them
    app.run(main, positional=True)
