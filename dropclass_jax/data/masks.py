"""Label files: stored values to classes, with nothing lost in silence on the way.

A PNG can hold the same picture in many ways, and the usual readers turn one into another without
a word: palette indices become colours, 16 bits become 8, a 4-bit value 3 becomes 51. Here a value
is what was stored, and what has no such value is refused.
"""

from __future__ import annotations

import numpy as np

from dropclass_jax.data import codec, headers
from dropclass_jax.data.files import File
from dropclass_jax.errors import UserError

# In a table: no class and not ignored. So that there may be 254 classes, 0..253.
UNKNOWN = 254
MAX_CLASSES = UNKNOWN


def read_codes(file: File) -> tuple[str, np.ndarray]:
    """What a mask stores.

    Returns:
      ``("index", uint8 [H, W])`` of a grey, palette or two-valued image, or
      ``("color", int32 [H, W])`` of an RGB one, packed as ``r << 16 | g << 8 | b``.

    Raises:
      UserError: it cannot be read, has more than 8 bits or one page, is partly transparent, or is
        a JPEG.
    """
    encoded = file.read()
    if headers.is_jpeg(encoded):
        raise UserError(
            f"{file.where} is a JPEG, which changes the values at every edge: save masks as PNG"
        )
    check_pages(file, encoded)
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
    if values.shape[2] == 4 and (values[..., 3] != 255).any():
        raise UserError(f"{file.where} is partly transparent: save it without an alpha channel")
    return "color", pack(values)


def check_pages(file: File, encoded: bytes) -> None:
    """Refuse a file of several images, of which only the first would be seen."""
    if (number := headers.pages(encoded)) > 1:
        raise UserError(f"{file.where} has {number} pages: save each as a file of its own")


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
