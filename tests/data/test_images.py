"""Images of any depth and format: what is kept, and how 16 bits become 8."""

from __future__ import annotations

import io

import fabricate
import numpy as np
import pytest
from PIL import Image

from dropclass_jax.data import codec, files, headers, images
from dropclass_jax.errors import UserError

RGB = fabricate.image(0)
DEEP = (RGB.astype(np.uint16) << 8) + 77


def file_of(content: bytes) -> files.File:
    return files.File("image.png", len(content), lambda: content)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp", ".bmp"])
def test_8_bits_come_through_in_every_format(suffix):
    encoded = fabricate.encode(RGB, suffix)
    content, image = images.read(file_of(encoded))
    np.testing.assert_array_equal(image, RGB)
    stored = images.stored(content, image, "original")
    np.testing.assert_array_equal(codec.decode_image(stored), RGB)
    assert (stored == encoded) == (suffix != ".tiff")  # TIFF readers differ: stored as PNG


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_come_through(suffix):
    _, image = images.read(file_of(fabricate.encode(DEEP, suffix)))
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, DEEP)
    with pytest.raises(UserError, match=r"image\.png has 16 bits a channel: want the 8-bit image"):
        images.read_8bit(file_of(fabricate.encode(DEEP, suffix)))


def test_grey_becomes_three_channels_and_alpha_goes():
    grey = RGB[..., 0]
    encoded, image = images.read(file_of(fabricate.encode(grey)))
    np.testing.assert_array_equal(image, np.dstack([grey] * 3))
    np.testing.assert_array_equal(codec.decode_image(encoded), image)
    encoded, image = images.read(file_of(fabricate.encode(np.dstack([RGB, grey]))))
    np.testing.assert_array_equal(image, RGB)
    np.testing.assert_array_equal(codec.decode_image(encoded), image)


def photograph(**options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(fabricate.image(3, (120, 160))).save(file, "JPEG", quality=80, **options)
    return file.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_broken_data_in_its_middle_is_refused(progressive):
    sound = photograph(progressive=progressive)
    images.read(file_of(sound))
    middle = len(sound) * 2 // 3
    for broken in (
        sound[:middle] + bytes(512) + sound[middle + 512 :],  # a bad sector
        sound[:middle] + sound[middle + 300 :],
        sound[:middle] + b"\xff\xd9" + sound[middle + 2 :],
    ):
        assert codec.decode_image(broken) is not None  # which is why it must be noticed
        with pytest.raises(UserError, match=r"^image\.png is a damaged JPEG \(Corrupt JPEG data"):
            images.read(file_of(broken))


@pytest.mark.parametrize(
    "options", [{}, {"optimize": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]
)
def test_a_sound_jpeg_is_read_whatever_follows_it(options):
    sound = photograph(**options)
    end = sound.rindex(b"\xff\xd9")
    for content in (sound, sound + b"another picture", sound[:end] + bytes(700) + sound[end:]):
        images.read(file_of(content))
    file = io.BytesIO()
    Image.fromarray(RGB).convert("CMYK").save(file, "JPEG")
    images.read(file_of(file.getvalue()))


def test_another_format_is_named():
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    with pytest.raises(UserError, match=r"^image\.png is not a readable image \(it is HEIC\)"):
        images.read(file_of(heic))


def test_an_orientation_is_noticed_and_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 3
    for format in ("JPEG", "PNG", "WEBP"):
        Image.fromarray(RGB).save(file := io.BytesIO(), format, exif=exif, lossless=True)
        assert headers.is_turned(file.getvalue())
        Image.fromarray(RGB).save(plain := io.BytesIO(), format, lossless=True)
        assert not headers.is_turned(plain.getvalue())
        turned, upright = (images.read(file_of(f.getvalue()))[1] for f in (file, plain))
        np.testing.assert_array_equal(turned, upright)


def test_floating_point_is_refused():
    content = fabricate.encode(RGB.astype(np.float32), ".tiff")
    with pytest.raises(UserError, match=r"image\.png holds float32 values: want 8 or 16 bits"):
        images.read(file_of(content))
