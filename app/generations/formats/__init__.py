"""The wire formats of upstreams that stream: one line of :data:`FORMATS` for each.

A format knows how its request is written and how its answer is read, in bytes and values alone; who connects, waits
and gives up is the source's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.errors import UpstreamError
from app.generations.formats.decoders import StreamDecoder
from app.generations.formats.openai_chat import openai_chat
from app.generations.formats.openai_request import HEADERS, request_body
from app.generations.formats.refusals import error_from_response

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True, slots=True)
class Format:
    """One wire format."""

    decoder: Callable[[], StreamDecoder]
    request_body: Callable[[Mapping[str, Any], str | None], bytes]
    """(the client's ``input``, the default model) → the request's body. Raises :exc:`~app.errors.BadRequest`."""
    error_from_response: Callable[[int, bytes], UpstreamError]
    """(a status that is not 2xx, the body or its beginning) → what a client is told."""
    headers: tuple[tuple[bytes, bytes], ...]


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "openai-chat": Format(openai_chat, request_body, error_from_response, HEADERS),
    }
)
"""By the name that a generation's kind gives as its ``format``."""
