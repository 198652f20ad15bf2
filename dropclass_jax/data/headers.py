"""What the header of an image file says, which decoders do not pass on. By Pillow."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

Image.MAX_IMAGE_PIXELS = None  # satellite images are no decompression bombs

# What Pillow raises at a file that is cut short or no image at all.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError)


def pages(encoded: bytes) -> int:
    """How many pages a TIFF has, of which decoders show the first; 1 if that is unknown.

    A JPEG of a phone may hold several pictures too, but they are one, in other sizes.
    """
    try:
        return getattr(_opened(encoded), "n_frames", 1) if is_tiff(encoded) else 1
    except _DAMAGED:
        return 1


def palette_indices(encoded: bytes) -> np.ndarray | None:
    """uint8 [H, W] of a palette or two-valued image, which others turn into colours; else None."""
    image = _opened(encoded)
    if image is None or image.mode not in ("P", "1"):
        return None
    try:
        return np.asarray(image).astype(np.uint8)
    except _DAMAGED:
        return None


def palette(encoded: bytes) -> list[tuple[int, int, int]]:
    """The colours of a palette image, in the order of their indices; none if it has no palette."""
    image = _opened(encoded)
    if image is None or image.mode != "P":
        return []
    flat = image.getpalette("RGB") or []
    return [tuple(flat[i : i + 3]) for i in range(0, len(flat), 3)]


def grey_scale(encoded: bytes) -> int:
    """What decoders multiply the values of a grey PNG of 2 or 4 bits with, to fill 8 bits."""
    if encoded[:8] != b"\x89PNG\r\n\x1a\n" or len(encoded) < 26:
        return 1
    depth, color_type = encoded[24], encoded[25]
    return {2: 85, 4: 17}.get(depth, 1) if color_type == 0 else 1


def is_jpeg(encoded: bytes) -> bool:
    """Whether the pixels were compressed with loss for certain."""
    return encoded[:2] == b"\xff\xd8"


def is_tiff(encoded: bytes) -> bool:
    """Whether it is a TIFF or a BigTIFF, of either byte order."""
    return encoded[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _opened(encoded: bytes) -> Image.Image | None:
    """An image of which only the header has been read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(encoded))
    except _DAMAGED:
        return None
