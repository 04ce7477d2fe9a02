"""Tidegate's own protocol, as its clients speak it (``docs/protocol.md``)."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import orjson

from loadtests.replay.desk import Command, Desk, Seat
from loadtests.replay.messages import Message, Messages
from loadtests.replay.plan import Step

__all__ = ["Native", "decode"]

_MOST_STREAMS = 256
"""In one ``resume``."""
_LATER = 500
"""Milliseconds after which a page resumes once more when the server could not do that now."""
_SILENT = frozenset({"ping", "pong", "refreshed", "disconnect"})
"""Messages that want nothing."""


def decode(payload: bytes) -> Messages:
    """Return the message of a frame. Raises :exc:`KeyError`, :exc:`TypeError` and :exc:`ValueError` at nonsense."""
    value = orjson.loads(payload)
    kind = value["type"]
    message = Message(kind, value)
    if kind == "event":
        merged, event = value.get("merged", 1), value["event"]
        return (message.at(value["generation_id"], value["epoch"], value["offset"], merged, event),)
    if kind == "publication" and value.get("epoch"):
        return (message.at(value["channel"], value["epoch"], value["offset"], value.get("merged", 1), None),)
    return (message,)


class Native:
    """One page's side of the protocol. Raises :exc:`KeyError`, :exc:`TypeError` and their like at nonsense."""

    def __init__(self, desk: Desk, seat: Seat, *, auth_message: bool, characters: Callable[[str], int | None]) -> None:
        self._desk = desk
        self._seat = seat
        self._auth_message = auth_message
        self._recorded = characters
        self._resuming = 0
        """Commands of the present reconnect that are not answered."""
        self._handlers: dict[str, Callable[[dict[str, Any], int], None]] = {
            "publication": self._publication, "reply": self._reply, "error": self._error, "gap": self._gap,
            "connected": lambda message, now: self._seat.signed_in(now),
            "token_expiring": self._expiring,
            "goaway": lambda message, now: self._seat.leave(message.get("reconnect_in_ms", 0) / 1000),
            "subscribed": self._subscribed, "moved": self._moved,
            "unsubscribed": lambda message, now: self._unsubscribed(message),
        }  # fmt: skip

    def sign_in(self, token: str) -> None:
        if self._auth_message and token:
            self._seat.send(orjson.dumps({"type": "auth", "token": token}))

    def refresh(self, token: str) -> None:
        self._send(Command("refresh", {"type": "refresh", "token": token}, 0))

    def come_back(self, now: int) -> None:
        """Ask for all that the page had."""
        self._resuming = 0
        running: dict[str, Any] = {}
        channels: dict[str, Any] = {}
        for name, stream in self._desk.streams.items():
            if stream.terminal is None:
                (running if stream.generation else channels)[name] = {"epoch": stream.epoch, "offset": stream.offset}
        names = list(running)
        for start in range(0, len(names), _MOST_STREAMS):
            some = {name: running[name] for name in names[start : start + _MOST_STREAMS]}
            self._own(Command("resume", {"type": "resume", "streams": some}, now))
        for name, position in channels.items():
            body = {"type": "subscribe", "channel": name, **(position if position["epoch"] else {})}
            self._own(Command("subscribe", body, now, told={"again": bool(position["epoch"])}))
        unsent, self._desk.unsent = self._desk.unsent, []
        for command in unsent:
            self._send(command)
        if not self._resuming:
            self._seat.caught_up(now)

    def command(self, step: Step, scheduled: int) -> None:
        """Send a recorded command with live names in it."""
        body = self._desk.names.translate(step.body)
        if step.name == "generate":
            body["idempotency_key"] = secrets.token_hex(8)  # sent again after a drop, it must attach and not double
        self._send(Command(step.name, body, scheduled, step, told={"since": scheduled}))

    def ask_end(self, name: str) -> None:
        """Subscribe to what is subscribed: the answer says how far it goes."""
        self._send(Command("position", {"type": "subscribe", "channel": name}, 0))

    def receive(self, message: Message, now: int) -> None:
        kind = message.kind
        if message.name is not None:
            stream = self._desk.streams.get(message.name)
            if stream is None:
                self._desk.stranger(message.name)
            elif self._desk.book(stream, message, now):
                self._seat.progress()
            return
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(message.value, now)
        elif kind not in _SILENT:
            self._desk.nonsense(f"a message of the unknown type {kind!s}")

    def _own(self, command: Command) -> None:
        self._resuming += 1
        self._send(command)

    def _send(self, command: Command) -> None:
        if command.kind == "ping":
            self._desk.answered.add(command.step.index if command.step else -1)
            self._seat.send(b'{"type":"ping"}')
            return
        self._desk.tally.commands += 1
        self._seat.send(orjson.dumps({**command.body, "id": self._desk.number(command)}))

    def _reply(self, message: dict[str, Any], now: int) -> None:
        command = self._desk.answer(message.get("id"), now)
        if command is None:
            return
        if command.kind == "position":
            self._end(command, message)
            return
        self._desk.compare(command, None, message)
        if command.kind == "generate":
            name = message["generation_id"]
            stream = self._desk.open(name, message["epoch"], message["offset"], command.told["since"], generation=True)
            if (characters := self._characters(command)) is not None and stream.offset == 0:
                self._desk.expect(name, characters)
        elif command.kind in {"subscribe", "subscribe_generation"}:
            self._joined(message.get("generation_id") or message["channel"], command, message)
        elif command.kind == "resume":
            for name, told in message["streams"].items():
                self._resumed(name, told)
        elif command.kind == "unsubscribe_generation" or command.kind == "unsubscribe":
            self._unsubscribed(command.body)
        elif command.kind == "refresh":
            self._desk.tally.refreshes += 1
        self._settle(command, now)

    def _characters(self, command: Command) -> int | None:
        answer = command.step.answer if command.step is not None else None
        return None if answer is None else self._recorded(str(answer.value.get("generation_id")))

    def _joined(self, name: str, command: Command, message: dict[str, Any]) -> None:
        desk = self._desk
        stream = desk.streams.get(name)
        if command.told.get("again") and stream is not None:
            desk.recovered(stream, message, message.get("top", 0))
            return
        at = message.get("epoch", ""), message.get("offset", 0)
        stream = desk.open(name, *at, command.scheduled, generation="generation_id" in message)
        stream.catch_up_to = message.get("top", 0)

    def _resumed(self, name: str, told: dict[str, Any]) -> None:
        stream = self._desk.streams.get(name)
        if stream is None or stream.terminal is not None:
            return
        if told["status"] == "gone":
            self._desk.gone(stream, told.get("code"))
            self._seat.progress()
        else:
            self._desk.recovered(stream, told, told.get("top", 0))

    def _error(self, message: dict[str, Any], now: int) -> None:
        code = message.get("code")
        if "id" not in message:
            self._desk.tally.note("errors", str(code))
            return
        command = self._desk.answer(message["id"], now)
        if command is None:
            return
        if command.kind == "position":
            self._end(command, {})
            return
        wait = message.get("retry_after_ms", _LATER if command.step is None and message.get("status") == 503 else None)
        if wait is not None and self._desk.again(command, wait / 1000, self._seat, self._send):
            self._desk.tally.note("errors", f"{command.kind}: {code}, sent again")
            return
        self._desk.compare(command, code, message)
        if command.step is None and command.kind in {"resume", "subscribe"}:
            self._desk.tally.resumes_failed += 1
        self._settle(command, now)

    def _end(self, command: Command, told: dict[str, Any]) -> None:
        name = command.body["channel"]
        if told and not told.get("already"):
            self._desk.nonsense("a subscription was over, and nobody has said so")
        self._desk.told_end(name, told.get("epoch", ""), told.get("top", told.get("offset", 0)))
        self._seat.progress()

    def _settle(self, command: Command, now: int) -> None:
        if command.step is None and command.kind != "refresh" and self._resuming:
            self._resuming -= 1
            if not self._resuming:
                self._seat.caught_up(now)
        self._seat.progress()

    def _publication(self, message: dict[str, Any], now: int) -> None:
        """One without a place: of a channel that keeps no log."""
        if message["channel"] in self._desk.streams:
            self._desk.tally.unnumbered += 1
        else:
            self._desk.stranger(message["channel"])

    def _gap(self, message: dict[str, Any], now: int) -> None:
        name = message.get("generation_id") or message["channel"]
        stream = self._desk.streams.get(name)
        if stream is None:
            return
        why = " ".join(str(message[key]) for key in ("code", "message") if message.get(key))
        if message.get("subscribed", True):
            self._desk.gap(stream, message, why)
            return
        self._desk.tally.gaps += 1
        self._desk.tally.note("gap_reasons", why)
        kind, member = ("subscribe_generation", "generation_id") if stream.generation else ("subscribe", "channel")
        self._send(Command(kind, {"type": kind, member: name}, now))

    def _expiring(self, message: dict[str, Any], now: int) -> None:
        """Refresh in good time, but not at once: of a very short token the next one is warned of as well."""
        self._seat.later(message.get("expires_in", 0) / 4, self._seat.refresh)

    def _moved(self, message: dict[str, Any], now: int) -> None:
        stream = self._desk.streams.get(message.get("generation_id") or message["channel"])
        if stream is not None and stream.offset == message["offset"]:
            stream.epoch = message["epoch"]  # From another position it would be a gap that was not announced.

    def _subscribed(self, message: dict[str, Any], now: int) -> None:
        name = message.get("generation_id") or message["channel"]
        at = message.get("epoch", ""), message.get("offset", 0)
        self._desk.open(name, *at, now, generation="generation_id" in message)

    def _unsubscribed(self, message: dict[str, Any]) -> None:
        self._desk.streams.pop(message.get("generation_id") or message["channel"], None)
