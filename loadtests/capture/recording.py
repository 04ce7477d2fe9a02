"""A session that grows in its file while it is recorded, redacted, and whole whenever it ends.

The header stands first but is known last: how many sockets there were, and which protocol they spoke. So its line is
padded, and written again in its place at the end. A recording that was killed has a header all the same.
"""

from __future__ import annotations

import base64
import datetime
import os
import time
from pathlib import Path
from typing import IO, Literal

import orjson

from loadtests.capture.entries import dialect_of
from loadtests.capture.redaction import Redactor
from loadtests.session_format import VERSION, Frame

__all__ = ["Recording"]

_HEADER = 2048
"""Bytes that are kept for the first line."""
_LOOK = 8
"""Messages of a socket by which its protocol is known."""
_ORDER = ("native", "centrifuge", "raw")
Direction = Literal["send", "receive"]


class Recording:
    """Writes what taps read. ``most``: bytes of the file; what comes after that is counted in ``dropped``.

    Raises :exc:`OSError` when it is made, and when the disk is full.
    """

    def __init__(self, path: Path, url: str, most: int) -> None:
        self._file: IO[bytes] = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        self._redactor = Redactor()
        self._url = self._redactor.url(url)
        self._asked: list[str] = []
        self._most = most
        self._began = time.monotonic()
        self._started = datetime.datetime.now(tz=datetime.UTC)
        self._size = _HEADER
        self._looked: dict[int, list[Frame]] = {}
        self._kinds: dict[int, str] = {}
        self.sockets = self.messages = self.calls = self.dropped = 0
        self._file.write(self._header())

    def now(self) -> float:
        """Return the seconds since the recording began."""
        return time.monotonic() - self._began

    @property
    def secrets(self) -> int:
        return self._redactor.found

    @property
    def protocol(self) -> str:
        kinds = set(self._kinds.values())
        return next((each for each in _ORDER if each in kinds), "native")

    def opened(self, url: str, subprotocols: list[str]) -> int:
        """Take note of a socket that was opened; return its number."""
        number, self.sockets = self.sockets, self.sockets + 1
        url, asked = self._redactor.url(url), [self._redactor.subprotocol(each) for each in subprotocols]
        if not number:
            self._url, self._asked = url, asked
        self._kinds[number] = dialect_of(subprotocols, [])
        self._looked[number] = []
        self._put({"t": self.now(), "socket": number, "dir": "open", "url": url, "subprotocols": asked})
        return number

    def message(self, socket: int, direction: Direction, opcode: int, payload: bytes) -> None:
        try:
            data: str | bytes = payload.decode() if opcode == 1 else payload
        except UnicodeDecodeError:  # no text, whatever it says
            opcode, data = 2, payload
        clean = self._redactor.frame(data, direction)
        looked = self._looked[socket]
        if len(looked) < _LOOK and self._kinds[socket] == "raw" and opcode == 1:
            looked.append(Frame(0.0, direction, clean))
            self._kinds[socket] = dialect_of([], looked)
        self.messages += 1
        text = clean if isinstance(clean, str) else base64.b64encode(clean).decode()
        self._put({"t": self.now(), "socket": socket, "dir": direction, "op": opcode, "data": text})

    def closed(self, socket: int, code: int, reason: str) -> None:
        self._looked.pop(socket, None)
        self._put(
            {"t": self.now(), "socket": socket, "dir": "close", "code": code, "reason": self._redactor.plain(reason)}
        )

    def request(self, t: float, identity: str, method: str, url: str, headers: dict[str, str], body: bytes) -> None:
        self.calls += 1
        told = {"method": method, "url": self._redactor.url(url), "headers": self._redactor.headers(headers)}
        self._put({"t": t, "dir": "request", "id": identity, **told, **self._body(body, "send")})

    def response(self, identity: str, status: int, headers: dict[str, str], body: bytes) -> None:
        told = {"status": status, "headers": self._redactor.headers(headers), **self._body(body, "receive")}
        self._put({"t": self.now(), "dir": "response", "id": identity, **told})

    def flush(self) -> None:
        """Give the system what was written."""
        self._file.flush()

    def close(self) -> None:
        """Write the header as it is known now. May be called twice."""
        if not self._file.closed:
            self._file.seek(0)
            self._file.write(self._header())
            self._file.close()

    def _body(self, body: bytes, direction: Direction) -> dict[str, str]:
        try:
            return {"body": self._redactor.body(body.decode(), direction)}
        except UnicodeDecodeError:
            clean = self._redactor.frame(body, direction)
            assert isinstance(clean, bytes), "bytes stay bytes"
            return {"body": base64.b64encode(clean).decode(), "encoding": "base64"}

    def _put(self, record: dict[str, object]) -> None:
        line = orjson.dumps(record) + b"\n"
        if self._size + len(line) > self._most:
            self.dropped += 1
            return
        self._size += len(line)
        self._file.write(line)

    def _header(self) -> bytes:
        header = {
            "tidegate_session": VERSION, "url": self._url[:1000], "subprotocols": self._asked[:8],
            "protocol": self.protocol, "recorder": "tidegate-load record",
            "started": self._started.isoformat(timespec="seconds"), "sockets": self.sockets,
        }  # fmt: skip
        line = orjson.dumps(header)
        if len(line) >= _HEADER:
            line = orjson.dumps({**header, "subprotocols": []})
        return line.ljust(_HEADER - 1) + b"\n"
