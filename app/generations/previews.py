"""Previews that are too large for a message: readers get a link, and fetch what they want to look at.

A picture in base 64 would be sent to every reader of the generation, before the words behind it. So the gateway keeps
the last preview of each index, for any replica to serve, for a short while. The link is a secret of the generation's
readers: an ``<img>`` sends no token. What cannot be kept is a preview that was missed; nothing else depends on one.
"""

from __future__ import annotations

import asyncio
import binascii
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from pybase64 import b64decode

from app.errors import BrokerUnavailable, NotFound
from app.generations.events import Preview
from app.generations.waiting import PAUSES
from app.observe.sampling import Sampled
from app.streams.broker import Keys

__all__ = ["PreviewShelf", "read_preview"]

_log = Sampled(__name__)
_MOST = 64
"""Indices of one generation of which a preview is kept."""
_LONGEST_MIME = 128

Start = Callable[[Coroutine[Any, Any, None], str], object]


class PreviewShelf:
    """Where one generation's previews are kept. ``inline`` is how many characters of base 64 a message may hold."""

    def __init__(self, generation_id: str, keys: Keys, start: Start, *, inline: int, ttl: float) -> None:
        """``start`` runs a task under a name; ``ttl`` is for how many seconds each preview can be fetched."""
        self._path = f"/api/v1/generations/{generation_id}/previews"
        self._id = generation_id
        self._keys = keys
        self._start = start
        self._inline = inline
        self._ttl = ttl
        self._secret = ""
        self._count = 0
        self._waiting: dict[int, bytes] = {}
        """What is to be kept next, by index: a newer one takes an older one's place."""
        self._known: set[int] = set()
        self._busy = False

    def placed(self, preview: Preview) -> Preview | None:
        """Return ``preview`` as readers get it; None for one that cannot be shown."""
        if preview.data is None or len(preview.data) <= self._inline:
            return preview
        if len(self._known) >= _MOST and preview.index not in self._known:
            return None
        try:
            content = b64decode(preview.data, validate=True)
        except (binascii.Error, ValueError):
            return None
        self._known.add(preview.index)
        self._secret = self._secret or secrets.token_urlsafe(18)
        self._count += 1
        self._waiting[preview.index] = preview.mime[:_LONGEST_MIME].encode() + b"\n" + content
        if not self._busy:
            self._busy = True
            self._start(self._keep(), "previews")
        link = f"{self._path}/{preview.index}?key={self._secret}&v={self._count}"
        return Preview(preview.index, preview.mime, url=link)

    async def _keep(self) -> None:
        try:
            while self._waiting:
                index = next(iter(self._waiting))
                value = self._waiting.pop(index)
                await self._keys.put(_name(self._id, index, self._secret), value, self._ttl)
        except BrokerUnavailable:
            self._waiting.clear()
            _log.warning("previews cannot be kept just now", generation_id=self._id)
        finally:
            self._busy = False


async def read_preview(keys: Keys, generation_id: str, index: int, secret: str) -> tuple[str, bytes]:
    """Return a preview's media type and content. Raises :exc:`~app.errors.NotFound` and ``BrokerUnavailable``."""
    name = _name(generation_id, index, secret)
    value = await keys.read(name)
    for pause in PAUSES[:-1]:  # Its link may have been faster than itself.
        if value is not None:
            break
        await asyncio.sleep(pause)
        value = await keys.read(name)
    if value is None:
        raise NotFound("There is no such preview, or it is no longer kept.")
    mime, _, content = value.partition(b"\n")
    return mime.decode(), content


def _name(generation_id: str, index: int, secret: str) -> str:
    return f"preview:{generation_id}:{index}:{secret}"
