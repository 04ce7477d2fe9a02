"""The request that a chat of Vercel's AI SDK sends to its server.

The server behind it is the operator's own, so what it wants beside the messages is not known here: other fields are
passed on as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import BadRequest
from app.generations.formats.parameters import dumped, messages_of, named_model, present

__all__ = ["request_body"]

_MAX_ID = 1024


def request_body(input: Mapping[str, Any], default_model: str | None) -> bytes:
    """Return the JSON text of the request: ``id``, ``messages`` with ``parts``, ``trigger``, and all other fields.

    A message with ``content``, a text, gets it as its one part. Raises :exc:`~app.errors.BadRequest`.
    """
    fields = present(input)
    messages = [_with_parts(message, index) for index, message in enumerate(messages_of(fields))]
    chat = fields.pop("id", None) or fields.pop("session_id", None) or "chat"
    if not isinstance(chat, str) or len(chat) > _MAX_ID:
        raise BadRequest("input.id must be a text of at most 1024 characters.")
    rest = {name: value for name, value in fields.items() if name not in {"message", "messages", "model"}}
    model = named_model(fields, default_model)
    return dumped({"id": chat, "trigger": "submit-message", **rest, **model, "messages": messages})


def _with_parts(message: Mapping[str, Any], index: int) -> dict[str, Any]:
    rest = {"id": f"message-{index}", **message}
    if isinstance(message.get("parts"), list):
        return rest
    content = rest.pop("content", None)
    if not isinstance(content, str):
        raise BadRequest(f"input.messages[{index}] must have parts, or a text as content.")
    return {**rest, "parts": [{"type": "text", "text": content}]}
