"""Opens a capture, whatever it is packed in, and says what is wrong with it in a way that helps.

A HAR is JSON: plain (browsers, mitmproxy's ``.har``), compressed by zlib (mitmproxy's ``.zhar``) or gzip, or in a ZIP
with its bodies beside it (Playwright's ``.har.zip``). No more is unpacked than was allowed.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

__all__ = ["Attachments", "CaptureError", "Opened", "open_capture"]

_AGAIN = "export it again, and wait until the file is whole"
_PIECE = 1 << 20
_FOREIGN: tuple[tuple[str, str, str], ...] = (
    (r"\d+:\d+:", "a mitmproxy flow file", "mitmdump -n -r FILE --set hardump=capture.har"),
    (r"\s*<(?:!doctype|html|\?xml)", "a page and no capture", "export a HAR: DevTools, Network, Export HAR"),
    (
        "\x0a\x0d\x0d\x0a|\xd4\xc3\xb2\xa1|\xa1\xb2\xc3\xd4",
        "a packet capture",
        "export a HAR instead, or use tidegate-load record",
    ),
)
Attachments = Callable[[str], bytes]
"""Returns a body that lies beside a HAR, by its name. Raises :exc:`CaptureError`."""


class CaptureError(Exception):
    """A capture that can't be read: where, what is wrong, and what helps."""

    def __init__(self, where: str, what: str, cure: str = "") -> None:
        super().__init__(f"{where}: {what}" + (f"; {cure}" if cure else ""))


class Opened:
    """An opened capture: ``har`` (the parsed JSON), or the lines of a ``session``."""

    def __init__(self, har: Any, session: list[bytes] | None, attachments: Attachments) -> None:
        self.har = har
        self.session = session
        self.attachments = attachments


def open_capture(path: Path, most: int) -> Opened:
    """Open a file, of which ``most`` bytes may be read or unpacked. Raises :exc:`CaptureError`, :exc:`OSError`."""
    name = path.name
    with path.open("rb") as file:
        data = file.read(most + 1)
    _limit(name, len(data), most)
    if not data.strip():
        raise CaptureError(name, "the file is empty", _AGAIN)
    if data[:2] == b"PK":
        return _zip(name, data, most)
    if data[:1] == b"\x78" or data[:2] == b"\x1f\x8b":
        data = _inflate(name, data, most)
    return _text(name, data, _none)


def _text(name: str, data: bytes, attachments: Attachments) -> Opened:
    data = data.removeprefix(b"\xef\xbb\xbf")
    first, _, _ = data.lstrip().partition(b"\n")
    if b'"tidegate_session"' in first[:4096]:
        return Opened(None, data.splitlines(), attachments)
    head = data[:64].decode("latin-1")
    for pattern, what, cure in _FOREIGN:
        if re.match(pattern, head, re.IGNORECASE):
            raise CaptureError(name, f"this is {what}", cure.replace("FILE", name))
    try:
        return Opened(orjson.loads(data), None, attachments)
    except orjson.JSONDecodeError as error:
        raise _broken(name, data, error) from None


def _broken(name: str, data: bytes, error: orjson.JSONDecodeError) -> CaptureError:
    if data.lstrip()[:1] not in {b"{", b"["}:
        return CaptureError(
            name, "this is no HAR and no recorded session", "export a HAR: DevTools, Network, Export HAR"
        )
    where = f"{name}, line {error.lineno}, column {error.colno}"
    if error.pos >= len(error.doc) - 1 or "end of" in str(error) or "EOF" in str(error):
        return CaptureError(where, "the file ends in the middle", _AGAIN)
    return CaptureError(where, str(error).partition(":")[0], _AGAIN)


def _zip(name: str, data: bytes, most: int) -> Opened:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        raise CaptureError(name, "a ZIP that is broken or cut short", _AGAIN) from None
    hars = [each for each in archive.namelist() if each.endswith(".har")]
    if not hars:
        raise CaptureError(name, "there is no .har in this ZIP", "Playwright writes one: record_har_path='x.har.zip'")
    left = most

    def read(member: str) -> bytes:
        nonlocal left
        try:
            with archive.open(member) as file:
                found = file.read(left + 1)
        except KeyError:
            raise CaptureError(name, f"{member!r} is not in the ZIP", _AGAIN) from None
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
            raise CaptureError(f"{name}, {member}", f"can't be unpacked ({error})", _AGAIN) from None
        left -= len(found)
        _limit(f"{name}, {member}", most if left >= 0 else most + 1, most)
        return found

    return _text(f"{name}, {hars[0]}", read(hars[0]), read)


def _inflate(name: str, data: bytes, most: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=47)  # zlib or gzip, as the header says
    parts: list[bytes] = []
    size = 0
    try:
        while data and not unpacker.eof:
            parts.append(unpacker.decompress(data, _PIECE))
            size += len(parts[-1])
            _limit(name, size, most)
            data = unpacker.unconsumed_tail
    except zlib.error as error:
        raise CaptureError(name, f"can't be unpacked ({error})", _AGAIN) from None
    if not unpacker.eof:
        raise CaptureError(name, "the file ends in the middle", _AGAIN)
    return b"".join(parts)


def _limit(where: str, size: int, most: int) -> None:
    if size > most:
        limit = f"{most / 1e6:g} MB"
        raise CaptureError(
            where, f"more than {limit}", "record less, filter before exporting, or allow more by --max-mb"
        )


def _none(member: str) -> bytes:
    raise CaptureError(
        member, "this body lies in a file beside the HAR", "import the .har.zip, or export with the bodies in it"
    )
