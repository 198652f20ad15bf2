"""Encoding and decoding of RGB images and single-channel labels, with OpenCV.

Size and decoding time of a 2048x1024 photograph of Cityscapes in each format, on one core:

    format                bytes     to decode
    its own PNG           2-3 MB    26-38 ms    exact; what is stored by default
    ``encode_exact``      6.3 MB    0.5 ms      exact
    ``encode_photo``      0.5 MB    6 ms        one grey level off, on average

Reading an example with its label from a prepared set takes 32 ms with the first, 9 ms with the
second.
"""

from __future__ import annotations

import base64
import zlib

import cv2
import numpy as np

# OpenCV's own threads would compete with those of the pipeline, which decode one image each.
cv2.setNumThreads(0)
# Silence OpenCV's log (OpenCV 4 and 5): the caller reports unreadable images by their file names.
(cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(0)


def decode_image(encoded: bytes) -> np.ndarray | None:
    """Decode an 8-bit image file to RGB uint8 [H, W, 3], or None where it cannot be read.

    An EXIF orientation is not applied: labels are drawn on the pixels as they are stored.
    """
    return _decode(encoded, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def decode_label(encoded: bytes) -> np.ndarray | None:
    """Decode a label map that ``encode_label`` wrote, uint8 [H, W]; None if it cannot be read."""
    return _decode(encoded, cv2.IMREAD_UNCHANGED)


def decode_unchanged(encoded: bytes) -> np.ndarray | None:
    """Decode an image file, keeping its bit depth and channels; None if it cannot be read.

    [H, W] for grey, else [H, W, 3] RGB or [H, W, 4] RGBA; palette indices become colours.
    """
    image = _decode(encoded, cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim == 2:
        return image
    order = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}.get(image.shape[2])
    return image if order is None else cv2.cvtColor(image, order)


def _decode(encoded: bytes, flags: int) -> np.ndarray | None:
    if not encoded:
        return None
    try:
        return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        return None


def encode_photo(image: np.ndarray) -> bytes:
    """Encode RGB uint8 [H, W, 3] as a JPEG of quality 95 without chroma subsampling.

    Every training step decodes images, and a JPEG decodes three to four times as fast as a PNG; it
    changes a photograph by one grey level on average.
    """
    full_color = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, *full_color]
    return _encode(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), ".jpg", options)


def encode_exact(image: np.ndarray) -> bytes:
    """Encode RGB uint8 [H, W, 3] as a BMP: uncompressed, so that decoding it is a copy."""
    return _encode(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), ".bmp", [])


def encode_small(image: np.ndarray) -> bytes:
    """Encode RGB uint8 [H, W, 3] as a compressed PNG: lossless, and smaller than a BMP."""
    return _encode(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), ".png", [])


def encode_label(label: np.ndarray) -> bytes:
    """Encode a label, uint8 [H, W], as a PNG.

    Labels consist of flat areas and become small at any compression level. Level 9 would halve
    them again, but takes seven times as long to write and twice as long to read at Cityscapes'
    size. PNG's row filters help photographs; flat areas decode faster without them.
    """
    no_filter = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    return _encode(label, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 3, *no_filter])


def encode_counts(counts: np.ndarray) -> str:
    """Encode counts, [N, K] below 2**31, as compressed text: most of them are 0."""
    return base64.b64encode(zlib.compress(counts.astype("<i4").tobytes(), 9)).decode()


def decode_counts(encoded: str, num_classes: int) -> np.ndarray:
    """The inverse of ``encode_counts``, int32 [N, K]."""
    raw = zlib.decompress(base64.b64decode(encoded))
    return np.frombuffer(raw, "<i4").reshape(-1, num_classes)


def _encode(array: np.ndarray, suffix: str, options: list[int]) -> bytes:
    ok, encoded = cv2.imencode(suffix, array, options)
    assert ok, f"a {array.dtype} {array.shape} array cannot be a {suffix}"
    return encoded.tobytes()
