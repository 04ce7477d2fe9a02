"""A request of OpenAI's Responses, brought to the form of chat completions.

Source: OpenAI's API reference and the types of its Python library (``response_create_params.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import BadRequest
from app.generations.formats.parameters import text_of

__all__ = ["asked_of", "chat_body", "messages_of_input", "partial_images_of", "prompt_of"]

_SAME = (
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "temperature",
    "top_p",
    "user",
)
_ECHOED = (
    "background",
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "reasoning",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
)
_KNOWN = frozenset(
    {
        *_SAME,
        *_ECHOED,
        "generate",
        "include",
        "input",
        "max_tool_calls",
        "model",
        "prompt_cache_retention",
        "stream",
        "stream_id",
        "stream_options",
        "type",
    }
)
_NOT_KNOWN_YET = {"conversation", "prompt", "top_logprobs", "context_management", "moderation"}


def chat_body(body: Mapping[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the body of chat completions for ``messages``, the whole conversation without its instructions.

    Raises :exc:`~app.errors.BadRequest`, whose message begins with the field.
    """
    for name, value in body.items():
        if name not in _KNOWN and value is not None and not (name == "top_logprobs" and value == 0):
            raise BadRequest(
                f"{name[:64]} is not served here." if name in _NOT_KNOWN_YET else f"{name[:64]} is unknown."
            )
    chat = {name: body[name] for name in _SAME if body.get(name) is not None}
    if (most := body.get("max_output_tokens")) is not None:
        chat["max_completion_tokens"] = most
    if (effort := _member(body, "reasoning").get("effort")) is not None:
        chat["reasoning_effort"] = effort
    text = _member(body, "text")
    if text.get("verbosity") is not None:
        chat["verbosity"] = text["verbosity"]
    if text.get("format") is not None:
        chat["response_format"] = _format(text["format"])
    if tools := body.get("tools"):
        chat["tools"] = _tools(tools)
    if (choice := body.get("tool_choice")) is not None:
        chat["tool_choice"] = _choice(choice)
    instructions = body.get("instructions")
    if not (instructions is None or isinstance(instructions, str)):
        raise BadRequest("instructions must be a text.")
    first = [{"role": "system", "content": instructions}] if instructions else []
    return {**chat, "messages": [*first, *messages]}


def asked_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a request that its response repeats."""
    return {name: body[name] for name in _ECHOED if body.get(name) is not None}


def messages_of_input(value: Any) -> list[dict[str, Any]]:
    """Return an ``input``, a text or a list of items, as messages. Raises :exc:`~app.errors.BadRequest`."""
    if isinstance(value, str) and value:
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise BadRequest("input must be a text or a list of items that is not empty.")
    messages: list[dict[str, Any]] = []
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise BadRequest(f"input[{index}] must be an object.")
        _add(messages, item, index)
    if not messages:
        raise BadRequest("input holds no message.")
    return messages


def prompt_of(messages: list[dict[str, Any]]) -> str:
    """Return what an image is to show: the text of the last message."""
    return text_of(messages[-1].get("content"))


def partial_images_of(body: Mapping[str, Any]) -> int:
    """Return how many looks at an image before it is done the request's tool asks for."""
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else []:
        if isinstance(tool, dict) and type(tool.get("partial_images")) is int:
            return int(tool["partial_images"])
    return 0


def _add(messages: list[dict[str, Any]], item: dict[str, Any], index: int) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        role = item.get("role")
        if not isinstance(role, str):
            raise BadRequest(f"input[{index}] must have a role.")
        messages.append({"role": role, "content": _content(item.get("content"), index)})
    elif kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        if messages and messages[-1]["role"] == "assistant":
            messages[-1] = {**messages[-1], "tool_calls": [*messages[-1].get("tool_calls", []), call]}
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif kind == "function_call_output":
        output = item.get("output")
        text = output if isinstance(output, str) else text_of(output)
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
    elif kind != "reasoning":
        raise BadRequest(f"input[{index}] is of a type that is not served here.")


def _content(content: Any, index: int) -> Any:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"input[{index}].content must be a text or a list of parts.")
    return [_part(part, index) for part in content]


def _part(part: Any, index: int) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text", "text", "refusal"):
        return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    raise BadRequest(f"input[{index}].content holds a part that is not served here.")


def _tools(tools: Any) -> list[dict[str, Any]]:
    if not isinstance(tools, list):
        raise BadRequest("tools must be a list.")
    functions = []
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise BadRequest(f"tools[{index}] must be a function: others run at OpenAI, not here.")
        named = ("name", "description", "parameters", "strict")
        function = {name: tool[name] for name in named if tool.get(name) is not None}
        functions.append({"type": "function", "function": function})
    return functions


def _choice(choice: Any) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function" and "name" in choice:
        return {"type": "function", "function": {"name": choice["name"]}}
    return choice


def _format(wanted: Any) -> Any:
    if not isinstance(wanted, dict):
        raise BadRequest("text.format must be an object.")
    if wanted.get("type") != "json_schema":
        return wanted
    schema = {name: value for name, value in wanted.items() if name != "type" and value is not None}
    return {"type": "json_schema", "json_schema": schema}


def _member(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if not (value is None or isinstance(value, dict)):
        raise BadRequest(f"{name} must be an object.")
    return value or {}
