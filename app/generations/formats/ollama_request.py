"""The requests of Ollama's ``/api/chat`` and ``/api/generate``.

What other families have beside the messages goes into ``options`` here, by Ollama's names: ``max_tokens`` is
``num_predict``, the penalties and the rest of sampling are as they are called elsewhere. The client's own ``options``
win.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import BadRequest
from app.generations.formats.parameters import (
    CHOICE,
    COUNT,
    INTEGER,
    LONG_TEXT,
    NUMBER,
    OBJECT,
    OBJECTS,
    STOP,
    Parameter,
    checked,
    dumped,
    messages_of,
    named_model,
    present,
    system_and_rest,
    text_of,
)

__all__ = ["PARAMETERS", "chat_body", "generate_body"]

_OPTIONS = {
    "frequency_penalty": "frequency_penalty",
    "max_completion_tokens": "num_predict",
    "max_tokens": "num_predict",
    "min_p": "min_p",
    "num_ctx": "num_ctx",
    "presence_penalty": "presence_penalty",
    "repetition_penalty": "repeat_penalty",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}


def _is_think(value: Any) -> bool:
    return type(value) is bool or value in ("low", "medium", "high")


def _is_duration(value: Any) -> bool:
    return type(value) in {int, float} or (isinstance(value, str) and len(value) <= 32)


PARAMETERS: dict[str, Parameter] = {
    "format": CHOICE,
    "frequency_penalty": NUMBER,
    "keep_alive": (_is_duration, "a number of seconds or a duration such as 5m"),
    "max_completion_tokens": COUNT,
    "max_tokens": COUNT,
    "min_p": NUMBER,
    "num_ctx": COUNT,
    "options": OBJECT,
    "presence_penalty": NUMBER,
    "repetition_penalty": NUMBER,
    "seed": INTEGER,
    "stop": STOP,
    "temperature": NUMBER,
    "think": (_is_think, 'true, false, "low", "medium" or "high"'),
    "tools": OBJECTS,
    "top_k": INTEGER,
    "top_p": NUMBER,
}
"""What is passed on when it is not null."""
_GENERATE = {"system": LONG_TEXT, "suffix": LONG_TEXT, "template": LONG_TEXT}


def chat_body(input: Mapping[str, Any], default_model: str | None) -> bytes:
    """Return the JSON text of a request to ``/api/chat``. ``input`` and errors are as for chat completions."""
    fields = present(input)
    body = _with_options(checked(fields, PARAMETERS))
    return dumped({**named_model(fields, default_model), "messages": messages_of(fields), **body, "stream": True})


def generate_body(input: Mapping[str, Any], default_model: str | None) -> bytes:
    """Return the JSON text of a request to ``/api/generate``, which takes one prompt and no conversation.

    ``messages`` may hold system messages and one of the user. Raises :exc:`~app.errors.BadRequest`.
    """
    fields = present(input)
    body = _with_options(checked(fields, {**PARAMETERS, **_GENERATE}))
    system, messages = system_and_rest(messages_of(fields))
    if len(messages) != 1 or not isinstance(prompt := messages[0].get("content"), str):
        raise BadRequest("input.messages must hold one message with a text beside system messages.")
    if system:
        body.setdefault("system", "\n\n".join(map(text_of, system)))
    return dumped({**named_model(fields, default_model), "prompt": prompt, **body, "stream": True})


def _with_options(body: dict[str, Any]) -> dict[str, Any]:
    options = {option: body.pop(name) for name, option in _OPTIONS.items() if name in body}
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    options |= body.pop("options", {})
    return {**body, "options": options} if options else body
