"""Predictions in the formats of the benchmarks' evaluation servers.

- Cityscapes: one PNG an image, of the image's own size, whose values are the *label ids* (7 for
  road), not the train ids that networks are trained on. The file's name begins with
  ``CITY_SEQUENCE_FRAME``; folders do not matter.
- Pascal VOC: ``results/VOC2012/Segmentation/comp6_test_cls/ID.png``, a palette PNG whose indices
  are the classes. ``comp6`` is the competition that allows any training data, ImageNet's and SBD's
  included; for ``comp5``, VOC's own data alone, rename the folder.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dropclass_jax.data import codec
from dropclass_jax.data.cityscapes import EVALUATED
from dropclass_jax.data.info import CITYSCAPES, VOC, DatasetInfo, distinct_colors
from dropclass_jax.errors import UserError
from dropclass_jax.prediction.frames import Input


class Server(NamedTuple):
    """The format of one server.

    Attributes:
      info: the classes it scores.
      image: what it calls its images, without the suffix; the first group goes into ``path``.
      example: such a name, for messages.
      path: of a result, ``{}`` for the image's own part.
      encode: official classes, uint8 [H, W] -> the bytes of a result.
      pack: the command that makes what is uploaded, in the folder of the results.
    """

    info: DatasetInfo
    image: re.Pattern[str]
    example: str
    path: str
    encode: Callable[[np.ndarray], bytes]
    pack: str


def _label_ids(classes: np.ndarray) -> bytes:
    return codec.encode_label(np.array(EVALUATED, np.uint8)[classes])


def _palette(classes: np.ndarray) -> bytes:
    picture = Image.fromarray(classes, "L")
    picture.putpalette([channel for color in distinct_colors(256) for channel in color])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


SERVERS = {
    "cityscapes": Server(
        CITYSCAPES,
        re.compile(r"([^_]+_\d{6}_\d{6})_leftImg8bit"),
        "berlin_000000_000019_leftImg8bit.png",
        "{}_pred.png",
        _label_ids,
        "zip -r -q cityscapes.zip . -i '*_pred.png'",
    ),
    "voc": Server(
        VOC,
        re.compile(r"(\d{4}_\d{6})"),
        "2008_000006.jpg",
        "results/VOC2012/Segmentation/comp6_test_cls/{}.png",
        _palette,
        "tar czf results.tgz results",
    ),
}


def class_table(server: Server, classes: Sequence[str]) -> np.ndarray:
    """A run's classes to the server's, matched by name, uint8 [K].

    Raises:
      UserError: a class has a name that the server does not know.
    """
    official = server.info.classes
    for name in classes:
        if name not in official:
            raise UserError(
                f"the run's class {name!r} is none of {server.info.name}'s: a submission needs a "
                f"run on its classes, {', '.join(official)}"
            )
    return np.array([official.index(name) for name in classes], np.uint8)


def paths(server: Server, inputs: Iterable[Input]) -> dict[Input, Path]:
    """Where the result of each image goes, relative to the folder of the results.

    Raises:
      UserError: something is not called as the server's images are, or is there twice.
    """
    taken: dict[Path, Input] = {}
    for source in inputs:
        named = server.image.fullmatch(source.path.stem)
        if source.is_video or named is None:
            raise UserError(
                f"{source.path} is not called as an image of {server.info.name}, like "
                f"{server.example}: give the official images alone"
            )
        path = Path(server.path.format(named[1]))
        if path in taken:
            raise UserError(
                f"{taken[path].path} and {source.path} are the same image of "
                f"{server.info.name}: give one of them"
            )
        taken[path] = source
    return {source: path for path, source in taken.items()}
