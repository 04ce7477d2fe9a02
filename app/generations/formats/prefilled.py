"""The request with which another upstream goes on: the same one, or one that gives the answer's beginning.

The beginning is the conversation's last message, of the assistant, which models go on with: Anthropic's and Ollama's as
they are, others by members of their own (``failover_preset``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from app.config import GenerationConfig
from app.generations.formats import format_of
from app.generations.formats.parameters import messages_of
from app.limits.estimate import TokenCounter

__all__ = ["body_again"]

_MOST_TOKENS = ("max_tokens", "max_completion_tokens")


def body_again(kind: GenerationConfig, input: Mapping[str, Any], upstream: str, prefix: str) -> bytes:
    """Return the body for ``upstream`` that goes on with ``prefix``, or begins where that is empty."""
    model = kind.failover_models.get(upstream)
    asked = dict(input) if model is None else {**input, "model": model}
    wire = format_of(kind.format_at(upstream), kind.fields)
    if not prefix:
        return wire.request_body(asked, kind.model)
    messages = messages_of({name: value for name, value in asked.items() if value is not None})
    asked = {name: value for name, value in asked.items() if name != "message"}
    asked |= {"messages": _begun(messages, prefix), **_rest_of(asked, prefix)}
    body = wire.request_body(asked, kind.model)
    return orjson.dumps({**orjson.loads(body), **kind.failover_preset}) if kind.failover_preset else body


def _begun(messages: list[Any], prefix: str) -> list[Any]:
    """Return the conversation with the answer's beginning, which the client may have begun itself."""
    last = messages[-1]
    if last["role"] == "assistant" and isinstance(last.get("content"), str):
        return [*messages[:-1], {**last, "content": last["content"] + prefix}]
    return [*messages, {"role": "assistant", "content": prefix}]


def _rest_of(asked: Mapping[str, Any], prefix: str) -> dict[str, int]:
    """Return the limits of tokens less those of ``prefix``."""
    limits = {name: asked[name] for name in _MOST_TOKENS if type(asked.get(name)) is int}
    if not limits:
        return {}
    counter = TokenCounter()
    counter.add(prefix)
    return {name: max(1, limit - counter.tokens) for name, limit in limits.items()}
