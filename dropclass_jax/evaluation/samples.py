"""Which images of a split are shown as pictures: those on which rare classes are to be seen."""

from __future__ import annotations

import itertools

import numpy as np


def choose(class_pixels: np.ndarray, train_pixels: np.ndarray, number: int) -> list[int]:
    """Images with the most pixels of the rarest classes.

    Every class has its turn, the rarest first, and gets the image with the most of its pixels; when
    all have had theirs, the image with the second most, and so on. An image that is there already
    will do for another class, too. A pure function of the counts.

    Args:
      class_pixels: integers ``[N, K]``, labelled pixels of each class in each image of the split.
      train_pixels: integers ``[K]``, those of the training split: what makes a class rare.
      number: how many images at most; fewer where fewer have a labelled pixel.

    Returns:
      Indices of images, without repetition, in the order of the choice.

    >>> counts = np.array([[9, 1, 0], [8, 0, 3], [9, 2, 0], [9, 0, 5]])
    >>> choose(counts, counts.sum(axis=0), 2)  # the most of class 1, then the most of class 2
    [2, 3]
    """
    pixels = np.asarray(class_pixels, np.int64)
    rarest_first = np.argsort(train_pixels, kind="stable")
    # [N, K] down to [number, K]: after so many turns a class has filled the list by itself.
    most_first = np.argsort(-pixels, axis=0, kind="stable")[:number]
    turns = (
        int(images[k]) for images in most_first for k in rarest_first if pixels[images[k], k] > 0
    )
    return list(itertools.islice(dict.fromkeys(turns), number))
