"""Label files: stored values to classes, with nothing lost in silence on the way.

A PNG can hold the same picture in many ways, and the usual readers turn one into another without
a word: palette indices become colours, 16 bits become 8, a 4-bit value 3 becomes 51. Here a value
is what was stored, and what has no such value is refused.
"""

from __future__ import annotations

import numpy as np

from dropclass_jax.data import codec, headers, tiff
from dropclass_jax.data.files import File
from dropclass_jax.errors import UserError

# In a table: no class and not ignored. So that there may be 254 classes, 0..253.
UNKNOWN = 254
MAX_CLASSES = UNKNOWN


# Formats that keep every value; a WebP only if it was compressed without loss.
LOSSLESS = ("PNG", "TIFF", "BMP", "WebP", "GIF", "PNM")


def read_codes(file: File) -> tuple[str, np.ndarray]:
    """Read what a mask stores.

    Returns:
      ``("index", uint8 [H, W])`` of a grey, palette or bilevel image, or
      ``("color", int32 [H, W])`` of an RGB one, packed as ``r << 16 | g << 8 | b``.

    Raises:
      UserError: it cannot be read, was compressed with loss, has more than 8 bits, or several
        pages or frames, is partly transparent, or an 8-bit TIFF in which 0 is white.
    """
    encoded = file.read()
    _check_lossless(file, encoded)
    headers.check(file.where, encoded)
    if headers.kind(encoded) == "TIFF":
        values = _stored_in_tiff(file, encoded)
    else:
        values = headers.palette_indices(encoded)
        if values is None:
            values = codec.decode_unchanged(encoded)
    if values is None:
        raise UserError(f"{file.where} is not a readable image: replace it or remove it")
    if values.dtype != np.uint8:
        kind = f"{8 * values.itemsize} bits a pixel"
        raise UserError(f"{file.where} has {kind}: want an 8-bit label, 0..255")
    if values.ndim == 2:
        return "index", values // headers.grey_scale(encoded)
    if values.shape[2] in (2, 4) and (values[..., -1] != 255).any():
        raise UserError(f"{file.where} is partly transparent: save it without an alpha channel")
    return ("index", values[..., 0]) if values.shape[2] == 2 else ("color", pack(values))


def _check_lossless(file: File, encoded: bytes) -> None:
    """Refuse formats that change values."""
    kind = headers.kind(encoded)
    if kind == "WebP" and not headers.is_lossless_webp(encoded):
        kind = "lossy WebP"
    if kind and kind not in LOSSLESS:
        raise UserError(
            f"{file.where} is a {kind}, which changes the values at every edge: save masks as PNG"
        )


def _stored_in_tiff(file: File, encoded: bytes) -> np.ndarray:
    """The values of a TIFF as stored: uint8 or uint16 [H, W] of one sample, else [H, W, S]."""
    values, bits, photometric, has_alpha, _ = tiff.stored(file.where, encoded, is_mask=True)
    if photometric == tiff.MIN_IS_WHITE:
        # Of black and white all programs agree which is which; of values they do not.
        if bits > 1:
            raise UserError(
                f"{file.where} is a TIFF in which 0 is white (MinIsWhite), and programs differ in "
                "whether its values are to be inverted: save it as PNG"
            )
        values = 1 - values
    if values.shape[2] == 4 and not has_alpha:
        raise UserError(f"{file.where} has 4 channels: want one, a palette, or RGB")
    return values[..., 0] if values.shape[2] == 1 else values


def pack(colors: np.ndarray) -> np.ndarray:
    """RGB uint8 [..., 3 or more] to int32 ``r << 16 | g << 8 | b``."""
    r, g, b = (colors[..., channel].astype(np.int32) for channel in range(3))
    return r << 16 | g << 8 | b


def unpack(code: int) -> tuple[int, int, int]:
    """The colour of a packed one.

    >>> unpack(0x804020)
    (128, 64, 32)
    """
    return code >> 16, code >> 8 & 255, code & 255


def read_index(file: File) -> np.ndarray:
    """The values of a single-channel mask, uint8 [H, W].

    Raises:
      UserError: as ``read_codes`` does, and at a mask of colours.
    """
    kind, values = read_codes(file)
    if kind != "index":
        raise UserError(
            f"{file.where} has 3 channels (a colour image): want one channel or a palette, with "
            "the class in it"
        )
    return values


def translate(codes: np.ndarray, table: np.ndarray, file: File, wanted: str) -> np.ndarray:
    """Stored values to classes.

    Args:
      codes: [H, W], indices into the table.
      table: uint8, the class of each code, 255 to ignore it, ``UNKNOWN`` to refuse it.
      file: where the codes are from.
      wanted: what they may be, for the message.

    Returns:
      uint8 [H, W].

    Raises:
      UserError: names the first unknown value, its place and what is wanted.
    """
    label = table[codes]
    if (unknown := label == UNKNOWN).any():
        row, column = np.unravel_index(np.argmax(unknown), unknown.shape)
        code = int(codes[row, column])
        value = code if len(table) == 256 else f"colour {unpack(code)}"
        raise UserError(
            f"{file.where} holds the value {value} at row {row}, column {column}: want {wanted}"
        )
    return label


def palette(file: File) -> list[tuple[int, int, int]]:
    """The colours of a palette mask, in the order of their indices; none if it has no palette."""
    return headers.palette(file.read())
