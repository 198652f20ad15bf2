"""Read and write videos frame by frame: any format of OpenCV's FFmpeg in, MPEG-4 out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from dropclass_jax.errors import UserError

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")

# FFmpeg, which reads this at its first video, would print what is said here in one line of our own.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# The one codec for .mp4 that the wheels of OpenCV can write on every platform.
_CODEC = cv2.VideoWriter.fourcc(*"mp4v")
# A container's own count of its frames may be an estimate. Fewer than this share of it is a fault.
_WHOLE = 0.9


def length(path: Path) -> int:
    """Estimated number of frames, from the header; 1 where that says nothing."""
    capture = cv2.VideoCapture(str(path))
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0
    capture.release()
    return int(count) if 1 <= count < 2**31 else 1


def frame_rate(path: Path) -> float:
    """Frames per second; 25 where the header does not say."""
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS) if capture.isOpened() else 0
    capture.release()
    return rate if 0 < rate <= 1000 else 25.0


def read(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video, RGB uint8 [H, W, 3], upright where the file says what is up.

    Raises:
      UserError: it is not a readable video, or, after the last frame, it ends too early.
    """
    expected = length(path)
    capture = cv2.VideoCapture(str(path))
    number = 0
    try:
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            number += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    if not number:
        raise UserError(f"{path} is not a readable video: replace it or remove it")
    if number < _WHOLE * expected:
        raise UserError(f"{path} is damaged: it ends after {number} of about {expected} frames")


@contextlib.contextmanager
def writer(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """A new video, by a function that appends a frame, RGB uint8 [H, W, 3] of equal sizes.

    The codec halves the resolution of colour: an odd width or height gets one more line, a copy of
    the last.

    Args:
      path: of an ``.mp4`` file.
      rate: frames a second.

    Raises:
      UserError: the file cannot be written.
    """
    video: cv2.VideoWriter | None = None

    def append(frame: np.ndarray) -> None:
        nonlocal video
        height, width = frame.shape[:2]
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if video is None:
            video = cv2.VideoWriter(str(path), _CODEC, rate, frame.shape[1::-1])
            if not video.isOpened():
                raise UserError(f"the video {path} cannot be written: choose another --out")
        video.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    try:
        yield append
    finally:
        if video is not None:
            video.release()
