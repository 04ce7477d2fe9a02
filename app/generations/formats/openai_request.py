"""The request of OpenAI's chat completions, built from what a client sent as a generation's ``input``.

The client's object is not passed on as it is: it could ask for several choices, of which one would be read, or for no
stream at all. So each field is known by name and checked, and an unknown one is an error that names it, for a misspelt
parameter that is dropped in silence is found by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from app.errors import BadRequest

__all__ = ["HEADERS", "PARAMETERS", "request_body"]

HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"application/json"),
    (b"accept", b"text/event-stream"),
    (b"accept-encoding", b"identity"),
)
"""What every request of this format carries; the upstream's own headers, credentials above all, come on top."""

_IGNORED = {"stream", "stream_options"}
_OWN = {"message", "messages", "model"}

_Check = Callable[[Any], bool]


def _is_integer(value: Any) -> bool:
    return type(value) is int and -(2**53) < value < 2**53


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 1


def _is_number(value: Any) -> bool:
    return type(value) in {int, float} and abs(value) < 1e9


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 1024


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _is_stop(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, list) and all(map(_is_text, value)))


def _is_choice(value: Any) -> bool:
    return _is_text(value) or _is_object(value)


_NUMBER: tuple[_Check, str] = (_is_number, "a number")
_COUNT: tuple[_Check, str] = (_is_count, "a whole number of 1 or more")
_INTEGER: tuple[_Check, str] = (_is_integer, "a whole number")
_FLAG: tuple[_Check, str] = (_is_flag, "true or false")
_TEXT: tuple[_Check, str] = (_is_text, "a text of at most 1024 characters")
_OBJECT: tuple[_Check, str] = (_is_object, "an object")
_OBJECTS: tuple[_Check, str] = (_are_objects, "a list of objects")

PARAMETERS: dict[str, tuple[_Check, str]] = {
    "frequency_penalty": _NUMBER,
    "function_call": (_is_choice, "a text or an object"),
    "functions": _OBJECTS,
    "logit_bias": _OBJECT,
    "max_completion_tokens": _COUNT,
    "max_tokens": _COUNT,
    "metadata": _OBJECT,
    "min_p": _NUMBER,
    "min_tokens": _COUNT,
    "parallel_tool_calls": _FLAG,
    "presence_penalty": _NUMBER,
    "prompt_cache_key": _TEXT,
    "reasoning": _OBJECT,
    "reasoning_effort": _TEXT,
    "repetition_penalty": _NUMBER,
    "response_format": _OBJECT,
    "safety_identifier": _TEXT,
    "seed": _INTEGER,
    "service_tier": _TEXT,
    "session_id": _TEXT,
    "stop": (_is_stop, "a text or a list of texts"),
    "temperature": _NUMBER,
    "tool_choice": (_is_choice, "a text or an object"),
    "tools": _OBJECTS,
    "top_k": _INTEGER,
    "top_p": _NUMBER,
    "user": _TEXT,
    "verbosity": _TEXT,
}
"""What is passed on when it is not null: its check, and the words for an error. Ranges are the upstream's matter."""


def request_body(input: Mapping[str, Any], default_model: str | None) -> bytes:
    """Return the JSON text of the upstream's request, which always asks for a stream with its usage.

    ``input`` holds either ``message``, a text, or ``messages``, a list of objects that each have a ``role``; at will
    ``model`` (else ``default_model``, else none is asked for) and :data:`PARAMETERS`. Null means absent. ``stream`` and
    ``stream_options`` are accepted and have no effect. Raises :exc:`~app.errors.BadRequest`, which names the field.
    """
    fields = {name: value for name, value in input.items() if value is not None and name not in _IGNORED}
    body: dict[str, Any] = {}
    model = fields.get("model", default_model)
    if model is not None:
        if not _is_text(model) or not model:
            raise BadRequest("input.model must be a text of 1 to 1024 characters.")
        body["model"] = model
    body["messages"] = _messages(fields)
    for name, value in fields.items():
        if name in _OWN:
            continue
        if name not in PARAMETERS:
            raise BadRequest(f"input.{name[:64]} is not a known parameter.")
        check, words = PARAMETERS[name]
        if not check(value):
            raise BadRequest(f"input.{name} must be {words}.")
        body[name] = value
    body["stream"] = True
    body["stream_options"] = {"include_usage": True}
    try:
        return orjson.dumps(body)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise BadRequest("input is nested too deeply, or holds what JSON cannot.") from error


def _messages(fields: Mapping[str, Any]) -> list[Any]:
    message, messages = fields.get("message"), fields.get("messages")
    if (message is None) == (messages is None):
        raise BadRequest("input must hold either message or messages.")
    if message is not None:
        if not isinstance(message, str) or not message:
            raise BadRequest("input.message must be a text that is not empty.")
        return [{"role": "user", "content": message}]
    if not isinstance(messages, list) or not messages:
        raise BadRequest("input.messages must be a list that is not empty.")
    for index, item in enumerate(messages):
        if not isinstance(item, Mapping) or not isinstance(item.get("role"), str):
            raise BadRequest(f"input.messages[{index}] must be an object with a role.")
    return messages
