"""Chat completions as the ``input`` for OpenAI's Responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import BadRequest
from app.generations.formats.parameters import text_of
from app.generations.formats.served.request_parts import function_of, known

__all__ = ["responses_input"]

_RESPONSES = frozenset(
    {
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "service_tier",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
        "user",
        "verbosity",
    }
)


def responses_input(messages: list[dict[str, Any]], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``input``. Raises :exc:`~app.errors.BadRequest`."""
    taken = known(fields, _RESPONSES)
    if (wanted := taken.pop("response_format", None)) is not None:
        taken["text"] = {"format": _responses_format(wanted)}
    if tools := taken.get("tools"):
        taken["tools"] = [_responses_tool(tool) for tool in tools]
    choice = taken.get("tool_choice")
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        taken["tool_choice"] = {"type": "function", "name": choice["function"].get("name")}
    items = [item for index, message in enumerate(messages) for item in _responses_items(message, index)]
    return {"input": items, **taken}


def _responses_items(message: dict[str, Any], index: int) -> list[dict[str, Any]]:
    role, content = message["role"], message.get("content")
    if role == "tool":
        return [{"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": text_of(content)}]
    items: list[dict[str, Any]] = []
    if content:
        spoken = "output_text" if role == "assistant" else "input_text"
        whole = content if isinstance(content, str) else [_responses_part(part, spoken, index) for part in content]
        items.append({"type": "message", "role": role, "content": whole})
    for call in message.get("tool_calls") or []:
        name, _ = function_of(call, index)
        named = {"name": name, "arguments": call["function"].get("arguments") or ""}
        items.append({"type": "function_call", "call_id": call.get("id"), **named})
    return items


def _responses_part(part: Any, spoken: str, index: int) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "refusal"):
        return {"type": spoken, "text": part.get("text") or part.get("refusal") or ""}
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        return {"type": "input_image", "image_url": url, "detail": "auto"}
    raise BadRequest(f"messages[{index}].content holds a part that the upstream of this model does not take.")


def _responses_tool(tool: Any) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    return {"type": "function", **function} if isinstance(function, dict) else tool


def _responses_format(wanted: Any) -> Any:
    schema = wanted.get("json_schema") if isinstance(wanted, dict) else None
    return {"type": "json_schema", **schema} if isinstance(schema, dict) else wanted
