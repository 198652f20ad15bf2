"""Reading of label files (masks), with the values exactly as stored, and mapping to classes.

A PNG can store the same picture in many ways, and common readers silently convert between them:
palette indices become colours, 16 bits become 8, a 4-bit value 3 becomes 51. The functions here
return the stored values, and raise an error for files in which they are not well defined.
"""

from __future__ import annotations

import numpy as np

from dropclass_jax.data import codec, headers, tiff
from dropclass_jax.data.files import File
from dropclass_jax.errors import UserError

# In a lookup table: neither a class nor ignored. This leaves 254 possible classes, 0..253.
UNKNOWN = 254
MAX_CLASSES = UNKNOWN


# Formats that keep every value; WebP only if it was compressed losslessly.
LOSSLESS = ("PNG", "TIFF", "BMP", "WebP", "GIF", "PNM")


def read_codes(file: File) -> tuple[str, np.ndarray]:
    """Read the values that a mask stores.

    Returns:
      ``("index", uint8 [H, W])`` for a grey, palette or bilevel image, or
      ``("color", int32 [H, W])`` for an RGB one, packed as ``r << 16 | g << 8 | b``.

    Raises:
      UserError: the file cannot be read, is lossily compressed, has more than 8 bits or several
        pages or frames, is partly transparent, or is an 8-bit TIFF in which 0 is white.
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
    """Raise ``UserError`` for lossy formats."""
    kind = headers.kind(encoded)
    if kind == "WebP" and not headers.is_lossless_webp(encoded):
        kind = "lossy WebP"
    if kind and kind not in LOSSLESS:
        raise UserError(
            f"{file.where} is a {kind}, which changes the values at every edge: save masks as PNG"
        )


def _stored_in_tiff(file: File, encoded: bytes) -> np.ndarray:
    """The stored values of a TIFF, uint8 or uint16: [H, W], or [H, W, S] with several samples."""
    values, bits, photometric, has_alpha, _ = tiff.stored(file.where, encoded, is_mask=True)
    if photometric == tiff.MIN_IS_WHITE:
        # All programs agree on black and white, but not on whether to invert other values.
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
    """Pack RGB, uint8 [..., 3 or more], into int32 ``r << 16 | g << 8 | b``."""
    r, g, b = (colors[..., channel].astype(np.int32) for channel in range(3))
    return r << 16 | g << 8 | b


def unpack(code: int) -> tuple[int, int, int]:
    """The RGB colour of a packed one, the inverse of ``pack``.

    >>> unpack(0x804020)
    (128, 64, 32)
    """
    return code >> 16, code >> 8 & 255, code & 255


def read_index(file: File) -> np.ndarray:
    """The values of a single-channel mask, uint8 [H, W].

    Raises:
      UserError: as ``read_codes``, and for a colour mask.
    """
    kind, values = read_codes(file)
    if kind != "index":
        raise UserError(
            f"{file.where} has 3 channels (a colour image): want one channel or a palette, with "
            "the class in it"
        )
    return values


def translate(codes: np.ndarray, table: np.ndarray, file: File, wanted: str) -> np.ndarray:
    """Map stored values to classes.

    Args:
      codes: [H, W], indices into the table.
      table: uint8, the class of each code; 255 for an ignored one, ``UNKNOWN`` for an invalid one.
      file: the file of the codes, for the error message.
      wanted: the valid values, for the error message.

    Returns:
      uint8 [H, W].

    Raises:
      UserError: names the first unknown value, its position and the valid ones.
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
    """The palette of a mask, in the order of the indices; empty if it has none."""
    return headers.palette(file.read())
