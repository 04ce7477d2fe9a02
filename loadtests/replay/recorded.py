"""How recorded messages are read, whatever their protocol. Pure."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import orjson

__all__ = ["event_of", "has_position", "json_of", "line_of", "messages_of", "prompt_of", "push_kind", "resumes"]


def prompt_of(value: dict[str, Any]) -> str:
    """Return the last thing that a user has said: of a command's ``input`` or an upstream's request."""
    for name in ("message", "prompt"):
        if isinstance(value.get(name), str):
            return str(value[name])
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return ""
    content = messages[-1].get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def messages_of(data: str | bytes) -> Iterator[Any]:
    """Yield the JSON values of a frame, one a line; what is no JSON is left out."""
    for line in data.split("\n") if isinstance(data, str) else ():
        if line.strip():
            value = json_of(line)
            if value is not None:
                yield value


def json_of(data: str | bytes) -> Any:
    """Return a JSON value; None where it is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def resumes(message: Any) -> bool:
    """Return whether a message goes on from where an earlier socket was."""
    if not isinstance(message, dict):
        return False
    if message.get("type") == "resume":
        return True
    bodies = [message, message.get("subscribe"), *((message.get("connect") or {}).get("subs") or {}).values()]
    return any(has_position(body) for body in bodies if isinstance(body, dict))


def has_position(body: dict[str, Any]) -> bool:
    """Return whether a command names a position."""
    return bool(body.get("offset"))


def push_kind(message: dict[str, Any]) -> str:
    """Return which sort of message of the Centrifuge protocol this is."""
    push = message.get("push")
    return next((key for key in push if key != "channel"), "push") if isinstance(push, dict) else "reply"


def event_of(message: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return a generation's event with the name of its stream, in either protocol."""
    if message.get("type") == "event" and isinstance(message.get("event"), dict):
        return str(message.get("generation_id")), message["event"]
    push = message.get("push")
    if isinstance(push, dict) and isinstance(push.get("pub"), dict) and isinstance(push["pub"].get("data"), dict):
        return str(push.get("channel")), push["pub"]["data"]
    return None


def line_of(event: dict[str, Any], files: MutableMapping[str, str]) -> dict[str, Any] | None:
    """Return an event as an upstream tells it that speaks JSON lines (`docs/formats.md`); None: it tells no such thing.

    ``files`` are the texts of the stream's files, which are kept up to date.
    """
    kind = event.get("type")
    if kind == "delta":
        part = event.get("part", "text")
        return {part: event.get("text", "")} if part in {"text", "reasoning"} else None
    if kind == "progress":
        return {"progress": {name: event[name] for name in ("stage", "step", "total", "percent") if name in event}}
    if kind in {"preview", "artifact"}:
        shown = event.get("url") or event.get("data") or ""
        return {kind: shown, "mime": event.get("mime"), "index": event.get("index", 0)} if shown else None
    if kind not in {"set", "patch"}:
        return None
    path, before = str(event.get("path", "")), files.get(str(event.get("path", "")), "")
    at = event.get("from", 0)
    new = event.get("text", "") if kind == "set" else None
    text = before[:at] + event.get("ins", "") + before[at + event.get("del", 0) :] if new is None else new
    files[path] = text
    more = kind == "patch" and at == len(before) and not event.get("del")
    return {"file": {"path": path, **({"append": event.get("ins", "")} if more else {"text": text})}}
