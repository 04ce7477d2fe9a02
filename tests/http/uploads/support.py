"""Bodies of forms, byte by byte, and the beginnings of files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

BOUNDARY = b"----tide7MA4YWxk"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(64))
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(64)
SVG = b'<?xml version="1.0"?><!-- drawn --><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def part(content: bytes, name: str = "image", file: str | None = "a.png", kind: str | None = "image/png") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if file is not None:
        disposition += f'; filename="{file}"'
    typed = "" if kind is None else f"\r\nContent-Type: {kind}"
    return f"{disposition}{typed}\r\n\r\n".encode() + content


def field(value: bytes, name: str = "prompt") -> bytes:
    return part(value, name, None, None)


def form(*parts: bytes, boundary: bytes = BOUNDARY, end: bytes = b"\r\n") -> bytes:
    return b"".join(b"--%b\r\n%b\r\n" % (boundary, each) for each in parts) + b"--%b--" % boundary + end


def cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    """Return ``body`` in pieces that end at ``places``."""
    ends = [0, *sorted(places), len(body)]
    return [body[begin:end] for begin, end in pairwise(ends)]
