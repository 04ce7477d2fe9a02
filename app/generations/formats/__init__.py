"""The wire formats of upstreams, each a line of one of the tables below.

A format knows how its request is written and how its answer is read, in bytes and values alone; who connects, waits
and gives up is the source's matter. :data:`FORMATS` are those of one request whose answer is the stream. The others are
read from a stream that is asked for elsewhere, from a socket's frames, or from documents that are polled or posted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.errors import UpstreamError
from app.generations.formats import ollama_request, openai_request, responses_request, vercel_request
from app.generations.formats.anthropic import anthropic
from app.generations.formats.anthropic_request import request_body as anthropic_body
from app.generations.formats.automatic1111 import automatic1111
from app.generations.formats.comfyui import comfyui
from app.generations.formats.decoders import FrameDecoder, PollDecoder, StreamDecoder
from app.generations.formats.jobs import job_documents, job_events
from app.generations.formats.json_lines import json_lines
from app.generations.formats.ollama import ollama
from app.generations.formats.openai_chat import openai_chat
from app.generations.formats.openai_images import openai_images
from app.generations.formats.openai_responses import openai_responses
from app.generations.formats.parameters import described
from app.generations.formats.refusals import error_from_response
from app.generations.formats.replicate import replicate_prediction, replicate_stream
from app.generations.formats.screenshot_to_code import screenshot_to_code
from app.generations.formats.service_request import images_body, passed_on
from app.generations.formats.vercel_ai import vercel_ai

__all__ = ["FORMATS", "FRAME_DECODERS", "POLL_DECODERS", "STREAM_DECODERS", "Format", "format_of", "input_schema"]

_NO_STREAM = frozenset({b"application/json", b"text/html"})
"""What a server sends that did not understand, or a proxy in between: read as a stream it would look cut off."""
_NO_LINES = frozenset({b"text/html"})
_JSON = ((b"content-type", b"application/json"), (b"accept-encoding", b"identity"))
_SSE_HEADERS = (*_JSON, (b"accept", b"text/event-stream"))
_LINES_HEADERS = (*_JSON, (b"accept", b"application/x-ndjson, application/jsonl, application/json"))


@dataclass(frozen=True, slots=True)
class Format:
    """One wire format. ``refused`` are media types of a good answer that can't be its stream."""

    decoder: Callable[[], StreamDecoder]
    request_body: Callable[[Mapping[str, Any], str | None], bytes]
    """(the client's ``input``, the default model) → the request's body. Raises :exc:`~app.errors.BadRequest`."""
    error_from_response: Callable[[int, bytes], UpstreamError] = error_from_response
    """(a status that is not 2xx, the body or its beginning) → what a client is told."""
    headers: tuple[tuple[bytes, bytes], ...] = _SSE_HEADERS
    """What every request carries; the upstream's own headers, credentials above all, come on top and win."""
    refused: frozenset[bytes] = _NO_STREAM


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "openai-chat": Format(openai_chat, openai_request.request_body),
        "openai-responses": Format(openai_responses, responses_request.request_body),
        "anthropic": Format(anthropic, anthropic_body, headers=(*_SSE_HEADERS, (b"anthropic-version", b"2023-06-01"))),
        "ollama": Format(ollama, ollama_request.chat_body, headers=_LINES_HEADERS, refused=_NO_LINES),
        "ollama-generate": Format(ollama, ollama_request.generate_body, headers=_LINES_HEADERS, refused=_NO_LINES),
        "vercel-ai": Format(vercel_ai, vercel_request.request_body),
        "openai-images": Format(openai_images, images_body),
    }
)
"""By the name that a generation's kind gives as its ``format``; ``json-lines`` is made by :func:`format_of`."""

STREAM_DECODERS: Mapping[str, Callable[[], StreamDecoder]] = MappingProxyType(
    {**{name: wire.decoder for name, wire in FORMATS.items()}, "replicate": replicate_stream, "jobs": job_events}
)
"""All that read a body, by name."""

FRAME_DECODERS: Mapping[str, Callable[[], FrameDecoder]] = MappingProxyType(
    {"comfyui": comfyui, "screenshot-to-code": screenshot_to_code}
)
"""All that read a socket's frames, by name."""

POLL_DECODERS: Mapping[str, Callable[[], PollDecoder]] = MappingProxyType(
    {"automatic1111": automatic1111, "replicate": replicate_prediction, "jobs": job_documents}
)
"""All that read a job's document, by name."""


def format_of(name: str, fields: Mapping[str, str]) -> Format:
    """Return the format of a generation's kind; ``fields`` say where things stand in ``json-lines``."""
    if name != "json-lines":
        return FORMATS[name]
    return Format(lambda: json_lines(fields), passed_on, headers=_LINES_HEADERS, refused=_NO_LINES)


def input_schema(name: str) -> dict[str, Any] | None:
    """Return the JSON schema of the ``input`` of kinds of this format; None where it is the upstream's matter."""
    return described(openai_request.PARAMETERS) if name == "openai-chat" else None
