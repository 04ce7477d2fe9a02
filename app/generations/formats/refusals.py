"""What an upstream says of its own failure, made fit for a client.

The text of a foreign error is neither short, nor one line, nor always meant for the public: a refused key is quoted
back by some services, a proxy in between answers with a page of HTML. So a message is taken over only from JSON of a
known shape, cleaned and bounded, with keys blotted out, and never when the gateway's own credentials were refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from app.errors import UpstreamError

__all__ = ["Refusal", "clean", "error_from_response", "refusal_of"]

MESSAGE_LENGTH = 300
"""Characters of an upstream's message that are passed on."""

_SECRET = re.compile(
    r"\b(?:sk|pk|rk|key|hf|xai|gsk)[-_][\w*.-]{6,}|\bBearer\s+\S+|\beyJ[\w-]{8,}[\w.-]*", re.IGNORECASE
)
_CREDENTIALS = "The service behind the gateway refused the gateway's request."
_UNAUTHORISED = {"invalid_api_key", "authentication_error", "permission_error", "permission_denied", "unauthorized"}
_FINAL = {
    "billing_hard_limit_reached",
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "insufficient_quota",
    "invalid_prompt",
    "invalid_request_error",
    "model_not_found",
    "not_found_error",
    "request_too_large",
}
"""Kinds (``type`` or ``code`` of an error) that come again however often one asks."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """``message`` is one line of at most 300 characters, or empty when nothing fit to be told was found."""

    message: str
    retryable: bool

    def error(self) -> UpstreamError:
        return UpstreamError(self.message or None, retryable=self.retryable)


def clean(text: str, length: int = MESSAGE_LENGTH) -> str:
    """Return ``text`` on one line: without control characters and keys, at most ``length`` characters."""
    text = "".join(character if character.isprintable() else " " for character in text[: 4 * length])
    text = _SECRET.sub("…", " ".join(text.split()))
    return text if len(text) <= length else text[: length - 1] + "…"


def refusal_of(value: Any, status: int | None = None) -> Refusal:
    """Read an error as upstreams write it; ``value`` may be any JSON.

    Known shapes: OpenAI's ``{"error": {"message", "type", "code"}}``, its inner object alone, ``{"error": "text"}``,
    ``{"message"}``, ``{"detail": "text"}``, a list that begins with one of them, or a text. Without ``status`` (an
    error in the middle of a stream) a numeric ``code`` is taken for it, and unknown kinds may be tried again: the
    request itself had been accepted.
    """
    value = value[0] if isinstance(value, list) and value else value
    if isinstance(value, dict) and value.get("error"):
        value = value["error"]
    fields: dict[str, Any] = value if isinstance(value, dict) else {"message": value}
    kinds = {kind for name in ("type", "code") if isinstance(kind := fields.get(name), str)}
    code = status or _status(fields.get("code")) or _status(fields.get("status"))
    retryable = kinds.isdisjoint(_FINAL) and (code is None or code in {408, 429} or code >= 500)
    if code in {401, 403} or not kinds.isdisjoint(_UNAUTHORISED):
        return Refusal(_CREDENTIALS, retryable=False)
    texts = (fields.get("message"), fields.get("detail"))
    message = next((clean(text) for text in texts if isinstance(text, str)), "")
    return Refusal("" if message.startswith("<") else message, retryable)


def error_from_response(status: int, body: bytes) -> UpstreamError:
    """Return the error for an answer whose ``status`` is not 2xx. ``body`` may be cut, empty, or not JSON at all."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    refusal = refusal_of(value, status)
    return Refusal(refusal.message or _describe(status), refusal.retryable).error()


def _status(value: Any) -> int | None:
    """Return a status code of 400–599 written as a number or as digits; None for everything else."""
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if type(value) is int and 400 <= value <= 599 else None


def _describe(status: int) -> str:
    return f"The service behind the gateway answered with status {status}."
