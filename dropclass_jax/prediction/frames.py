"""Inputs of prediction: images, folders, videos and lists of them, as one stream of frames."""

from __future__ import annotations

import concurrent.futures
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np

from dropclass_jax.data import files, images, layout
from dropclass_jax.errors import UserError
from dropclass_jax.prediction import path_list, video

T = TypeVar("T")


class Input(NamedTuple):
    """A file to predict.

    Attributes:
      name: what its results are called: a relative path without a suffix.
      path: where it is.
    """

    name: str
    path: Path

    @property
    def is_video(self) -> bool:
        """Whether the file is a video, by its suffix."""
        return self.path.suffix.lower() in video.SUFFIXES

    @property
    def length(self) -> int:
        """The number of frames; an estimate for a video."""
        return video.length(self.path) if self.is_video else 1


class Frame(NamedTuple):
    """A picture to predict.

    Attributes:
      source: the file that it is from.
      number: its place in the file, from 0.
      image: RGB uint8 [H, W, 3].
    """

    source: Input
    number: int
    image: np.ndarray


def find(paths: Sequence[Path], leave_out: Path | None = None) -> tuple[list[Input], list[str]]:
    """List the inputs that the paths name.

    A file is called by its name; a file of a folder by its path in that folder, after the folder's
    own name if several paths are given. What a list names is called as if the folder that holds all
    of it had been given. Files that would be called alike keep their suffixes.

    Args:
      paths: files, folders and lists; folders are searched through, but for what is hidden, and for
        lists see ``path_list``.
      leave_out: a folder that is not looked into: that of the results.

    Returns:
      The files in order, and notes of files in folders that are left out.

    Raises:
      UserError: a path does not exist, a folder holds nothing to predict, or two files would be
        called alike.
    """
    found, notes = [], []
    for path in paths:
        if path.is_dir():
            front = path.resolve().name if len(paths) > 1 else ""
            inside, left_out = _in_folder(path, leave_out)
            found += [(PurePosixPath(front, name), path / name) for name in inside]
            notes += left_out
        elif path_list.is_list(path):
            inside, left_out = _in_list(path, leave_out)
            top = Path(os.path.commonpath([os.path.abspath(file.parent) for file in inside]))
            front = top.name if len(paths) > 1 else ""
            found += [(PurePosixPath(front, _below(top, file)), file) for file in inside]
            notes += left_out
        elif path.is_file():
            found.append((PurePosixPath(path.name), path))
        else:
            raise UserError(f"{path} does not exist: give images, folders, videos or lists of them")
    alike = Counter(name.with_suffix("") for name, _ in found)
    # The frames of a video get a folder, where images may lie as well.
    folders = {folder for name, _ in found for folder in name.parents}
    inputs: dict[str, Input] = {}
    for name, path in found:
        bare = name.with_suffix("")
        has_frames = path.suffix.lower() in video.SUFFIXES
        called = str(name if alike[bare] > 1 or (has_frames and bare in folders) else bare)
        if called in inputs:
            raise UserError(
                f"{inputs[called].path} and {path} would both be called {called}: give the folders "
                "that they are in, or one after the other with another --out"
            )
        inputs[called] = Input(called, path)
    return list(inputs.values()), notes


def _in_folder(folder: Path, leave_out: Path | None) -> tuple[list[str], list[str]]:
    """The images and videos in a folder and below it, by their paths in it, and notes of others."""
    known, others = [], []
    skipped = leave_out.resolve() if leave_out else None
    for name in files.folder(folder):
        if skipped and skipped in (folder / name).resolve().parents:
            continue
        is_known = name.lower().endswith((*layout.SUFFIXES, *video.SUFFIXES))
        (known if is_known else others).append(name)
    if not known:
        raise UserError(f"{folder} holds no image and no video: give another folder")
    if not others:
        return known, []
    more = f" and {len(others) - 1} more" if others[1:] else ""
    return known, [f"{folder}: left out, as no images or videos: {others[0]}{more}"]


def _in_list(path: Path, leave_out: Path | None) -> tuple[list[Path], list[str]]:
    """The files that a list names, itself or by their folder, and notes of what is left out."""
    found, notes = [], []
    for listed in path_list.read(path):
        if listed.is_dir():
            inside, left_out = _in_folder(listed, leave_out)
            found += [listed / name for name in inside]
            notes += left_out
        else:
            found.append(listed)
    return path_list.each_once(found), notes


def _below(top: Path, file: Path) -> str:
    return os.path.relpath(os.path.abspath(file), top)


def read(
    inputs: Iterable[Input], window: str | tuple[int, int] | None
) -> Iterator[Frame | UserError]:
    """Every frame of every file in order, or what is wrong with a file.

    Args:
      inputs: the files.
      window: how 16-bit images become 8-bit ones: that of the training set, see ``DatasetInfo``.
    """
    for source in inputs:
        try:
            if source.is_video:
                pictures: Iterable[np.ndarray] = video.read(source.path)
            else:
                pictures = [images.as_trained(files.on_disk(source.path), window)]
            for number, image in enumerate(pictures):
                yield Frame(source, number, image)
        except OSError as error:  # it was removed after it was listed
            yield UserError(f"{source.path} cannot be read: {error.strerror}")
        except UserError as error:
            yield error


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Iterate with one item read ahead by another thread."""
    iterator, end = iter(items), object()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, iterator, end)
            yield item
