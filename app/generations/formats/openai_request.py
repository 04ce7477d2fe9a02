"""The request of OpenAI's chat completions, built from what a client sent as a generation's ``input``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.generations.formats.parameters import (
    CHOICE,
    COUNT,
    FLAG,
    INTEGER,
    NUMBER,
    OBJECT,
    OBJECTS,
    STOP,
    TEXT,
    Parameter,
    checked,
    dumped,
    messages_of,
    named_model,
    present,
)

__all__ = ["PARAMETERS", "request_body"]

PARAMETERS: dict[str, Parameter] = {
    "frequency_penalty": NUMBER,
    "function_call": CHOICE,
    "functions": OBJECTS,
    "logit_bias": OBJECT,
    "max_completion_tokens": COUNT,
    "max_tokens": COUNT,
    "metadata": OBJECT,
    "min_p": NUMBER,
    "min_tokens": COUNT,
    "parallel_tool_calls": FLAG,
    "presence_penalty": NUMBER,
    "prompt_cache_key": TEXT,
    "reasoning": OBJECT,
    "reasoning_effort": TEXT,
    "repetition_penalty": NUMBER,
    "response_format": OBJECT,
    "safety_identifier": TEXT,
    "seed": INTEGER,
    "service_tier": TEXT,
    "session_id": TEXT,
    "stop": STOP,
    "temperature": NUMBER,
    "tool_choice": CHOICE,
    "tools": OBJECTS,
    "top_k": INTEGER,
    "top_p": NUMBER,
    "user": TEXT,
    "verbosity": TEXT,
}
"""What is passed on when it is not null."""


def request_body(input: Mapping[str, Any], default_model: str | None) -> bytes:
    """Return the JSON text of the upstream's request, which always asks for a stream with its usage.

    ``input`` holds either ``message``, a text, or ``messages``, a list of objects that each have a ``role``; at will
    ``model`` (else ``default_model``, else none is asked for) and :data:`PARAMETERS`. Null means absent. ``stream`` and
    ``stream_options`` are accepted and have no effect. Raises :exc:`~app.errors.BadRequest`, which names the field.
    """
    fields = present(input)
    body = {**named_model(fields, default_model), "messages": messages_of(fields), **checked(fields, PARAMETERS)}
    return dumped({**body, "stream": True, "stream_options": {"include_usage": True}})
