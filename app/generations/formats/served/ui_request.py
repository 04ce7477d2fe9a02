"""The request of a chat of Vercel's AI SDK, brought to the form of chat completions.

Source: the AI SDK's ``DefaultChatTransport`` and its ``ui-messages.ts``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from app.errors import BadRequest

__all__ = ["CHAT_ID", "LONGEST_CHAT_ID", "chat_id_of", "ui_messages"]

LONGEST_CHAT_ID = 256
CHAT_ID = r"^[A-Za-z0-9][A-Za-z0-9._~:@+-]*$"
"""What may stand in a path, and is read by nobody on the way in another way."""


def chat_id_of(value: Any) -> str:
    """Return a chat's id. Raises :exc:`~app.errors.BadRequest`."""
    if not isinstance(value, str) or len(value) > LONGEST_CHAT_ID or not re.fullmatch(CHAT_ID[1:-1], value):
        raise BadRequest(
            f"id must be 1 to {LONGEST_CHAT_ID} letters, digits and . _ ~ : @ + -, a letter or digit first."
        )
    return value


def ui_messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the messages, which have ``parts``, as those of chat completions.

    Texts and files are said; calls of tools with what came of them become calls and their results; what was reasoned,
    sources and data are the client's own. Raises :exc:`~app.errors.BadRequest`.
    """
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise BadRequest("messages must be a list that is not empty.")
    messages: list[dict[str, Any]] = []
    for index, message in enumerate(given):
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant"):
            raise BadRequest(f"messages[{index}] must have the role system, user or assistant.")
        parts = message.get("parts")
        if not isinstance(parts, list) or not all(_is_part(part) for part in parts):
            raise BadRequest(f"messages[{index}].parts must be a list of objects with a type.")
        messages += _assistant(parts) if message["role"] == "assistant" else [_spoken(message["role"], parts, index)]
    if not any(message["role"] in ("system", "user") for message in given):
        raise BadRequest("messages must hold one of a user, or of the system.")
    return messages


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("type"), str) and isinstance(part.get("text", ""), str)


def _spoken(role: str, parts: list[dict[str, Any]], index: int) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    for part in parts:
        if part.get("type") == "text":
            content.append({"type": "text", "text": str(part.get("text") or "")})
        elif part.get("type") == "file":
            if not str(part.get("mediaType")).startswith("image/"):
                raise BadRequest(f"messages[{index}].parts holds a file that is no image.")
            content.append({"type": "image_url", "image_url": {"url": part.get("url")}})
    if all(part["type"] == "text" for part in content):
        return {"role": role, "content": "".join(part["text"] for part in content)}
    return {"role": role, "content": content}


def _assistant(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what was said and called, step by step: results come between the calls and what was said after them."""
    messages: list[dict[str, Any]] = []
    text, calls, results = "", list[dict[str, Any]](), list[dict[str, Any]]()
    for part in [*parts, {"type": "step-start"}]:
        kind = str(part.get("type"))
        if kind == "step-start" or (kind == "text" and calls):
            if text or calls:
                said: dict[str, Any] = {"role": "assistant", "content": text or None}
                messages += [said | ({"tool_calls": calls} if calls else {}), *results]
            text, calls, results = "", [], []
        if kind == "text":
            text += str(part.get("text") or "")
        elif kind.startswith("tool-") or kind == "dynamic-tool":
            result = _result(part)
            if result is not None:  # A call that nobody answered would be refused by most models.
                calls.append(_call(part, kind))
                results.append(result)
    return messages


def _call(part: Mapping[str, Any], kind: str) -> dict[str, Any]:
    name = part.get("toolName") if kind == "dynamic-tool" else kind.removeprefix("tool-")
    function = {"name": name, "arguments": _dumped(part.get("input"))}
    return {"id": part.get("toolCallId"), "type": "function", "function": function}


def _result(part: Mapping[str, Any]) -> dict[str, Any] | None:
    match part.get("state"):
        case "output-available":
            output = part.get("output")
            content = output if isinstance(output, str) else _dumped(output)
        case "output-error":
            content = str(part.get("errorText") or "The tool failed.")
        case _:
            return None
    return {"role": "tool", "tool_call_id": part.get("toolCallId"), "content": content}


def _dumped(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise BadRequest("messages are nested too deeply.") from error
