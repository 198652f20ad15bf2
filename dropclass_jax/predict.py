"""Predict images, folders and lists of them, and videos with a run; its data is not needed.

    python -m dropclass_jax.predict --workdir=RUN INPUT... --out=DIR

An INPUT is an image, a folder, a video, or a `.txt` file with the path of one of these a line.
Writes, of each image, under its path in the folder that was given:

    DIR/index/NAME.png      the class of every pixel, a grey value; DIR/classes.json names them
    DIR/color/NAME.png      the same in the classes' colours
    DIR/overlay/NAME.png    the colours over the image, with a legend beside it

`--save=index,color` writes only these. For a video, colours and overlays become NAME.mp4 and the
classes NAME/000000.png and so on; with `--frames` all become PNGs. `--submission=cityscapes|voc`
writes what that benchmark's server takes, and nothing else.

The network is compiled once for each size of images. `--pad_to=32` pads them with black to
multiples of 32: fewer sizes, and for networks of several resolutions, as HRNet, often better
classes.

An input that cannot be read is reported and skipped; the exit code is then 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from dropclass_jax.cli import app, view_flags
from dropclass_jax.errors import UserError
from dropclass_jax.evaluation.inference import OUTPUTS, WHOLE, Views
from dropclass_jax.prediction import frames, submission
from dropclass_jax.prediction.predictor import predictor
from dropclass_jax.prediction.writers import (
    KINDS,
    picture_writing,
    submission_writing,
    write_all,
    write_classes,
)
from dropclass_jax.runs import rundir, trained_network


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
      paths: images, folders, videos, and lists of them; see ``frames.find``.
      out: the folder of the results.
      kinds: of pictures, some of ``KINDS``; nothing is drawn for a server.
      as_frames: write each frame of a video as a PNG.
      server: write what this one of ``submission.SERVERS`` takes.
      head: ``drop`` or ``plain``; the network's own by default.
      which: the checkpoint: ``last``, ``best`` or a step.
      views: how the network is shown an image.
      pad_to: see ``predictor``.

    Returns:
      The faults of inputs, which were left out.

    Raises:
      UserError: anything else that the user can mend; before the first image is predicted, unless
        the disk is full.
    """
    if not set(kinds) <= set(KINDS):
        raise UserError(f"--save={','.join(kinds)}: give some of {','.join(KINDS)}")
    inputs, notes = frames.find(paths, leave_out=out)
    for note in notes:
        print(note)
    network = trained_network.load(workdir, which)
    head = trained_network.own_output(network, head)
    if (resolution := network.facts.resolution) != 1:
        print(f"images are shown to the network at {resolution:g} of their size, as in training")
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
        raise UserError("nothing to predict: give images, folders, videos or lists of them")
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
        views=view_flags.read(rundir.read_facts(workdir).crop),
        pad_to=given.pad_to,
    )
    return 1 if bad else 0


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
    flags.DEFINE_string("out", None, "The folder of the results.", required=True)
    flags.DEFINE_list("save", None, f"Some of {','.join(KINDS)}; all by default.")
    flags.DEFINE_bool("frames", False, "Write a video's colours and overlays as PNGs, too.")
    flags.DEFINE_enum("submission", None, list(submission.SERVERS), "Write for this server.")
    flags.DEFINE_enum("head", None, list(OUTPUTS), "The model's own by default.")
    flags.DEFINE_string("checkpoint", "last", "Which: last, best (by mean IoU) or a step.")
    flags.DEFINE_integer("pad_to", 1, "Pad images to multiples of so many pixels.")
    view_flags.define()
    flags.adopt_module_key_flags(view_flags)  # so that --help lists them
    app.run(main, positional=True)
