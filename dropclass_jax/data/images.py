"""Image files on their way into a prepared set: read, check, convert to 8 bits, store."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np

from dropclass_jax.data import codec, headers, jpeg, tiff, windows
from dropclass_jax.data.files import File
from dropclass_jax.errors import UserError

STORAGE = ("original", "exact", "jpeg")

# Formats of images, and those that every OpenCV decodes alike.
KINDS = ("PNG", "JPEG", "TIFF", "WebP", "BMP")
KEPT = ("PNG", "JPEG", "WebP", "BMP")


def read(file: File) -> tuple[bytes, np.ndarray]:
    """Read a file's bytes and its pixels, at the depth they have.

    Returns:
      The bytes, and RGB uint8 or uint16 [H, W, 3]. Alpha, or a fourth band, is dropped: the
      transparency of an image says nothing about what is in it.

    Raises:
      UserError: it cannot be read, is damaged, has several pages or frames, is too large, or is
        neither grey nor colour of 8 or 16 bits.
    """
    encoded = file.read()
    pixels = decode(file, encoded)
    color = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., :1]
    return encoded, np.broadcast_to(color, (*pixels.shape[:2], 3))


def decode(file: File, encoded: bytes) -> np.ndarray:
    """The pixels of a file, uint8 or uint16 [H, W, C]: grey, grey and alpha, RGB, or RGB and more.

    An EXIF orientation is not applied: labels are drawn on the pixels as they are stored.

    Raises:
      UserError: as ``read`` does.
    """
    headers.check(file.where, encoded)
    kind = headers.kind(encoded)
    if kind == "TIFF":
        pixels = tiff.picture(file.where, encoded)
    else:
        pixels = codec.decode_unchanged(encoded)
    if pixels is None:
        what = f" (it is {kind})" if kind and kind not in KINDS else ""
        raise UserError(f"{file.where} is not a readable image{what}: replace it or remove it")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"{file.where} holds {pixels.dtype} values: want 8 or 16 bits without a sign"
        )
    if kind == "JPEG" and (damage := jpeg.damage(encoded)):
        raise UserError(f"{file.where} is a damaged JPEG ({damage}): replace it or remove it")
    pixels = np.atleast_3d(pixels)
    if pixels.shape[2] not in (1, 2, 3, 4):
        raise UserError(f"{file.where} has {pixels.shape[2]} channels: want grey, RGB or RGBA")
    return pixels


def read_8bit(file: File) -> tuple[bytes, np.ndarray]:
    """The file's bytes and its pixels, RGB uint8 [H, W, 3].

    Raises:
      UserError: as ``read`` does, and at 16 bits.
    """
    encoded, image = read(file)
    if image.dtype != np.uint8:
        raise UserError(f"{file.where} has 16 bits a channel: want the 8-bit image")
    return encoded, image


def check_shapes(image_file: File, image: np.ndarray, label_file: File, label: np.ndarray) -> None:
    """Refuse an image and a label of different sizes."""
    if image.shape[:2] != label.shape:
        is_turned = image.shape[:2] == label.shape[::-1]
        hint = " (an EXIF orientation is not applied)" if is_turned else ""
        raise UserError(
            f"{image_file.where} is {image.shape[0]}x{image.shape[1]} but its label "
            f"{label_file.where} is {label.shape[0]}x{label.shape[1]}: they must agree{hint}"
        )


def check_storage(storage: str) -> None:
    """Refuse a form of storage that there is not."""
    if storage not in STORAGE:
        raise UserError(f"storage is one of {', '.join(STORAGE)}, not {storage!r}")


def stored(encoded: bytes, image: np.ndarray, storage: str) -> bytes:
    """What is written of an image; ``codec`` says what each form costs.

    Args:
      encoded: the bytes of its file.
      image: its pixels, uint8 [H, W, 3].
      storage: ``original`` keeps the bytes of a PNG, JPEG, WebP or BMP file (a TIFF or a converted
        image becomes PNG), ``exact`` stores the bare pixels, ``jpeg`` nearly the pixels.
    """
    if storage == "exact":
        return codec.encode_exact(image)
    if storage == "jpeg":
        return codec.encode_photo(image)
    return encoded if headers.kind(encoded) in KEPT else codec.encode_small(image)


def exact(resolution: float) -> Fraction:
    """The factor that a resolution such as 0.333 stands for."""
    return Fraction(resolution).limit_denominator(1000)


def reduce(image: np.ndarray, resolution: float | Fraction) -> np.ndarray:
    """An image, uint8 [H, W, 3], shrunk by a factor in (0, 1]: pixels are means of an area."""
    if resolution == 1:
        return image
    height, width = (max(1, round(n * resolution)) for n in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def as_trained(file: File, window: str | tuple[int, int] | None) -> np.ndarray:
    """Read an image and bring it to 8 bits as the images of a set were.

    Args:
      file: the image.
      window: of the set; see ``DatasetInfo``.

    Returns:
      RGB uint8 [H, W, 3].

    Raises:
      UserError: as ``read`` does, and at other bits than the set's.
    """
    _, image = read(file)
    if image.dtype == np.uint8:
        if window is not None:
            raise UserError(
                f"{file.where} has 8 bits a channel, but the training images have 16: give the "
                "original image"
            )
        return image
    if window is None:
        raise UserError(
            f"{file.where} has 16 bits a channel, and the run knows no map to the 8 bits that it "
            "was trained on: convert the image as the training images were converted"
        )
    if window == "image":
        window = windows.window_of(windows.histogram(image))
    return windows.to_8bit(image, window)
