"""The wire formats of upstreams that stream: one line of :data:`FORMATS` for each.

A format knows how its request is written and how its answer is read, in bytes and values alone; who connects, waits
and gives up is the source's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from app.errors import UpstreamError
from app.generations.events import Event, Usage
from app.generations.formats.openai_chat import OpenAIChatDecoder
from app.generations.formats.openai_request import HEADERS, request_body
from app.generations.formats.refusals import error_from_response

__all__ = ["FORMATS", "Decoder", "Format"]


class Decoder(Protocol):
    """Reads the body of one good answer. Over all calls it returns exactly one terminal, last; it never raises."""

    model: str | None
    """Which model answers, once the upstream has said so."""
    usage: Usage | None
    """The last usage that the upstream reported, also when its event was not returned yet."""
    malformed: int
    """Events that could not be read and were skipped."""
    ended: bool
    """Whether the terminal was returned; what is fed after it has no effect."""

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that these bytes complete; any split of a body gives the same events."""

    def end(self) -> list[Event]:
        """Return what the body's end means: a failure with ``upstream_truncated`` unless the terminal had come."""


@dataclass(frozen=True, slots=True)
class Format:
    """One wire format."""

    decoder: Callable[[], Decoder]
    request_body: Callable[[Mapping[str, Any], str | None], bytes]
    """(the client's ``input``, the default model) → the request's body. Raises :exc:`~app.errors.BadRequest`."""
    error_from_response: Callable[[int, bytes], UpstreamError]
    """(a status that is not 2xx, the body or its beginning) → what a client is told."""
    headers: tuple[tuple[bytes, bytes], ...]


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "openai-chat": Format(OpenAIChatDecoder, request_body, error_from_response, HEADERS),
    }
)
"""By the name that a generation's kind gives as its ``format``."""
