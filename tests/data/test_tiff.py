"""TIFFs in all their forms: the pixels are right, or the file is refused and says what it has."""

from __future__ import annotations

import io
import itertools
import struct

import fabricate
import numpy as np
import pytest
import tifffile
from PIL import Image

from dropclass_jax.data import files, headers, images, masks, tiff
from dropclass_jax.errors import UserError

SHAPE = (37, 53)  # multiples of neither tile nor strip
RGB = fabricate.image(0, SHAPE)
VALUES = fabricate.values(0, 4, SHAPE)


def written(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, metadata=None, **options)
    return file.getvalue()


def saved(pixels: np.ndarray, format: str = "TIFF", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def file_of(content: bytes, name: str = "some.png") -> files.File:
    """By a name that is none of a TIFF's: the bytes decide."""
    return files.File(name, len(content), lambda: content)


def noise(channels: int, dtype: type = np.uint16) -> np.ndarray:
    shape, top = (*SHAPE, channels), np.iinfo(dtype).max + 1
    return np.random.default_rng(channels).integers(0, top, shape, dtype=dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_arrangement_of_the_same_pixels(dtype, channels):
    pixels = noise(channels, dtype)
    arrangements = itertools.product(
        "<>", (None, (16, 32)), (None, "zlib", "lzma"), ("contig", "separate"), (False, True)
    )
    for order, tile, compression, planes, predictor in arrangements:
        if (planes == "separate" and channels == 1) or (predictor and compression != "zlib"):
            continue
        content = written(
            np.moveaxis(pixels, 2, 0) if planes == "separate" else pixels.squeeze(),
            photometric="minisblack" if channels == 1 else "rgb",
            planarconfig=planes if channels > 1 else None,
            byteorder=order,
            tile=tile,
            compression=compression,
            predictor=predictor,
        )
        found = images.decode(file_of(content), content)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd"])
def test_libtiff_s_compressions(compression):
    try:
        saved(VALUES, compression=compression)
    except OSError:
        assert compression == "zstd"  # which older wheels of Pillow lack
        pytest.skip("this Pillow has no Zstandard")
    for pixels in (RGB, RGB[..., 0]):
        _, found = images.read(file_of(saved(pixels, compression=compression)))
        np.testing.assert_array_equal(found, np.broadcast_to(np.atleast_3d(pixels), found.shape))
    content = fabricate.encode(noise(3), ".tiff")  # OpenCV writes LZW with a predictor
    np.testing.assert_array_equal(images.read(file_of(content))[1], noise(3))


@pytest.mark.parametrize("flag", ["unspecified", "assocalpha", "unassalpha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_fourth_band_multiplies_nothing(flag, dtype):
    """RGB and near infrared, which some programs flag as alpha."""
    pixels = noise(4, dtype)
    content = written(pixels, photometric="rgb", extrasamples=[flag])
    np.testing.assert_array_equal(images.read(file_of(content))[1], pixels[..., :3])


def test_white_is_high():
    for pixels in (noise(1)[..., 0], noise(1, np.uint8)[..., 0]):
        content = written(pixels, photometric="miniswhite")
        _, found = images.read(file_of(content))
        np.testing.assert_array_equal(found[..., 0], ~pixels)


@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
def test_packed_values(bits):
    dtype = np.uint8 if bits < 8 else np.uint16
    pixels = (noise(1)[..., 0] % 2**bits).astype(dtype)
    content = packed(pixels, bits)
    expected = pixels if bits > 8 else pixels * (255 // (2**bits - 1))
    np.testing.assert_array_equal(images.read(file_of(content))[1][..., 0], expected)
    if bits < 8:
        kind, codes = masks.read_codes(file_of(content))
        assert kind == "index"
        np.testing.assert_array_equal(codes, pixels)


def test_a_palette_is_looked_up_for_images_and_not_for_masks():
    colors = [(10, 20, 30), (255, 0, 0), (0, 0, 255), (128, 64, 0)]
    content = fabricate.encode_palette(VALUES, colors, "TIFF")
    np.testing.assert_array_equal(images.read(file_of(content))[1], np.array(colors)[VALUES])
    np.testing.assert_array_equal(masks.read_codes(file_of(content))[1], VALUES)


def test_grey_with_alpha():
    pixels = noise(2, np.uint8)
    content = written(pixels, photometric="minisblack", extrasamples=["unassalpha"])
    found = images.read(file_of(content))[1]
    np.testing.assert_array_equal(found, np.dstack([pixels[..., 0]] * 3))


def test_overviews_are_no_pages():
    """As in a cloud-optimised GeoTIFF."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(RGB, photometric="rgb", metadata=None)
        writer.write(RGB[::2, ::2].copy(), photometric="rgb", metadata=None, subfiletype=1)
    np.testing.assert_array_equal(images.read(file_of(file.getvalue()))[1], RGB)


def test_jpeg_compression_is_for_images_alone():
    smooth = np.broadcast_to(np.arange(SHAPE[1], dtype=np.uint8)[:, None], (*SHAPE, 3)).copy()
    content = saved(smooth, compression="jpeg", quality=95)
    assert np.abs(images.read(file_of(content))[1].astype(int) - smooth).max() <= 4
    with pytest.raises(UserError, match=r"^some\.png is a TIFF with JPEG compression, which chang"):
        masks.read_codes(file_of(content))


def with_tag(content: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with another value of a tag of one number, of its first page."""
    at = next(
        at
        for at in range(0, len(content) - 8)
        if struct.unpack_from("<HHI", content, at) in ((tag, 3, 1), (tag, 4, 1))
    )
    return content[: at + 8] + struct.pack("<I", value) + content[at + 12 :]


def packed(pixels: np.ndarray, bits: int) -> bytes:
    """A grey TIFF of a number of bits a pixel, each row filled up to whole bytes."""
    binary = (pixels[..., None] >> np.arange(bits)[::-1] & 1).reshape(len(pixels), -1)
    content = written(np.packbits(binary.astype(np.uint8), axis=1), photometric="minisblack")
    return with_tag(with_tag(content, 256, pixels.shape[1]), 258, bits)


PLAIN = written(RGB, photometric="rgb")
IMAGEJ = io.BytesIO()
tifffile.imwrite(IMAGEJ, np.stack([VALUES] * 3), imagej=True)

REFUSED = {
    "five channels": (written(noise(5), photometric="rgb"), "has 5 channels: want grey, RGB or"),
    "two bands": (
        written(noise(2), photometric="minisblack", planarconfig="contig"),
        "has 2 channels: want grey, RGB or RGBA",
    ),
    "Lab": (with_tag(PLAIN, 262, 8), "holds CIELAB colours: want grey, RGB or RGBA"),
    "CMYK": (written(noise(4, np.uint8), photometric="separated"), "holds CMYK colours"),
    "signed": (written(VALUES.astype(np.int16)), "holds int16 values: want 8 or 16 bits without a"),
    "float": (written(VALUES.astype(np.float32)), "holds float32 values"),
    "32 bits": (written(VALUES.astype(np.uint32)), "holds uint32 values"),
    "an ImageJ stack": (IMAGEJ.getvalue(), "has 3 pages: save each as a file of its own"),
    "JPEG 2000": (with_tag(PLAIN, 259, 34712), "is a TIFF of 3 channels with JPEG2000 compr"),
    "cut short": (PLAIN[: len(PLAIN) // 2], "is not a readable image"),
    "cut in its tags": (PLAIN[:60], "is not a readable image"),
    "a giant": (with_tag(with_tag(PLAIN, 256, 60000), 257, 60000), r"is 60000x60000: .* 2\^30 pix"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused_by_name(name):
    content, message = REFUSED[name]
    with pytest.raises(UserError, match=rf"^some\.png {message}") as caught:
        images.read(file_of(content))
    assert "\n" not in str(caught.value)


def animation(format: str, **options) -> bytes:
    frames = [Image.fromarray(np.full(SHAPE, n, np.uint8)) for n in range(3)]
    file = io.BytesIO()
    frames[0].save(file, format, save_all=True, append_images=frames[1:], **options)
    return file.getvalue()


MASKS = {
    "lossy WebP": (saved(RGB, "WEBP", quality=80), "is a lossy WebP, which changes the values"),
    "lossy WebP with more chunks": (
        saved(np.dstack([RGB, VALUES]), "WEBP", quality=80), "is a lossy WebP"),
    "JPEG 2000": (saved(VALUES, "JPEG2000"), "is a JPEG 2000, which changes the values"),
    "APNG": (animation("PNG"), r"has 3 frames \(an animation\): save each as a file of its own"),
    "animated GIF": (animation("GIF"), r"has 3 frames \(an animation\)"),
    "animated WebP": (animation("WEBP", lossless=True), r"has 3 frames \(an animation\)"),
    "0 is white": (written(VALUES, photometric="miniswhite"), "in which 0 is white"),
    "16 bits": (written(VALUES.astype(np.uint16)), "has 16 bits a pixel: want an 8-bit label"),
    "float": (written(VALUES.astype(np.float32)), r"has 32 bits a pixel \(float32\): want an 8-bi"),
    "a band more": (
        written(noise(4, np.uint8), photometric="rgb", extrasamples=["unspecified"]),
        "has 4 channels: want one, a palette, or RGB",
    ),
    "transparent": (
        written(noise(4, np.uint8), photometric="rgb", extrasamples=["unassalpha"]),
        "is partly transparent",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_exact_or_refused(name):
    content, message = MASKS[name]
    with pytest.raises(UserError, match=rf"^some\.png .*{message}") as caught:
        masks.read_codes(file_of(content))
    assert "\n" not in str(caught.value)


def test_masks_in_planes_and_bilevel_ones():
    painted = RGB // 64 * 64
    content = written(np.moveaxis(painted, 2, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(masks.read_codes(file_of(content))[1], masks.pack(painted))
    bilevel = VALUES > 1
    for compression in ("raw", "group4", "tiff_lzw"):
        content = saved(bilevel, compression=compression)
        np.testing.assert_array_equal(masks.read_codes(file_of(content))[1], bilevel)
    content = written(bilevel, photometric="miniswhite")  # stored the other way round
    np.testing.assert_array_equal(masks.read_codes(file_of(content))[1], ~bilevel)


def test_a_lossless_webp_with_more_chunks_is_a_mask():
    painted = np.dstack([RGB, np.full(SHAPE, 255, np.uint8)])
    content = saved(painted, "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0")
    assert b"VP8X" in content
    np.testing.assert_array_equal(masks.read_codes(file_of(content))[1], masks.pack(RGB))


def test_the_orientation_of_a_tiff_is_noticed_and_not_applied():
    content = written(RGB, photometric="rgb", extratags=[(274, 3, 1, 3, True)])
    assert headers.is_turned(content)
    assert not headers.is_turned(PLAIN)
    np.testing.assert_array_equal(images.read(file_of(content))[1], RGB)


def test_a_compression_that_pillow_may_lack_is_named():
    """Zstandard by its tag, and none in the data: as where Pillow cannot read it."""
    content = with_tag(PLAIN, 259, 50000)
    with pytest.raises(
        UserError, match="not a readable image, or Pillow cannot read its ZSTD comp"
    ):
        images.read(file_of(content))


def test_damage_anywhere_is_never_an_unknown_error():
    rng = np.random.default_rng(0)
    sound = written(RGB, photometric="rgb", compression="zlib", rowsperstrip=8)
    refused = 0
    for _ in range(300):
        content = bytearray(sound)
        at = int(rng.choice([rng.integers(len(content)), rng.integers(300)]))
        content[at : at + 4] = rng.bytes(4)
        try:
            headers.check("some.tif", bytes(content))
            tiff.picture("some.tif", bytes(content))
        except UserError:
            refused += 1
    assert refused > 200
