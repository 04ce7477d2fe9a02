"""Recordings of sockets, in the format of docs/load-testing.md: one file for each socket that was chosen.

On the event loop a message is put in a list, and nothing else; every now and then a thread reads what is in the list,
takes tokens out, and writes it. What waits is bounded: beyond it records are dropped and counted. A file that a full
disk does not take ends. A recording never disturbs its socket.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import os
import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from app.config.recorder import RecorderConfig
from app.observe.redaction import TOKEN, redacted_bytes, redacted_text

__all__ = ["FileRecorder"]

_log = structlog.get_logger(__name__)

_FLUSH = 0.25
_WAITING = 16 * 1024 * 1024
"""Bytes that may wait for the thread."""
_UNDECIDED = 256 * 1024
"""Bytes that are kept of a socket until it is known whose it is."""
_TEXT, _BINARY = 1, 2
_Note = tuple[float, str, int, bytes]
"""Seconds since the start; ``send``, ``receive``, ``close``; the opcode (or close code); the bytes."""


class FileRecorder:
    """Chooses sockets and writes their recordings. Made only where there is something to choose."""

    def __init__(self, config: RecorderConfig) -> None:
        self._config = config
        self._folder = Path(config.folder)
        self._pen = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[_Track, _Note]] = []
        self._size = 0
        self._files = 0

    def track(self, connection_id: str, url: str, protocol: str, subprotocol: str | None) -> _Track | None:
        """Return the recording of a socket that opens, or None. It may be decided later whether it is kept."""
        config = self._config
        chosen = connection_id in config.sessions or (config.share > 0 and random.random() < config.share)
        if self._files >= config.max_files or not (chosen or config.users):
            return None
        asked = [] if subprotocol is None else [subprotocol]
        if subprotocol == "tidegate.v1":
            asked.append(f"bearer.{TOKEN}")
        header = {"tidegate_session": 1, "url": url, "subprotocols": asked, "protocol": protocol, "sockets": 1}
        track = _Track(self, connection_id, header, config)
        if chosen:
            self._keep(track)
        return track

    def identified(self, track: _Track, user_id: str) -> None:
        """Whose socket it is."""
        if track.state == "undecided":
            if user_id in self._config.users and self._files < self._config.max_files:
                self._keep(track)
            else:
                track.stop()

    def put(self, track: _Track, note: _Note) -> None:
        """Let the thread write a note, soon."""
        size = len(note[3])
        if self._size + size > _WAITING:
            track.dropped += 1
            return
        self._size += size
        self._waiting.append((track, note))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH, self._flush)

    def close(self) -> None:
        """Write what waits, and end all files."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        self._pen.shutdown()

    def _keep(self, track: _Track) -> None:
        self._files += 1
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", track.connection_id)[:80]
        name = f"{datetime.datetime.now(tz=datetime.UTC):%Y%m%dT%H%M%S}-{safe}-{os.getpid()}-{self._files}.jsonl"
        track.keep(self._folder / name)

    def _flush(self) -> None:
        self._timer = None
        notes, self._waiting, self._size = self._waiting, [], 0
        if notes:
            self._pen.submit(_write, notes)


class _Track:
    """One socket. Its state: ``undecided``, ``kept`` or ``over``."""

    def __init__(
        self, recorder: FileRecorder, connection_id: str, header: dict[str, Any], config: RecorderConfig
    ) -> None:
        self.connection_id = connection_id
        self.header = header
        self.state = "undecided"
        self.path: Path | None = None
        self.dropped = 0
        self.written = 0
        self.failed = False
        """Whether the disk did not take it. The thread's."""
        self._recorder = recorder
        self._config = config
        self._began = time.monotonic()
        self._early: list[_Note] = []
        self._size = 0

    def keep(self, path: Path) -> None:
        self.path, self.state = path, "kept"
        early, self._early = self._early, []
        for note in ((0.0, "open", 0, b""), *early):
            self._recorder.put(self, note)

    def stop(self) -> None:
        self.state = "over"
        self._early.clear()

    def received(self, data: bytes, *, text: bool) -> None:
        self._note("send", _TEXT if text else _BINARY, data)

    def sent(self, block: bytes) -> None:
        self._note("receive", 0, block)

    def closed(self, code: int) -> None:
        if self.state == "kept":
            self._recorder.put(self, (time.monotonic() - self._began, "close", code, b""))
        self.stop()

    def _note(self, kind: str, opcode: int, data: bytes) -> None:
        if self.state == "over":
            return
        t = time.monotonic() - self._began
        self._size += len(data)
        if t > self._config.max_seconds or self._size > self._config.max_bytes:
            self.closed(1005)
        elif self.state == "kept":
            self._recorder.put(self, (t, kind, opcode, data))
        elif self._size > _UNDECIDED:
            self.stop()
        else:
            self._early.append((t, kind, opcode, data))


def _write(notes: list[tuple[_Track, _Note]]) -> None:
    """Append notes to their files. What the disk does not take is dropped, and that file ends."""
    sheets: dict[_Track, list[bytes]] = {}
    for track, note in notes:
        sheets.setdefault(track, []).extend(_lines(track, note))
    for track, lines in sheets.items():
        assert track.path is not None, "only tracks that are kept have notes"
        try:
            if not track.failed:
                track.path.parent.mkdir(parents=True, exist_ok=True)
                with os.fdopen(os.open(track.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
                    file.writelines(lines)
                track.written += len(lines)
        except OSError as error:
            track.failed = True
            _log.warning("a recording could not be written", path=str(track.path), error=str(error))
        if any(track is each and note[1] == "close" for each, note in notes):
            _log.info("a recording has ended", path=str(track.path), lines=track.written, dropped=track.dropped)


def _lines(track: _Track, note: _Note) -> Iterator[bytes]:
    t, kind, opcode, data = note
    base: dict[str, Any] = {"t": round(t, 6), "socket": 0, "dir": kind}
    if kind == "open":
        started = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
        yield _line({**track.header, "recorder": "tidegate", "started": started})
        yield _line(base)
    elif kind == "close":
        yield _line({**base, "code": opcode, "reason": ""})
    elif kind == "send":
        yield _line({**base, **_message(opcode, data, sent=True)})
    else:
        for frame_opcode, payload in _frames(data):
            yield _line({**base, **_message(frame_opcode, payload, sent=False)})


def _message(opcode: int, data: bytes, *, sent: bool) -> dict[str, Any]:
    if opcode == _TEXT:
        return {"op": _TEXT, "data": redacted_text(data.decode(errors="replace"), sent=sent)}
    return {"op": opcode, "data": base64.b64encode(redacted_bytes(data)).decode()}


def _frames(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the data messages in a block of the gateway's own frames: whole ones, not masked (RFC 6455, 5.2)."""
    at = 0
    while at + 2 <= len(block):
        size, start = block[at + 1] & 0x7F, at + 2
        if size >= 126:
            start += 2 if size == 126 else 8
            size = int.from_bytes(block[at + 2 : start], "big")
        opcode = block[at] & 0x0F
        if opcode in {_TEXT, _BINARY}:
            yield opcode, block[start : start + size]
        at = start + size


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
