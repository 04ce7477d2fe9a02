"""The request of Anthropic's Messages.

What clients know from chat completions is accepted by its name there: messages of the roles ``system`` and
``developer`` become ``system``, ``stop`` becomes ``stop_sequences``, ``user`` goes into ``metadata``. The API wants
``max_tokens`` always.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import BadRequest
from app.generations.formats.parameters import (
    COUNT,
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
    system_and_rest,
    text_of,
)

__all__ = ["DEFAULT_MAX_TOKENS", "PARAMETERS", "request_body"]

DEFAULT_MAX_TOKENS = 4096
"""Asked for where the client says nothing."""


def _is_system(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(block, Mapping) for block in value))


PARAMETERS: dict[str, Parameter] = {
    "container": TEXT,
    "context_management": OBJECT,
    "max_completion_tokens": COUNT,
    "max_tokens": COUNT,
    "mcp_servers": OBJECTS,
    "metadata": OBJECT,
    "output_config": OBJECT,
    "service_tier": TEXT,
    "stop": STOP,
    "stop_sequences": STOP,
    "system": (_is_system, "a text or a list of objects"),
    "temperature": NUMBER,
    "thinking": OBJECT,
    "tool_choice": OBJECT,
    "tools": OBJECTS,
    "top_k": COUNT,
    "top_p": NUMBER,
    "user": TEXT,
}
"""What is passed on when it is not null."""


def request_body(input: Mapping[str, Any], default_model: str | None) -> bytes:
    """Return the JSON text of the upstream's request. ``input`` and errors are as for chat completions."""
    fields = present(input)
    body = checked(fields, PARAMETERS)
    system, messages = system_and_rest(messages_of(fields))
    if not messages:
        raise BadRequest("input.messages must hold more than system messages.")
    if contents := [content for content in (body.pop("system", None), *system) if content]:
        body["system"] = _system(contents)
    if (stop := body.pop("stop", None)) is not None:
        body.setdefault("stop_sequences", [stop] if isinstance(stop, str) else stop)
    if (user := body.pop("user", None)) is not None:
        body["metadata"] = {"user_id": user, **body.get("metadata", {})}
    most = body.pop("max_completion_tokens", DEFAULT_MAX_TOKENS)
    body.setdefault("max_tokens", most)
    return dumped({**named_model(fields, default_model), "messages": messages, **body, "stream": True})


def _system(contents: list[Any]) -> str | list[Any]:
    """Return one text, or blocks where one is given as blocks: they may say what to cache."""
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(contents)
    blocks: list[Any] = []
    for content in contents:
        blocks += content if isinstance(content, list) else [{"type": "text", "text": text_of(content)}]
    return blocks
