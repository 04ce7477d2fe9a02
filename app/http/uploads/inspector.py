"""What may be in an upload, decided while it passes. Pure.

A file's headers and first bytes are kept back until it is known what it is; what is given back may be sent on. So of a
file of a type that is not allowed nothing reaches the upstream. How large a file is comes out only as it comes: then
what was sent on is to be taken back, by breaking the request off.
"""

from __future__ import annotations

from app.config.uploads import UploadConfig
from app.errors import FileTooLarge, InvalidUpload, UnsupportedFile
from app.http.uploads.multipart import Data, Event, MultipartReader, Part
from app.http.uploads.sniffing import KNOWN, WINDOW, canonical, sniff

__all__ = ["Inspector", "file_type"]

_UNNAMED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""Declared types that say nothing."""
_TEXTS = frozenset({"", "application/json", "application/x-www-form-urlencoded"})
"""Types that a field without a file's name may have: some upstreams take others for files."""
_CONTAINERS = frozenset({"video/mp4", "audio/mp4", "video/webm"})
"""Types of sound and of pictures whose first bytes don't tell which: what is declared does."""
_NAMED_ONLY = frozenset({"image/svg+xml", "text/html"})
"""What no ``image/*`` or ``text/*`` lets in."""


class Inspector:
    """Checks one body by ``config``."""

    def __init__(self, config: UploadConfig, boundary: bytes) -> None:
        self._config = config
        self._reader = MultipartReader(boundary)
        self._part: Part | None = None
        self._held: bytearray | None = None
        """The first bytes of a file that is not known yet."""
        self._size = 0
        self._files = self._fields = 0

    def feed(self, data: bytes) -> bytes:
        """Return what may be sent on by now.

        Raises :exc:`~app.errors.InvalidUpload`, ``FileTooLarge`` or ``UnsupportedFile``.
        """
        events = self._reader.feed(data)
        if len(events) == 1 and type(events[0]) is Data and self._held is None:
            self._count(len(events[0].raw))  # Nearly all that comes.
            return events[0].raw
        return b"".join([self._take(event) for event in events])

    def end(self) -> None:
        """The body is over. Raises :exc:`~app.errors.InvalidUpload` where it should not be."""
        self._reader.end()

    def _take(self, event: Event) -> bytes:
        if isinstance(event, Data):
            self._count(len(event.raw))
            if self._held is None:
                return event.raw
            self._held += event.raw
            return self._decide() if len(self._held) >= WINDOW else b""
        before = self._decide()
        self._part = None
        if isinstance(event, Part):
            self._begin(event)
            if event.file is not None:
                self._held = bytearray()
                return before
        return before + event.raw

    def _begin(self, part: Part) -> None:
        config, self._part, self._size = self._config, part, 0
        if part.file is None:
            self._fields += 1
            if not (part.type in _TEXTS or part.type.startswith("text/")):
                raise UnsupportedFile("A part of this type needs a file's name.", field=part.name)
            if self._fields > config.max_fields:
                raise InvalidUpload(f"There are more than {config.max_fields} fields.", field=part.name)
            return
        self._files += 1
        if self._files > config.max_files:
            raise InvalidUpload(f"There are more than {config.max_files} files.", field=part.name)
        if config.fields and part.name not in config.fields:
            known = ", ".join(config.fields)
            raise InvalidUpload(f"No file may come in this field. Send it as one of: {known}.", field=part.name)

    def _count(self, size: int) -> None:
        part = self._part
        assert part is not None, "content belongs to a part"
        self._size += size
        most = self._config.max_field_bytes if part.file is None else self._config.max_file_bytes
        if self._size > most:
            what = "value" if part.file is None else "file"
            raise FileTooLarge(f"The {what} is larger than {most} bytes.", field=part.name)

    def _decide(self) -> bytes:
        """Return what was kept back, for its file may pass."""
        part, held = self._part, self._held
        if held is None or part is None:
            return b""
        self._held = None
        file_type(self._config, part, bytes(held[:WINDOW]))
        return part.raw + held


def file_type(config: UploadConfig, part: Part, head: bytes) -> str:
    """Return what a file is that begins with ``head``. Raises :exc:`~app.errors.UnsupportedFile`."""
    declared, found = canonical(part.type), sniff(head)
    if not head and not part.file:
        return declared or "application/octet-stream"  # A form's file field in which nothing was chosen.
    if found is None and declared in KNOWN:
        raise UnsupportedFile(f"The file is declared as {declared}, which it is not.", field=part.name)
    contained = found in _CONTAINERS and declared in _CONTAINERS and declared[-3:] == (found or "")[-3:]
    if found is not None and declared not in _UNNAMED and declared != found and not contained:
        raise UnsupportedFile(f"The file is declared as {declared[:64]}, but is {found}.", field=part.name)
    kind = found or declared or "application/octet-stream"
    named = {kind, part.type} if contained else {kind}
    if not any(_allows(config, name) for name in named):
        raise UnsupportedFile(
            f"Files of type {kind[:64]} are not taken here, only {', '.join(config.types)}.", field=part.name
        )
    return kind


def _allows(config: UploadConfig, kind: str) -> bool:
    types = {canonical(name) for name in config.types}
    return kind in types or (kind not in _NAMED_ONLY and f"{kind.partition('/')[0]}/*" in types)
