"""Chat completions as the ``input`` for Ollama."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import BadRequest
from app.generations.formats.parameters import text_of
from app.generations.formats.served.request_parts import function_of, image_of, is_picture, known

__all__ = ["ollama_input"]

_OLLAMA = frozenset(
    {
        "frequency_penalty",
        "max_completion_tokens",
        "max_tokens",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)


def ollama_input(messages: list[dict[str, Any]], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``input``. Raises :exc:`~app.errors.BadRequest`."""
    taken = known(fields, _OLLAMA)
    wanted, choice = taken.pop("response_format", None), taken.pop("tool_choice", None)
    if choice == "none":
        taken.pop("tools", None)
    elif choice is not None:
        raise BadRequest("tool_choice must be auto or none for the upstream of this model.")
    if wanted is not None:
        taken["format"] = _ollama_format(wanted)
    if fields.get("reasoning_effort") in ("low", "medium", "high"):
        taken["think"] = fields["reasoning_effort"]
    names = {
        id_: function_of(call, index)[0]
        for index, message in enumerate(messages)
        for call in message.get("tool_calls") or []
        if isinstance(id_ := call.get("id"), str)
    }
    return {"messages": [_ollama_message(each, at, names) for at, each in enumerate(messages)], **taken}


def _ollama_message(message: dict[str, Any], index: int, names: Mapping[str, str]) -> dict[str, Any]:
    role, content = message["role"], message.get("content")
    result: dict[str, Any] = {"role": "system" if role == "developer" else role, "content": text_of(content)}
    if role == "tool":
        name = names.get(str(message.get("tool_call_id")))
        return {**result, "tool_name": name} if name else result
    if images := [
        _ollama_image(part, index) for part in (content if isinstance(content, list) else []) if is_picture(part)
    ]:
        result["images"] = images
    if calls := message.get("tool_calls"):
        functions = [function_of(call, index) for call in calls]
        result["tool_calls"] = [{"function": {"name": name, "arguments": given}} for name, given in functions]
    return result


def _ollama_image(part: dict[str, Any], index: int) -> str:
    _, data, _ = image_of(part, index)
    if not data:
        raise BadRequest(f"messages[{index}].content must hold images as data: for the upstream of this model.")
    return data


def _ollama_format(wanted: Any) -> Any:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        return "json"
    schema = wanted.get("json_schema") if kind == "json_schema" else None
    if isinstance(schema, dict) and isinstance(schema.get("schema"), dict):
        return schema["schema"]
    raise BadRequest("response_format must be text, json_object or json_schema.")
