"""TIFF pixels by their tags.

TIFF leaves open what most readers assume: whether channels are interleaved or stored as planes,
whether 0 is black or white, what a fourth sample means, how many bits a value has. OpenCV and
Pillow decode some of these files wrongly and without a warning: OpenCV scrambles 16-bit planes,
multiplies by any sample that is flagged as alpha and reads two 16-bit bands as 8 bits; Pillow cuts
16-bit colour to 8 bits. Here tifffile reads the tags, libtiff (by Pillow) undoes the lossless
compression of the bytes, and NumPy does the rest. What cannot be decoded so is refused by name.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from dropclass_jax.data import codec
from dropclass_jax.errors import UserError

# Faults are reported as UserErrors.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"PIL\.")

# Compression tags.
_LOSSLESS = (
    1,
    5,
    8,
    32946,
    32773,
    34925,
    50000,
)  # none, LZW, Deflate (twice), PackBits, LZMA, Zstd
_RARE = (34925, 50000)  # which not every build of Pillow has
_FAX = (2, 3, 4)
_JPEG = 7
# Photometric tags.
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, _YCBCR = 0, 1, 2, 3, 6
_ALPHA = (1, 2)

# What tifffile and Pillow raise at a damaged file.
_DAMAGED = (
    *(tifffile.TiffFileError, OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError),
    *(AttributeError, EOFError, OverflowError, ZeroDivisionError, struct.error),
)


class Tiff(NamedTuple):
    """The first page of a TIFF, as stored.

    Attributes:
      values: uint8 or uint16 [H, W, S], of S samples a pixel; 9 to 16 bits are in a uint16.
      bits: a sample, 1 to 16.
      photometric: ``MIN_IS_WHITE``, ``MIN_IS_BLACK``, ``RGB`` or ``PALETTE``.
      has_alpha: whether the sample after grey or RGB is flagged as alpha.
      colors: uint8 [2**bits, 3] of a palette, else None.
    """

    values: np.ndarray
    bits: int
    photometric: int
    has_alpha: bool
    colors: np.ndarray | None


def is_tiff(encoded: bytes) -> bool:
    """Whether it is a TIFF or a BigTIFF, of either byte order."""
    return encoded[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def pages(encoded: bytes) -> int:
    """How many pictures it holds; 1 if that is unknown.

    Overviews (reduced copies of the picture) and masks of transparency are no pictures of their
    own.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(encoded)) as file:
            if file.is_imagej:  # a stack may follow a single directory
                return int((file.imagej_metadata or {}).get("images", len(file.pages)))
            others = (page for page in file.pages[1:] if not page.is_reduced and not page.is_mask)
            return 1 if next(others, None) is None else len(file.pages)
    except _DAMAGED:
        return 1


def size(encoded: bytes) -> tuple[int, int] | None:
    """Height and width, or None if they are unknown."""
    try:
        with tifffile.TiffFile(io.BytesIO(encoded)) as file:
            return file.pages[0].imagelength, file.pages[0].imagewidth
    except _DAMAGED:
        return None


def is_turned(encoded: bytes) -> bool:
    """Whether its orientation says to turn or mirror the stored pixels."""
    try:
        with tifffile.TiffFile(io.BytesIO(encoded)) as file:
            return file.pages[0].tags.valueof(274, 1) not in (0, 1)
    except _DAMAGED:
        return False


