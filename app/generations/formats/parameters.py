"""What clients may ask of a text model, checked by name: the parts that the request builders of all families share.

A client's ``input`` is not passed on as it is: it could ask for several choices, of which one would be read, or for no
stream at all. So each field is known by name and checked, and an unknown one is an error that names it, for a misspelt
parameter that is dropped in silence is found by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from app.errors import BadRequest

__all__ = [
    "CHOICE",
    "COUNT",
    "FLAG",
    "INTEGER",
    "LONG_TEXT",
    "NUMBER",
    "OBJECT",
    "OBJECTS",
    "STOP",
    "TEXT",
    "TEXTS",
    "Parameter",
    "checked",
    "described",
    "dumped",
    "messages_of",
    "named_model",
    "present",
    "system_and_rest",
    "text_of",
]

_IGNORED = {"stream", "stream_options"}
"""Accepted, without effect: a stream with its usage is always asked for."""
_OWN = {"message", "messages", "model"}
_SYSTEM = {"system", "developer"}

Parameter = tuple[Callable[[Any], bool], str]
"""A check, and the words for what passes it. Ranges are the upstream's matter."""


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


def _is_long_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


INTEGER: Parameter = (_is_integer, "a whole number")
COUNT: Parameter = (_is_count, "a whole number of 1 or more")
NUMBER: Parameter = (_is_number, "a number")
FLAG: Parameter = (_is_flag, "true or false")
TEXT: Parameter = (_is_text, "a text of at most 1024 characters")
LONG_TEXT: Parameter = (_is_long_text, "a text")
OBJECT: Parameter = (_is_object, "an object")
OBJECTS: Parameter = (_are_objects, "a list of objects")
STOP: Parameter = (_is_stop, "a text or a list of texts")
CHOICE: Parameter = (_is_choice, "a text or an object")
TEXTS: Parameter = (_are_texts, "a list of texts")


_SCHEMAS: Mapping[str, dict[str, Any]] = {
    INTEGER[1]: {"type": "integer", "exclusiveMinimum": -(2**53), "exclusiveMaximum": 2**53},
    COUNT[1]: {"type": "integer", "minimum": 1, "exclusiveMaximum": 2**53},
    NUMBER[1]: {"type": "number", "exclusiveMinimum": -1e9, "exclusiveMaximum": 1e9},
    FLAG[1]: {"type": "boolean"},
    TEXT[1]: {"type": "string", "maxLength": 1024},
    LONG_TEXT[1]: {"type": "string"},
    OBJECT[1]: {"type": "object"},
    OBJECTS[1]: {"type": "array", "items": {"type": "object"}},
    STOP[1]: {"anyOf": [{"type": "string", "maxLength": 1024},
                        {"type": "array", "items": {"type": "string", "maxLength": 1024}}]},
    CHOICE[1]: {"anyOf": [{"type": "string", "maxLength": 1024}, {"type": "object"}]},
    TEXTS[1]: {"type": "array", "items": {"type": "string", "maxLength": 1024}},
}  # fmt: skip
_MESSAGE = {"type": "object", "required": ["role"], "properties": {"role": {"type": "string"}}}
_ABSENT = {"type": "null"}


def described(parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return the JSON schema of an ``input`` of messages and these parameters: what :func:`messages_of`,
    :func:`named_model` and :func:`checked` take."""
    own: dict[str, Any] = {
        "model": {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 1024}, _ABSENT]},
        "message": {},
        "messages": {},
        **{name: {} for name in sorted(_IGNORED)},
    }
    rest = {name: {"anyOf": [_SCHEMAS[words], _ABSENT], "description": f"{words}".capitalize()}
            for name, (_, words) in sorted(parameters.items())}  # fmt: skip
    text, several = {"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": _MESSAGE}
    return {
        "type": "object",
        "properties": own | rest,
        "additionalProperties": False,
        "oneOf": [
            {"required": ["message"], "properties": {"message": text, "messages": _ABSENT}},
            {"required": ["messages"], "properties": {"messages": several, "message": _ABSENT}},
        ],
    }


def present(input: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a client gave: null means absent."""
    return {name: value for name, value in input.items() if value is not None and name not in _IGNORED}


def named_model(fields: Mapping[str, Any], default: str | None) -> dict[str, Any]:
    """Return ``{"model": …}``, or nothing where none is named. Raises :exc:`~app.errors.BadRequest`."""
    model = fields.get("model", default)
    if model is None:
        return {}
    if not _is_text(model) or not model:
        raise BadRequest("input.model must be a text of 1 to 1024 characters.")
    return {"model": model}


def messages_of(fields: Mapping[str, Any]) -> list[Any]:
    """Return the messages: ``messages``, or one of the user's with ``message``. Raises ``BadRequest``."""
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


def system_and_rest(messages: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return the contents of system and developer messages, and the other messages: some families part the two."""
    system = [message.get("content") for message in messages if message["role"] in _SYSTEM]
    return system, [message for message in messages if message["role"] not in _SYSTEM]


def text_of(content: Any) -> str:
    """Return the text of a message's content, which is a text or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str))


def checked(
    fields: Mapping[str, Any], parameters: Mapping[str, Parameter], own: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return the fields that are ``parameters``, each checked; ``own`` are fields that the builder reads itself.

    Raises :exc:`~app.errors.BadRequest`, which names the field.
    """
    body: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _OWN or name in own:
            continue
        if name not in parameters:
            raise BadRequest(f"input.{name[:64]} is not a known parameter.")
        check, words = parameters[name]
        if not check(value):
            raise BadRequest(f"input.{name} must be {words}.")
        body[name] = value
    return body


def dumped(body: Mapping[str, Any]) -> bytes:
    """Return the body's JSON text. Raises :exc:`~app.errors.BadRequest`."""
    try:
        return orjson.dumps(body)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise BadRequest("input is nested too deeply, or holds what JSON cannot.") from error
