"""The Centrifuge client protocol, its JSON flavour, as its SDKs speak it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import orjson

from loadtests.replay.desk import Command, Desk, Seat
from loadtests.replay.messages import Message, Messages
from loadtests.replay.plan import Step

__all__ = ["Centrifuge", "decode"]

_GENERATION = "gen:"
_RETRY = 0.5
"""Seconds until a command is sent again whose error is temporary."""
_RESUBSCRIBE = 2500
"""From this code on an ``unsubscribe`` push wants to be followed by a subscription."""


def decode(payload: bytes) -> Messages:
    """Return the messages of a frame, one a line. Raises :exc:`KeyError` and its like at nonsense."""
    return tuple(_message(line) for line in payload.split(b"\n") if line)


def _message(line: bytes) -> Message:
    if line == b"{}":
        return Message("ping", None)
    value = orjson.loads(line)
    push = value.get("push")
    if push is None:
        return Message("reply", value)
    if "pub" not in push:
        return Message("push", push)
    return _placed(push["channel"], push["pub"])


def _placed(name: str, publication: dict[str, Any]) -> Message:
    """Return a publication as a message, with its place if it has one."""
    message = Message("publication", publication)
    offset = publication.get("offset")
    if not offset:
        message.value = name
        return message
    tags, data = publication.get("tags"), publication.get("data")
    merged = int(tags.get("merged", 1)) if tags else 1
    event = data if name.startswith(_GENERATION) and isinstance(data, dict) else None
    return message.at(name, publication.get("epoch") or "", offset, merged, event)


class Centrifuge:
    """One page's side of the protocol. Raises :exc:`KeyError`, :exc:`TypeError` and their like at nonsense."""

    def __init__(
        self,
        desk: Desk,
        seat: Seat,
        *,
        connect: dict[str, Any],
        channel_token: Callable[[str], str],
        characters: Callable[[str], int | None],
    ) -> None:
        self._desk = desk
        self._seat = seat
        self._connect = connect
        self._channel_token = channel_token
        self._recorded = characters
        self._resuming = 0
        self._subscribes: dict[str, dict[str, Any]] = {}
        """What each channel was subscribed with, for the next socket; the server's own have none."""
        self._pongs = False

    def sign_in(self, token: str) -> None:
        positions = {
            name: {"recover": True, "epoch": stream.epoch, "offset": stream.offset}
            for name, stream in self._desk.streams.items()
            if name not in self._subscribes and stream.epoch
        }
        body = {**self._connect, **({"token": token} if token else {}), **({"subs": positions} if positions else {})}
        self._write("connect", Command("connect", body, 0))

    def refresh(self, token: str) -> None:
        self._write("refresh", Command("refresh", {"token": token}, 0))

    def come_back(self, now: int) -> None:
        self._resuming = 0
        for name, body in list(self._subscribes.items()):
            stream = self._desk.streams.get(name)
            if stream is None or stream.terminal is not None:
                continue
            self._resuming += 1
            self._subscribe(name, body, now, recover=bool(stream.epoch))
        unsent, self._desk.unsent = self._desk.unsent, []
        for command in unsent:
            self._write(command.kind, command)
        if not self._resuming:
            self._seat.caught_up(now)

    def command(self, step: Step, scheduled: int) -> None:
        """Send a recorded command with live names in it."""
        body = self._desk.names.translate(step.body)
        if step.name == "rpc" and body.get("method") == "generate":
            body["data"] = {**(body.get("data") or {}), "idempotency_key": secrets.token_hex(8)}
        if "token" in body:
            body["token"] = self._channel_token(str(body.get("channel", "")))
        self._write(step.name, Command(step.name, body, scheduled, step))

    def ask_end(self, name: str) -> None:
        """Ask for no publications of the history: the answer says how far it goes."""
        self._write("history", Command("position", {"channel": name, "limit": 0}, 0))

    def receive(self, message: Message, now: int) -> None:
        if message.kind == "publication":
            self._publication(message, now)
        elif message.kind == "reply":
            self._reply(message.value, now)
        elif message.kind == "push":
            self._push(message.value, now)
        elif self._pongs:
            self._seat.send(b"{}")

    def _write(self, method: str, command: Command) -> None:
        self._desk.tally.commands += 1
        if method == "send":  # has no answer
            self._seat.send(orjson.dumps({"send": command.body}))
            self._desk.answered.add(command.step.index if command.step else -1)
            return
        self._seat.send(orjson.dumps({"id": self._desk.number(command), method: command.body}))

    def _subscribe(self, name: str, body: dict[str, Any], now: int, *, recover: bool) -> None:
        body = {key: each for key, each in body.items() if key not in {"recover", "epoch", "offset"}}
        if recover:
            stream = self._desk.streams[name]
            body |= {"recover": True, "epoch": stream.epoch, "offset": stream.offset}
        if "token" in body:
            body["token"] = self._channel_token(name)
        self._write("subscribe", Command("subscribe", body, now, told={"again": recover, "back": True}))

    def _reply(self, message: dict[str, Any], now: int) -> None:
        command = self._desk.answer(message["id"], now)
        if command is None:
            return
        error = message.get("error")
        if command.kind == "position":
            told = message.get("history") or {}
            self._desk.told_end(command.body["channel"], told.get("epoch", ""), told.get("offset", 0))
            self._seat.progress()
            return
        if error is not None:
            self._error(command, error, now)
            return
        self._desk.compare(command, None, message)
        if command.kind == "connect":
            self._connected(message["connect"], now)
        elif command.kind == "subscribe":
            self._joined(command, message["subscribe"], now)
        elif command.kind == "unsubscribe":
            self._leave(str(command.body.get("channel")))
        elif command.kind == "rpc":
            self._called(command, message["rpc"].get("data") or {})
        elif command.kind == "refresh":
            self._desk.tally.refreshes += 1
            self._renew(message["refresh"])
        self._settle(command, now)

    def _connected(self, result: dict[str, Any], now: int) -> None:
        self._pongs = bool(result.get("pong"))
        self._renew(result)
        for name, told in (result.get("subs") or {}).items():
            stream = self._desk.streams.get(name)
            if stream is not None and told.get("was_recovering"):
                self._desk.recovered(stream, {"recovered": False, **told}, 0)
            else:
                self._desk.open(name, told.get("epoch", ""), told.get("offset", 0), now, generation=False)
            for publication in told.get("publications") or ():
                self._publication(_placed(name, publication), now)
        self._seat.signed_in(now)

    def _renew(self, result: dict[str, Any]) -> None:
        if result.get("expires") and result.get("ttl"):
            self._seat.later(result["ttl"] * 0.8, self._seat.refresh)

    def _joined(self, command: Command, result: dict[str, Any], now: int) -> None:
        desk, name = self._desk, str(command.body["channel"])
        generation = name.startswith(_GENERATION)
        self._subscribes[name] = command.body
        stream = desk.streams.get(name)
        publications = result.get("publications") or ()
        top = publications[-1].get("offset", 0) if publications else 0
        if command.told.get("again") and stream is not None:
            desk.recovered(stream, {"recovered": False, **result}, top)
        else:
            since = stream.since if stream is not None else command.scheduled
            stream = desk.open(name, result.get("epoch", ""), result.get("offset", 0), since, generation=generation)
            stream.catch_up_to = top
        for publication in publications:
            self._publication(_placed(name, publication), now)

    def _called(self, command: Command, data: dict[str, Any]) -> None:
        if command.body.get("method") != "generate" or "channel" not in data:
            return
        name, answer = data["channel"], command.step.answer if command.step is not None else None
        self._desk.open(name, data.get("epoch", ""), data.get("offset", 0), command.scheduled, generation=True)
        recorded = ((answer.value.get("rpc") or {}).get("data") or {}).get("channel") if answer is not None else None
        if (characters := self._recorded(str(recorded))) is not None:
            self._desk.expect(name, characters)

    def _error(self, command: Command, error: dict[str, Any], now: int) -> None:
        code = error.get("code")
        if command.kind == "connect":
            self._seat.refused(f"connect: {code}")
            return
        if error.get("temporary") and self._desk.again(
            command, _RETRY, self._seat, lambda it: self._write(it.kind, it)
        ):
            self._desk.tally.note("errors", f"{command.kind}: {code}, sent again")
            return
        self._desk.compare(command, str(code), error)
        if command.told.get("back"):
            self._desk.tally.resumes_failed += 1
        self._settle(command, now)

    def _settle(self, command: Command, now: int) -> None:
        if command.told.get("back") and self._resuming:
            self._resuming -= 1
            if not self._resuming:
                self._seat.caught_up(now)
        self._seat.progress()

    def _publication(self, message: Message, now: int) -> None:
        desk, name = self._desk, message.name or str(message.value)
        stream = desk.streams.get(name)
        if stream is None:
            desk.stranger(name)
        elif message.name is None:
            desk.tally.unnumbered += 1
        elif desk.book(stream, message, now):
            self._seat.progress()

    def _push(self, push: dict[str, Any], now: int) -> None:
        name = str(push.get("channel", ""))
        if "unsubscribe" in push:
            body, stream = self._subscribes.get(name), self._desk.streams.get(name)
            if push["unsubscribe"].get("code", 0) >= _RESUBSCRIBE and body is not None and stream is not None:
                self._desk.tally.gaps += 1
                self._desk.tally.note("gap_reasons", f"unsubscribed with {push['unsubscribe']['code']}")
                self._subscribe(name, body, now, recover=bool(stream.epoch))
            elif stream is None or stream.terminal is None:
                self._leave(name)
        elif "subscribe" in push:
            told = push["subscribe"]
            self._desk.open(name, told.get("epoch", ""), told.get("offset", 0), now, generation=False)

    def _leave(self, name: str) -> None:
        self._desk.streams.pop(name, None)
        self._subscribes.pop(name, None)
