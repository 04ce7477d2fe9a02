"""Chat completions as the ``input`` for Anthropic's Messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import BadRequest
from app.generations.formats.parameters import text_of
from app.generations.formats.served.request_parts import function_of, image_of, known

__all__ = ["anthropic_input"]

_ANTHROPIC = frozenset(
    {
        "max_completion_tokens",
        "max_tokens",
        "parallel_tool_calls",
        "stop",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
        "user",
    }
)


def anthropic_input(messages: list[dict[str, Any]], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``input``. Raises :exc:`~app.errors.BadRequest`."""
    taken = known(fields, _ANTHROPIC)
    tools, choice = taken.pop("tools", None), taken.pop("tool_choice", None)
    alone = taken.pop("parallel_tool_calls", True) is False
    result = {"messages": _joined([_anthropic_message(each, at) for at, each in enumerate(messages)]), **taken}
    if tools and choice != "none":
        result["tools"] = [_anthropic_tool(tool, at) for at, tool in enumerate(tools)]
        if choice is not None or alone:
            result["tool_choice"] = _anthropic_choice(choice or "auto")
            if alone:
                result["tool_choice"]["disable_parallel_tool_use"] = True
    return result


def _anthropic_message(message: dict[str, Any], index: int) -> dict[str, Any]:
    role, content = message["role"], message.get("content")
    if role in ("system", "developer"):
        return {"role": "system", "content": text_of(content)}
    if role in ("tool", "function"):
        id_ = message.get("tool_call_id") or message.get("name")
        return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id_, "content": text_of(content)}]}
    calls = [_anthropic_call(call, index) for call in message.get("tool_calls") or []]
    if isinstance(content, str) and not calls:
        return {"role": role, "content": content}
    parts = [{"type": "text", "text": content}] if isinstance(content, str) and content else content
    blocks = [_anthropic_part(part, index) for part in parts or []]
    return {"role": role, "content": [*blocks, *calls]}


def _joined(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of calls that were made together are one message in this family."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        last = joined[-1] if joined else {}
        both = isinstance(message["content"], list) and isinstance(last.get("content"), list)
        if both and message["role"] == last.get("role") == "user":
            last["content"] = [*last["content"], *message["content"]]
        else:
            joined.append(message)
    return joined


def _anthropic_part(part: Any, index: int) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "refusal"):
        return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
    if kind == "image_url":
        mime, data, url = image_of(part, index)
        source = {"type": "base64", "media_type": mime, "data": data} if data else {"type": "url", "url": url}
        return {"type": "image", "source": source}
    raise BadRequest(f"messages[{index}].content holds a part that the upstream of this model does not take.")


def _anthropic_call(call: dict[str, Any], index: int) -> dict[str, Any]:
    name, arguments = function_of(call, index)
    return {"type": "tool_use", "id": call.get("id"), "name": name, "input": arguments}


def _anthropic_tool(tool: Any, index: int) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise BadRequest(f"tools[{index}] must be a function for the upstream of this model.")
    given = {"name": function.get("name"), "input_schema": function.get("parameters") or {"type": "object"}}
    description = function.get("description")
    return given if description is None else {**given, "description": description}


def _anthropic_choice(choice: Any) -> dict[str, Any]:
    if isinstance(choice, str) and choice in ("auto", "required"):
        return {"type": "auto" if choice == "auto" else "any"}
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise BadRequest("tool_choice must be auto, none, required, or name a function.")
    return {"type": "tool", "name": name}
