"""Damage in JPEG data, which OpenCV and Pillow fill in with grey and shifted colours in silence."""

from __future__ import annotations

import re

import simplejpeg

_DAMAGE = re.compile("corrupt jpeg data|premature end|unsupported marker", re.IGNORECASE)
_EXTRA = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


def damage(encoded: bytes) -> str:
    """What libjpeg warns of while it decodes a JPEG, or ``""``.

    Lost or changed bytes are noticed where the Huffman codes that follow are then too few or too
    many. A single flipped bit often is not: a JPEG has no checksum. Padding before the end of the
    file, which some cameras write, is no damage.
    """
    try:
        color_space = simplejpeg.decode_jpeg_header(encoded)[2]
        target = "CMYK" if color_space in ("CMYK", "YCCK") else "GRAY"
        # An eighth of the size: codes are read all the same, and pixels cost less.
        simplejpeg.decode_jpeg(encoded, target, min_factor=8)
    except ValueError as error:
        extra = _EXTRA.search(str(error))
        if extra and _is_padding(encoded, int(extra.group(1))):
            return ""
        return str(error) if _DAMAGE.search(str(error)) else ""
    return ""


def _is_padding(encoded: bytes, length: int) -> bool:
    """Whether the bytes before the end are the same again and again."""
    end = encoded.rfind(b"\xff\xd9")
    return len(set(encoded[max(0, end - length) : end])) <= 1