def picture(where: str, encoded: bytes) -> np.ndarray:
    """The picture as it is meant to be seen.

    White is high, palettes are looked up, fewer than 8 bits are scaled to 8; 9 to 16 bits keep
    their values.

    Returns:
      uint8 or uint16 [H, W, C], of grey, grey and alpha, RGB, or RGB and a fourth band.

    Raises:
      UserError: as ``stored`` does.
    """
    tiff = stored(where, encoded)
    values, largest = tiff.values, 2**tiff.bits - 1
    if tiff.colors is not None:
        return tiff.colors[values[..., 0]]
    if tiff.photometric == MIN_IS_WHITE:
        values = (largest - values).astype(values.dtype)
    return values * np.uint8(255 // largest) if tiff.bits < 8 else values


def stored(where: str, encoded: bytes, *, is_mask: bool = False) -> Tiff:
    """The samples of the first page, as stored.

    Args:
      where: the file's name, for messages.
      encoded: its bytes.
      is_mask: refuse compression with loss, and name what a mask wants.

    Raises:
      UserError: it is damaged, its samples are no unsigned integers of 1 to 16 bits, it is neither
        grey, palette nor RGB (with at most one further band), or its compression is not supported.
    """
    hint = ""
    try:
        with tifffile.TiffFile(io.BytesIO(encoded)) as file:
            page = file.pages[0]
            if page.compression in _RARE:
                hint = f", or Pillow cannot read its {page.compression.name} compression"
            _check(where, page, is_mask)
            values, photometric = _values(encoded, file.byteorder, page)
            colors = _colors(page) if photometric == PALETTE else None
    except _DAMAGED:
        complaint = f"{where} is not a readable image{hint}: replace it or remove it"
        raise UserError(complaint) from None
    extra = page.extrasamples[:1]
    return Tiff(values, page.bitspersample, photometric, bool(extra and extra[0] in _ALPHA), colors)


def _check(where: str, page: tifffile.TiffPage, is_mask: bool) -> None:
    """Refuse what ``_values`` cannot decode."""
    bits, kinds = page.bitspersample, set(np.atleast_1d(page.sampleformat).tolist())
    if not isinstance(bits, int) or bits > 16 or not kinds <= {1, 4}:  # without a sign, or untold
        held = f"holds {page.dtype or 'mixed'} values: want 8 or 16 bits without a sign"
        if is_mask:
            held = f"has {bits} bits a pixel ({page.dtype}): want an 8-bit label, 0..255"
        raise UserError(f"{where} {held}")
    compression, photometric = int(page.compression), int(page.photometric)
    if compression not in (*_LOSSLESS, *_FAX):
        name = tifffile.COMPRESSION(compression).name.replace("_", " ")
        if is_mask:
            raise UserError(
                f"{where} is a TIFF with {name} compression, which changes values: save masks as "
                "PNG, or as TIFF with LZW or Deflate"
            )
        means = (1, MIN_IS_WHITE), (1, MIN_IS_BLACK), (3, RGB), (3, _YCBCR)
        is_usual = page.bitspersample == 8 and (page.samplesperpixel, photometric) in means
        if compression != _JPEG or not is_usual:
            raise UserError(
                f"{where} is a TIFF of {page.samplesperpixel} channels with {name} compression, "
                "which is not supported: save it with LZW or Deflate"
            )
    elif photometric not in (MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE):
        name = {5: "CMYK", 6: "YCbCr"}.get(photometric, tifffile.PHOTOMETRIC(photometric).name)
        raise UserError(f"{where} holds {name} colours: want grey, RGB or RGBA")
    samples, grey = page.samplesperpixel, photometric != RGB
    has_alpha = samples == 2 and page.extrasamples[:1] and page.extrasamples[0] in _ALPHA
    if not (samples in (3, 4) or (grey and (samples == 1 or has_alpha))) or (
        photometric == PALETTE and samples > 1
    ):
        raise UserError(f"{where} has {samples} channels: want grey, RGB or RGBA")
    if page.predictor not in (1, 2) or (page.predictor == 2 and bits not in (8, 16)):
        raise UserError(f"{where} is a TIFF with predictor {page.predictor}: save it with another")
    if page.imagedepth > 1:
        raise UserError(f"{where} is a volume of {page.imagedepth} slices: save each as a file")


def _values(encoded: bytes, order: str, page: tifffile.TiffPage) -> tuple[np.ndarray, int]:
    """The samples [H, W, S], and what they mean if decoding has changed that."""
    compression, photometric = int(page.compression), int(page.photometric)
    if compression in _FAX:
        # Fax codes need the tags of the page; Pillow shows bilevel images as black and white.
        bilevel = np.asarray(Image.open(io.BytesIO(encoded)).convert("1"))
        return bilevel.astype(np.uint8)[..., None], MIN_IS_BLACK
    if compression == _JPEG:
        pixels = codec.decode_unchanged(encoded)
        if pixels is None:
            raise ValueError("damaged JPEG data")
        return np.atleast_3d(pixels), MIN_IS_BLACK if pixels.ndim == 2 else RGB
    number = page.samplesperpixel if page.planarconfig == 2 else 1
    planes = [_plane(encoded, order, page, plane, number) for plane in range(number)]
    return planes[0] if number == 1 else np.concatenate(planes, axis=2), photometric


def _plane(
    encoded: bytes, order: str, page: tifffile.TiffPage, plane: int, number: int
) -> np.ndarray:
    """One of a number of planes, uint8 or uint16 [H, W, samples of the plane]."""
    height, width, bits = page.imagelength, page.imagewidth, page.bitspersample
    samples = page.samplesperpixel // number
    rows = _bytes(encoded, page, plane, number, -(-width * samples * bits // 8))
    if bits == 8:
        values = rows.reshape(height, width, samples)
    elif bits == 16:
        values = rows.view(f"{order}u2").astype(np.uint16).reshape(height, width, samples)
    else:
        values = _unpacked(rows, bits, width * samples).reshape(height, width, samples)
    if page.predictor == 2:  # differences along a row, anew in each tile
        step = page.tilewidth or width
        for left in range(0, width, step):
            part = values[:, left : left + step]
            np.cumsum(part, axis=1, dtype=values.dtype, out=part)
    return values


def _unpacked(rows: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Values of fewer than 8 bits as uint8, of 9 to 15 bits as uint16: [H, count]."""
    dtype = np.uint8 if bits < 8 else np.uint16
    values = np.empty((len(rows), count), dtype)
    weights = 1 << np.arange(bits)[::-1]
    for row, packed in enumerate(rows):
        values[row] = np.unpackbits(packed)[: count * bits].reshape(count, bits) @ weights
    return values


def _bytes(
    encoded: bytes, page: tifffile.TiffPage, plane: int, number: int, width: int
) -> np.ndarray:
    """The decompressed rows of a plane, uint8 [H, width].

    Where they are compressed or in tiles, the same bytes are described as a grey 8-bit image of so
    many bytes a row, which every reader decodes alike.
    """
    per_plane = len(page.dataoffsets) // number
    segments = slice(plane * per_plane, (plane + 1) * per_plane)
    offsets, counts = page.dataoffsets[segments], page.databytecounts[segments]
    if page.compression == 1 and page.fillorder == 1 and not page.is_tiled:
        strips = zip(offsets, counts, strict=True)
        joined = b"".join(encoded[offset : offset + count] for offset, count in strips)
        return np.frombuffer(bytearray(joined), np.uint8).reshape(page.imagelength, width)
    tags = {
        256: [width],
        257: [page.imagelength],
        258: [8],
        259: [int(page.compression)],
        262: [MIN_IS_BLACK],
        266: [int(page.fillorder)],
        277: [1],
    }
    if page.is_tiled:
        samples = page.samplesperpixel // number
        tags |= {322: [page.tilewidth * samples * page.bitspersample // 8], 323: [page.tilelength]}
        tags |= {324: offsets, 325: counts}
    else:
        tags |= {273: offsets, 278: [min(page.rowsperstrip, page.imagelength)], 279: counts}
    with Image.open(io.BytesIO(_relabelled(encoded, tags))) as image:
        rows = np.array(image)
    if rows.shape != (page.imagelength, width):
        raise ValueError(f"{rows.shape} bytes for {page.imagelength} rows of {width}")
    return rows


def _relabelled(encoded: bytes, tags: dict[int, list[int]]) -> bytes:
    """A little-endian TIFF of the same bytes with other tags, each a list of whole numbers."""
    header = 8
    start = header + len(encoded) + len(encoded) % 2
    lists, entries = b"", b""
    after = start + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        numbers = [n + header for n in numbers] if tag in (273, 324) else numbers
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        value = packed
        if len(numbers) > 1:
            value = struct.pack("<I", after + len(lists))
            lists += packed
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + value
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    padding = b"\0" * (len(encoded) % 2)
    return b"".join((b"II*\0", struct.pack("<I", start), encoded, padding, directory, lists))


def _colors(page: tifffile.TiffPage) -> np.ndarray:
    """The palette, uint8 [N, 3]."""
    table = np.asarray(page.colormap, np.uint16).T  # [2**bits, 3], of 16 bits a channel
    return (table >> 8 if (table > 255).any() else table).astype(np.uint8)  # or of 8, in old files
