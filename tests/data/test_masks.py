"""What a mask stores comes out as it was stored, whatever the file makes of it."""

from __future__ import annotations

import io

import fabricate
import numpy as np
import pytest
from PIL import Image

from dropclass_jax.data import files, masks
from dropclass_jax.errors import UserError

VALUES = fabricate.values(0, 4)
COLORS = [(10, 20, 30), (255, 0, 0), (0, 0, 255), (128, 64, 0)]
PAINTED = np.array(COLORS, np.uint8)[VALUES]


def saved(pixels, mode=None, format="PNG", **options) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(file, format, **options)
    return file.getvalue()


def small_grey(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 2 or 4 bits a pixel, written by hand: neither library writes one."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    height, width = values.shape
    per_byte = 8 // bits
    shifts = np.arange(per_byte)[::-1] * bits
    packed = (values.reshape(height, -1, per_byte).astype(int) << shifts).sum(-1).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def file_of(content: bytes) -> files.File:
    return files.File("mask.png", len(content), lambda: content)


@pytest.mark.parametrize(
    "content",
    [
        fabricate.encode(VALUES),
        fabricate.encode(VALUES, ".tiff"),
        fabricate.encode(VALUES, ".bmp"),
        saved(VALUES, format="TIFF", compression="tiff_lzw"),
        fabricate.encode_palette(VALUES, COLORS),
        fabricate.encode_palette(VALUES, COLORS, bits=2),
        fabricate.encode_palette(VALUES, COLORS, "TIFF"),
        small_grey(VALUES, 2),
        small_grey(VALUES, 4),
    ],
    ids=["png", "tiff", "bmp", "lzw", "palette", "palette2", "tiff palette", "grey2", "grey4"],
)
def test_an_index_is_what_was_stored(content):
    kind, codes = masks.read_codes(file_of(content))
    assert kind == "index"
    np.testing.assert_array_equal(codes, VALUES)
    np.testing.assert_array_equal(masks.read_index(file_of(content)), VALUES)


def test_a_two_valued_image_holds_0_and_1():
    kind, codes = masks.read_codes(file_of(saved(VALUES > 1)))
    assert kind == "index"
    np.testing.assert_array_equal(codes, VALUES > 1)


@pytest.mark.parametrize(
    "content",
    [
        fabricate.encode(PAINTED),
        fabricate.encode(PAINTED, ".tiff"),
        fabricate.encode(PAINTED, ".webp"),
        saved(PAINTED, "RGBA"),
    ],
    ids=["png", "tiff", "webp", "opaque"],
)
def test_a_colour_is_what_was_stored(content):
    kind, codes = masks.read_codes(file_of(content))
    assert kind == "color"
    assert [masks.unpack(int(code)) for code in np.unique(codes)] == sorted(COLORS)
    np.testing.assert_array_equal(codes, masks.pack(PAINTED))
    with pytest.raises(UserError, match=r"mask\.png has 3 channels"):
        masks.read_index(file_of(content))


TRANSPARENT = np.dstack([PAINTED, np.full(VALUES.shape, 255, np.uint8)])
TRANSPARENT[0, 0, 3] = 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a readable image"),
        (b"no image at all", "is not a readable image"),
        (fabricate.encode(VALUES)[:-20], "is not a readable image"),
        (fabricate.encode_palette(VALUES, COLORS)[:90], "is not a readable image"),
        (fabricate.encode(VALUES.astype(np.uint16)), "has 16 bits a pixel: want an 8-bit label"),
        (fabricate.encode(PAINTED.astype(np.uint16)), "has 16 bits a pixel: want an 8-bit label"),
        (fabricate.encode(VALUES.astype(np.float32), ".tiff"), "has 32 bits a pixel"),
        (fabricate.encode(TRANSPARENT), "is partly transparent"),
        (fabricate.encode(PAINTED, ".jpg"), "is a JPEG, which changes the values"),
        (fabricate.encode(VALUES, ".jpg"), "is a JPEG, which changes the values"),
    ],
)
def test_a_surprise_is_an_error(content, message):
    with pytest.raises(UserError, match=rf"^mask\.png {message}"):
        masks.read_codes(file_of(content))


def test_the_first_unknown_value_is_named():
    table = np.full(256, masks.UNKNOWN, np.uint8)
    table[:3] = range(3)
    codes = np.zeros((4, 5), np.uint8)
    np.testing.assert_array_equal(masks.translate(codes, table, file_of(b""), "0..2"), codes)
    codes[2, 3] = codes[3, 1] = 9
    with pytest.raises(
        UserError, match=r"^mask\.png holds the value 9 at row 2, column 3: want 0\.\.2$"
    ):
        masks.translate(codes, table, file_of(b""), "0..2")


def test_a_palette_is_read_in_order():
    assert masks.palette(file_of(fabricate.encode_palette(VALUES, COLORS)))[:4] == COLORS
    assert masks.palette(file_of(fabricate.encode(VALUES))) == []
