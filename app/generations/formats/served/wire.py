"""What all served formats have in common: how an event is read, and how a failure is told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from app.errors import NotFound, PermissionDenied, RateLimited, TidegateError, Unauthenticated, UpstreamTruncated
from app.generations.event_json import encode, is_reset
from app.generations.events import Failed

__all__ = [
    "Failure",
    "Wire",
    "failure_of",
    "json_string",
    "loaded",
    "openai_error",
    "reason_of",
    "sse",
    "status_of",
    "unforgotten",
]

_TEXT = b'{"type":"delta","text":'
_OTHER_PARTS = (b'","part":"reasoning"}', b'","part":"tool"}')
_FIELD = re.compile(r"(?:input\.)?([a-z_]+(?:\[\d+\])?(?:\.[a-z_]+)*)(?=[\s:,])")
_STARTED = b'{"type":"started",'
_BEGUN_ANEW = encode(
    Failed(
        UpstreamTruncated.code,
        "The service behind the gateway stopped before it was done, and another one began anew. Ask again.",
        retryable=True,
    )
)
_CANCELLED = "The generation was cancelled."
_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})
_SHORTENED = frozenset({"budget", "max_tokens", "partial"})


class Wire(Protocol):
    """One reader's answer in a served format, with the state that the format needs."""

    def take(self, data: bytes) -> bytes:
        """Return what is sent for one event, its JSON text; empty where the format has no word for it."""


def unforgotten(items: Iterable[bytes], *, said: bool) -> list[bytes]:
    """Return events for a reader whose format has no word for *forget that*.

    Where he has some of what is void by now (``said``), his answer ends as failed; else it is left out.
    """
    items = list(items)
    last = next((at for at in reversed(range(len(items))) if is_reset(items[at])), None)
    if last is None:
        return items
    if said:
        first = next(at for at, item in enumerate(items) if is_reset(item))
        return [*items[:first], _BEGUN_ANEW]
    return [*(item for item in items[:last] if item.startswith(_STARTED)), *items[last + 1 :]]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a generation has no proper end."""

    code: str
    message: str
    retryable: bool


def json_string(data: bytes) -> bytes | None:
    """Return the JSON string of a ``text`` delta's text, ready to be sent on; None for every other event.

    Nearly all events are such: they are not read and written again for each reader.
    """
    if not data.startswith(_TEXT) or data.endswith(_OTHER_PARTS):
        return None
    return data[len(_TEXT) : -1]


def sse(data: bytes) -> bytes:
    """Return a server-sent event without a name."""
    return b"data: " + data + b"\n\n"


def failure_of(terminal: Mapping[str, Any]) -> Failure:
    """Return what went wrong in a ``failed`` or ``cancelled`` event."""
    if terminal.get("type") == "cancelled":
        return Failure("cancelled", _CANCELLED, retryable=False)
    return Failure(str(terminal.get("code")), str(terminal.get("message")), bool(terminal.get("retryable")))


def reason_of(terminal: Mapping[str, Any]) -> str:
    """Return a ``completed`` event's reason in the words of chat completions."""
    reason = terminal.get("reason")
    if reason in _REASONS:
        return str(reason)
    return "length" if reason in _SHORTENED else "stop"


def status_of(code: str) -> int:
    """Return the HTTP status of an error's code; 409 for a generation that somebody cancelled."""
    if code == "cancelled":
        return 409
    return _STATUSES.get(code, 500)


def openai_error(error: TidegateError | Failure, *, code: str | None = None) -> dict[str, Any]:
    """Return an error in OpenAI's form, ``{"message", "type", "param", "code"}``.

    ``code`` is ours unless given; ``param`` is the field that the message of a bad request begins with.
    """
    named = _FIELD.match(error.message) if error.code == "bad_request" else None
    param = None if named is None else named[1]
    return {"message": error.message, "type": _type_of(error), "param": param, "code": code or error.code}


def _type_of(error: TidegateError | Failure) -> str:
    if isinstance(error, Unauthenticated):
        return "authentication_error"
    if isinstance(error, PermissionDenied):
        return "permission_error"
    if isinstance(error, RateLimited) or status_of(error.code) == 429:
        return "rate_limit_error"
    if isinstance(error, NotFound) or not error.retryable:
        return "invalid_request_error"
    return "server_error"


def _tree(error: type[TidegateError]) -> dict[str, int]:
    found = {error.code: error.status}
    for below in error.__subclasses__():
        found |= _tree(below)
    return found


_STATUSES = _tree(TidegateError)


def loaded(data: bytes) -> dict[str, Any]:
    """Return an event's object; empty for what is none."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
