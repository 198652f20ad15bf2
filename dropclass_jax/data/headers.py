"""What the header of an image file says and decoders do not pass on, by Pillow and tifffile."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from dropclass_jax.data import tiff
from dropclass_jax.errors import UserError

Image.MAX_IMAGE_PIXELS = None  # satellite images are no decompression bombs

# OpenCV's limits, which decodes images in training.
MAX_PIXELS = 2**30
MAX_SIDE = 2**20

# What Pillow raises at a file that is cut short or no image at all.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError)

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8", "JPEG"),
    *((start, "TIFF") for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"BM", "BMP"),
    (b"GIF8", "GIF"),
    *((b"P%d" % number, "PNM") for number in range(1, 8)),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"v/1\x01", "OpenEXR"),
    (b"%PDF", "PDF"),
)


def kind(encoded: bytes) -> str:
    """The file format by its first bytes, whatever the file's name ends in; ``""`` if unknown."""
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return "WebP"
    if encoded[4:8] == b"ftyp":
        return "AVIF" if encoded[8:11] == b"avi" else "HEIC"
    return next((name for start, name in _BEGINNINGS if encoded.startswith(start)), "")


def check(where: str, encoded: bytes) -> None:
    """Refuse a file of several pictures, of which only the first would be seen, and a giant.

    Raises:
      UserError: it is an animation, has several pages, or more pixels than can be decoded.
    """
    if (number := pages(encoded)) > 1:
        what = "pages" if kind(encoded) == "TIFF" else "frames (an animation)"
        raise UserError(f"{where} has {number} {what}: save each as a file of its own")
    height, width = size(encoded) or (1, 1)
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise UserError(
            f"{where} is {height}x{width}: images may have 2^30 pixels and 2^20 a side; cut it, "
            "and its mask, into tiles"
        )


def pages(encoded: bytes) -> int:
    """How many pictures a file holds; 1 if that is unknown.

    A JPEG of a phone may hold several, too, but they are one in other sizes.
    """
    if kind(encoded) == "TIFF":
        return tiff.pages(encoded)
    if kind(encoded) not in ("PNG", "WebP", "GIF", "AVIF"):
        return 1
    try:
        return getattr(_opened(encoded), "n_frames", 1)
    except _DAMAGED:
        return 1


def size(encoded: bytes) -> tuple[int, int] | None:
    """Height and width, or None if they are unknown."""
    if kind(encoded) == "TIFF":
        return tiff.size(encoded)
    image = _opened(encoded)
    return None if image is None else (image.height, image.width)


# Where an orientation may be; asked for first, as Pillow decodes a whole PNG to look for one.
_EXIF = {
    "PNG": (b"eXIf", b"Raw profile type"),
    "WebP": (b"EXIF",),
    "JPEG": (b"Exif\0\0",),
}


def is_turned(encoded: bytes) -> bool:
    """Whether an EXIF orientation (or TIFF's own) says to turn or mirror the stored pixels."""
    if kind(encoded) == "TIFF":
        return tiff.is_turned(encoded)
    if not any(sign in encoded for sign in _EXIF.get(kind(encoded), ())):
        return False
    image = _opened(encoded)
    try:
        return image is not None and image.getexif().get(0x0112, 1) not in (0, 1)
    except _DAMAGED:
        return False


def palette_indices(encoded: bytes) -> np.ndarray | None:
    """uint8 [H, W] of a palette or bilevel image, which others turn into colours; else None."""
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
    if kind(encoded) != "PNG" or len(encoded) < 26:
        return 1
    depth, color_type = encoded[24], encoded[25]
    return {2: 85, 4: 17}.get(depth, 1) if color_type == 0 else 1


def is_lossless_webp(encoded: bytes) -> bool:
    """Whether the pixels of a WebP were compressed without loss."""
    return b"VP8 " not in _webp_chunks(encoded)


def _webp_chunks(encoded: bytes) -> Iterator[bytes]:
    """The kinds of the chunks of a WebP, in order."""
    at = 12
    while at + 8 <= len(encoded):
        yield encoded[at : at + 4]
        at += 8 + (length := int.from_bytes(encoded[at + 4 : at + 8], "little")) + length % 2


def _opened(encoded: bytes) -> Image.Image | None:
    """An image of which only the header has been read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(encoded))
    except _DAMAGED:
        return None
