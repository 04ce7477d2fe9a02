"""The request of OpenAI's Responses API.

What clients know from chat completions is accepted by its name there: ``messages`` become ``input``, ``max_tokens``
becomes ``max_output_tokens``, ``reasoning_effort`` and ``verbosity`` go into their objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import BadRequest
from app.generations.formats.parameters import (
    CHOICE,
    COUNT,
    FLAG,
    LONG_TEXT,
    NUMBER,
    OBJECT,
    OBJECTS,
    TEXT,
    TEXTS,
    Parameter,
    checked,
    dumped,
    messages_of,
    named_model,
    present,
)

__all__ = ["PARAMETERS", "request_body"]

PARAMETERS: dict[str, Parameter] = {
    "conversation": CHOICE,
    "include": TEXTS,
    "instructions": LONG_TEXT,
    "max_completion_tokens": COUNT,
    "max_output_tokens": COUNT,
    "max_tokens": COUNT,
    "max_tool_calls": COUNT,
    "metadata": OBJECT,
    "parallel_tool_calls": FLAG,
    "previous_response_id": TEXT,
    "prompt": OBJECT,
    "prompt_cache_key": TEXT,
    "reasoning": OBJECT,
    "reasoning_effort": TEXT,
    "safety_identifier": TEXT,
    "service_tier": TEXT,
    "store": FLAG,
    "temperature": NUMBER,
    "text": OBJECT,
    "tool_choice": CHOICE,
    "tools": OBJECTS,
    "top_p": NUMBER,
    "truncation": TEXT,
    "user": TEXT,
    "verbosity": TEXT,
}
"""What is passed on when it is not null."""


def request_body(input: Mapping[str, Any], default_model: str | None) -> bytes:
    """Return the JSON text of the upstream's request. ``input`` and errors are as for chat completions.

    In place of messages ``input["input"]`` may be what the API takes: a text, or a list of items.
    """
    fields = present(input)
    items = fields.pop("input", None)
    if not (items is None or isinstance(items, str) or _are_items(items)):
        raise BadRequest("input.input must be a text or a list of objects.")
    body = checked(fields, PARAMETERS)
    for name in ("max_tokens", "max_completion_tokens"):
        if (most := body.pop(name, None)) is not None:
            body.setdefault("max_output_tokens", most)
    if (effort := body.pop("reasoning_effort", None)) is not None:
        body["reasoning"] = {"effort": effort, **body.get("reasoning", {})}
    if (verbosity := body.pop("verbosity", None)) is not None:
        body["text"] = {"verbosity": verbosity, **body.get("text", {})}
    return dumped({**named_model(fields, default_model), "input": items or messages_of(fields), **body, "stream": True})


def _are_items(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
