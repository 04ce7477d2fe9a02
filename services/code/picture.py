"""A screenshot in, as bytes or a data URL: recognised by its content, bounded before it is unpacked. Pure."""

from __future__ import annotations

import base64
import binascii
import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from services.web.errors import Invalid, TooLarge

__all__ = ["Pixels", "check_picture", "crop_url", "data_url_bytes", "decode_picture"]

Pixels = NDArray[Any]
"""Rows by columns by red, green, blue; bytes."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_PREFIX = re.compile(r"data:image/[\w.+-]{1,40};base64,")
_LONGEST = 16_384
_CROP_SIDE = 192


def data_url_bytes(text: str, limit: int, field: str = "image") -> bytes:
    """The bytes of a data URL, or of plain base 64. Raises ``Invalid``, ``TooLarge``."""
    match = _PREFIX.match(text)
    if match is None and text.startswith(("data:", "http:", "https:")):
        raise Invalid(f"{field} must be a data URL: data:image/png;base64,…", field)
    encoded = text[match.end() :] if match else text
    if len(encoded) > limit * 4 // 3 + 4:
        raise TooLarge(f"{field} has at most {limit} bytes.", field)
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"{field} is not valid base 64.", field) from None


def check_picture(data: bytes, max_pixels: int, field: str = "image") -> tuple[int, int]:
    """Width and height, from the header alone: nothing is unpacked. Raises ``Invalid``, ``TooLarge``."""
    with _open(data, field) as image:
        width, height = image.size
    if min(width, height) < 8:
        raise Invalid(f"{field} is too small: each side has at least 8 pixels.", field)
    if width * height > max_pixels or max(width, height) > _LONGEST:
        raise TooLarge(f"{field} has at most {max_pixels} pixels and {_LONGEST} a side.", field)
    return width, height


def decode_picture(data: bytes, field: str = "image") -> Pixels:
    """The pixels of a picture that was checked, on white where it is transparent. Raises ``Invalid``."""
    try:
        with _open(data, field) as image:
            rgba = image.convert("RGBA")
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Invalid(f"{field} is broken: {type(error).__name__}.", field) from None
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def crop_url(pixels: Pixels, x: int, y: int, width: int, height: int) -> str:
    """A part of a picture as a small data URL."""
    image = Image.fromarray(np.ascontiguousarray(pixels[y : y + height, x : x + width]))
    image.thumbnail((_CROP_SIDE, _CROP_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _open(data: bytes, field: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(f"{field} has too many pixels.", field) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise Invalid(f"{field} is no PNG, JPEG, WebP or GIF.", field) from None
