"""The client's side of one generation, without a socket: what to send on a fresh connection, what an answer means.

Before the gateway answered, a fresh connection repeats the ``generate`` with the same idempotency key, which attaches
to the running generation if there is one. From then on it sends ``resume`` with the last position. What arrives twice
is dropped by offset, a hole is an error, and the end's receipt is compared with the text that was received.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any

__all__ = ["Conversation", "ConversationFailed", "End"]

_GENERATE, _RESUME, _CANCEL = 1, 2, 3
_TERMINALS = frozenset({"completed", "failed", "cancelled"})


class ConversationFailed(Exception):
    """The gateway refused, or broke its promise. The text is for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class End:
    """How it ended. ``proven`` says that the receipt is that of the text; ``why`` is empty for a plain completion."""

    status: str
    why: str
    characters: int
    proven: bool


class Conversation:
    """One question and its answer."""

    def __init__(self, message: str, model: str | None = None, kind: str = "chat") -> None:
        self.end: End | None = None
        self.reconnect_delay: float | None = None
        """Seconds that the gateway asked for, when it said that it goes away."""
        self._input: dict[str, Any] = {"message": message} | ({"model": model} if model else {})
        self._kind = kind
        self._idempotency_key = secrets.token_hex(16)
        self._generation_id: str | None = None
        self._epoch = ""
        self._offset = 0
        self._text: list[str] = []

    def opening(self) -> str:
        """Return the command that a fresh connection begins with."""
        if self._generation_id is None:
            command = {
                "type": "generate",
                "id": _GENERATE,
                "kind": self._kind,
                "input": self._input,
                "idempotency_key": self._idempotency_key,
            }
        else:
            position = {"epoch": self._epoch, "offset": self._offset}
            command = {"type": "resume", "id": _RESUME, "streams": {self._generation_id: position}}
        return json.dumps(command)

    def cancel(self) -> str | None:
        """Return the command that ends the generation, None while there is none."""
        if self._generation_id is None:
            return None
        return json.dumps({"type": "cancel", "id": _CANCEL, "generation_id": self._generation_id})

    def receive(self, frame: str | bytes) -> str:
        """Take one message and return the text to print. Raises :exc:`ConversationFailed`."""
        message = json.loads(frame)
        match message.get("type"):
            case "reply":
                return self._take_reply(message)
            case "error":
                self._take_error(message)
            case "goaway":
                self.reconnect_delay = message.get("reconnect_in_ms", 0) / 1000
            case "gap" if message.get("generation_id") == self._generation_id:
                return self._begin_again(self._epoch, 0)
            case "event" if message.get("generation_id") == self._generation_id:
                return self._take_event(message)
        return ""

    def _take_reply(self, reply: dict[str, Any]) -> str:
        if reply.get("id") == _GENERATE and self._generation_id is None:
            self._generation_id = reply["generation_id"]
            self._epoch = reply.get("epoch", "")
            self._offset = reply.get("offset", 0)
        elif reply.get("id") == _RESUME:
            stream = reply["streams"].get(self._generation_id, {})
            if stream.get("status") == "gone":
                raise ConversationFailed("The gateway no longer keeps this answer, so it cannot be resumed.")
            if not stream.get("recovered", True):
                return self._begin_again(stream.get("epoch", ""), stream.get("offset", 0))
        return ""

    def _begin_again(self, epoch: str, offset: int) -> str:
        """The gateway can't go on from our position: what follows is the answer from its beginning."""
        shown, self._text = bool(self._text), []
        self._epoch, self._offset = epoch, offset
        return "\n\n" if shown else ""

    def _take_error(self, error: dict[str, Any]) -> None:
        if error.get("id") == _CANCEL:
            return  # It ended by itself before the wish came.
        raise ConversationFailed(f"{error.get('message', 'The gateway refused.')} ({error.get('code')})")

    def _take_event(self, message: dict[str, Any]) -> str:
        offset, merged = message["offset"], message.get("merged", 1)
        if offset <= self._offset:
            return ""
        if offset - merged != self._offset:
            raise ConversationFailed(f"Events are missing: {offset - merged} came after {self._offset}.")
        self._offset = offset
        event = message["event"]
        if event["type"] == "delta" and event.get("part", "text") == "text":
            self._text.append(event["text"])
            return str(event["text"])
        if event["type"] == "reset":
            return self._begin_again(self._epoch, offset)
        if event["type"] in _TERMINALS:
            self.end = self._check(event)
        return ""

    def _check(self, terminal: dict[str, Any]) -> End:
        text = "".join(self._text)
        receipt = terminal.get("receipt", {})
        proven = (
            receipt.get("offset") == self._offset
            and receipt.get("characters") == len(text)
            and receipt.get("sha256") == hashlib.sha256(text.encode()).hexdigest()
        )
        why = {"failed": terminal.get("message", ""), "cancelled": f"by {terminal.get('by', 'somebody')}"}
        return End(terminal["type"], why.get(terminal["type"], ""), len(text), proven)
