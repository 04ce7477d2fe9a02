"""A request of chat completions as the ``input`` of a generation, in the words of its upstream's family.

Chat completions are what the clients of all served formats are brought to first; from there it goes to each family.
What the family has no word for is refused by name, unless it says nothing but the default, or only helps the provider
(``user``, ``metadata``): a client whose penalty is dropped in silence would not know why his answers are what they are.

Source: OpenAI's API reference, Anthropic's (*Messages*), Ollama's ``docs/api.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.errors import BadRequest
from app.generations.formats.parameters import text_of
from app.generations.formats.served.request_parts import image_of, is_picture, known
from app.generations.formats.served.to_anthropic import anthropic_input
from app.generations.formats.served.to_ollama import ollama_input
from app.generations.formats.served.to_responses import responses_input

__all__ = ["PART", "ROLES", "chat_input"]

ROLES = ("assistant", "developer", "function", "system", "tool", "user")
PART = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}
"""The JSON schema of a part of a message's content."""

_HANDLED = frozenset({"model", "stream", "stream_options", "n", "messages"})
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto",),
    "tools": ([],),
    "parallel_tool_calls": (True,),
    "verbosity": ("medium",),
}
"""What says no more than silence would."""
_NOT_FOR_OTHERS = frozenset({"store", "prediction", "prompt_cache_retention"})


def chat_input(format: str, body: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Return the ``input`` for an upstream that speaks ``format``; ``model`` None leaves it to the kind.

    ``body`` is the request's object. Raises :exc:`~app.errors.BadRequest`, whose message begins with the field.
    """
    if body.get("n") not in (None, 1):
        raise BadRequest("n must be 1: one generation is one answer.")
    messages = _messages(body)
    fields = {
        name: value
        for name, value in body.items()
        if name not in _HANDLED and value is not None and value not in _DEFAULTS.get(name, ())
    }
    translated = _FAMILIES[format](messages, fields)
    return translated if model is None else {**translated, "model": model}


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list that is not empty.")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise BadRequest(f"messages[{index}] must be an object with a role: {', '.join(ROLES)}.")
        content = message.get("content")
        if not (content is None or isinstance(content, str) or _are_parts(content)):
            raise BadRequest(f"messages[{index}].content must be a text or a list of parts, each with a type.")
        calls = message.get("tool_calls")
        if not (calls is None or (isinstance(calls, list) and all(isinstance(call, dict) for call in calls))):
            raise BadRequest(f"messages[{index}].tool_calls must be a list of objects.")
    return messages


def _are_parts(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("type"), str) for part in content
    )


def _openai(messages: list[dict[str, Any]], fields: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in fields.items() if name not in _NOT_FOR_OTHERS}
    return {"messages": messages, **rest}


def _passed_on(messages: list[dict[str, Any]], fields: dict[str, Any]) -> dict[str, Any]:
    """For services of one's own: all that was asked, with the last message's text as ``prompt``."""
    return {"prompt": text_of(messages[-1].get("content")), "messages": messages, **fields}


def _vercel(messages: list[dict[str, Any]], fields: dict[str, Any]) -> dict[str, Any]:
    known(fields, frozenset())
    return {"messages": [_vercel_message(each, at) for at, each in enumerate(messages)]}


def _vercel_message(message: dict[str, Any], index: int) -> dict[str, Any]:
    content = message.get("content")
    parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else []
    for part in content if isinstance(content, list) else []:
        if is_picture(part):
            mime, data, url = image_of(part, index)
            parts.append({"type": "file", "mediaType": mime, "url": f"data:{mime};base64,{data}" if data else url})
        else:
            parts.append({"type": "text", "text": text_of([part])})
    return {"id": f"message-{index}", "role": message["role"], "parts": parts}


_FAMILIES: Mapping[str, Callable[[list[dict[str, Any]], dict[str, Any]], dict[str, Any]]] = {
    "openai-chat": _openai,
    "openai-responses": responses_input,
    "anthropic": anthropic_input,
    "ollama": ollama_input,
    "ollama-generate": ollama_input,
    "vercel-ai": _vercel,
    "json-lines": _passed_on,
}
