"""Makes of a recording the steps of a virtual user. Pure.

What a client does by itself on every socket is no step: signing in, refreshing, answering pings, resuming after a
reconnect. The page of the replay does that by itself, at its own times. All else is a step, with its recorded answer
and with what it waits for: the commands whose answers hold a name that it uses, and, for gated pace, all that the
recorded client had been told before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from loadtests.replay.correlation import texts
from loadtests.replay.recorded import (
    event_of,
    has_position,
    json_of,
    line_of,
    messages_of,
    prompt_of,
    push_kind,
    resumes,
)
from loadtests.session_format import Closed, Frame, Opened, Request, Response, Session

__all__ = ["Answer", "Plan", "Recorded", "Step", "make_plan"]

Kind = Literal["open", "close", "drop", "command", "raw", "call"]
_POLITE = {None, 1000, 1001, 1005}
_TERMINALS = {"completed", "failed", "cancelled"}
_OWN = {"native": {"auth", "refresh", "resume"}, "centrifuge": {"connect", "refresh", "sub_refresh"}}
"""Commands that a page sends by itself."""


@dataclass(slots=True)
class Answer:
    """A recorded answer: the whole message, and the code of its error."""

    value: Any
    error: str | None


@dataclass(slots=True)
class Step:
    """``t`` in recorded seconds; ``body`` is a command's JSON, a raw message, or a REST call."""

    index: int
    t: float
    kind: Kind
    tab: int = 0
    body: Any = None
    name: str = ""
    """The command's."""
    answer: Answer | None = None
    answered: float | None = None
    needs: set[int] = field(default_factory=set)
    """Steps in whose answers a name of this one stands."""
    after: set[int] = field(default_factory=set)
    """Steps that were answered before this one was sent."""
    ends: set[str] = field(default_factory=set)
    """Streams, by their recorded names, that had ended before."""
    think: float = 0.0
    """Recorded seconds between the last thing that it followed and itself."""


@dataclass(slots=True)
class Recorded:
    """The server's side of one recorded generation."""

    asked: float
    """When the client asked."""
    prompt: str
    kind: str = "chat"
    lines: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """Of other kinds than chats: seconds after that, and what an upstream would say as a line of JSON."""
    files: dict[str, str] = field(default_factory=dict)
    """Their texts, as far as they have come."""
    tokens: list[tuple[float, str, str]] = field(default_factory=list)
    """Seconds after that, the text, and its part (``text``, ``reasoning``, ``tool``)."""
    terminal: str = ""

    @property
    def characters(self) -> int:
        return sum(len(text) for _, text, part in self.tokens if part == "text")


@dataclass(slots=True)
class Plan:
    """All steps, in order."""

    steps: list[Step]
    tabs: int
    streams: dict[str, Recorded]
    """By the recorded name."""
    connect: dict[str, Any]
    """The Centrifuge protocol's recorded ``connect``, without token and positions."""
    kinds: set[str]
    """Sorts of messages that the recorded client received."""
    duration: float
    auth_message: bool = False
    """Whether the recorded client signed in by a message."""


def make_plan(session: Session) -> Plan:
    """Return the plan of a session."""
    return _Maker(session).make()


class _Maker:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._protocol = session.header.protocol
        self._plan = Plan([], 0, {}, {}, set(), session.duration)
        self._tabs: dict[int, int] = {}
        """The tab of each socket."""
        self._free: list[int] = []
        self._asked: dict[tuple[int, Any], Step] = {}
        """By socket and id."""
        self._calls: dict[str, Step] = {}
        self._sources: dict[str, int] = {}
        """The step in whose answer a name stood first."""
        self._ended: dict[str, float] = {}
        self._last = 0.0
        """When the last step was."""

    def make(self) -> Plan:
        for record in self._session.records:
            if isinstance(record, Opened):
                self._open(record.t, record.socket)
            elif isinstance(record, Closed):
                self._close(record)
            elif isinstance(record, Request):
                step = self._step(record.t, "call", 0, record, f"{record.method} {record.url}")
                self._require(step, [record.url, json_of(record.body), dict(record.headers)])
                self._calls[record.id] = step
            elif isinstance(record, Response):
                self._response(record)
            elif record.direction == "send":
                self._send(record)
            else:
                self._receive(record)
        return self._plan

    def _step(self, t: float, kind: Kind, tab: int, body: Any = None, name: str = "") -> Step:
        step = Step(len(self._plan.steps), t, kind, tab, body, name)
        self._plan.steps.append(step)
        told = [each for each in self._plan.steps[:-1] if each.answered is not None and each.answered <= t]
        step.after = {each.index for each in told}
        step.ends = set(self._ended)
        before = [self._last, *(each.answered or 0.0 for each in told), *self._ended.values()]
        step.think = max(0.0, t - max(before))
        self._last = t
        return step

    def _require(self, step: Step, value: Any) -> None:
        step.needs |= {self._sources[name] for name in texts(value, self._sources)}

    def _open(self, t: float, socket: int) -> int:
        if socket in self._tabs:
            return self._tabs[socket]
        if self._free:
            tab = self._free.pop()
        else:
            tab = self._plan.tabs
            self._plan.tabs += 1
        self._tabs[socket] = tab
        self._step(t, "open", tab, body=self._goes_on(socket))
        return tab

    def _goes_on(self, socket: int) -> bool:
        """Return whether a socket takes up what an earlier one had: a reconnect, and no new page."""
        frames = (
            each for each in self._session.records
            if isinstance(each, Frame) and each.socket == socket and each.direction == "send"
        )  # fmt: skip
        return any(resumes(message) for each in frames for message in messages_of(each.data))

    def _close(self, record: Closed) -> None:
        if record.socket in self._tabs:
            tab = self._tabs[record.socket]
            self._free.append(tab)
            self._step(record.t, "close" if record.code in _POLITE else "drop", tab)

    def _send(self, record: Frame) -> None:
        tab = self._open(record.t, record.socket)
        if record.op not in {1, 2}:
            return
        if self._protocol == "raw" or record.op == 2:
            step = self._step(record.t, "raw", tab, (record.op, record.data))
            self._require(step, json_of(record.data))
            return
        for message in messages_of(record.data):
            if isinstance(message, dict):
                self._command(record, tab, message)

    def _command(self, record: Frame, tab: int, message: dict[str, Any]) -> None:
        if self._protocol == "native":
            name, body = str(message.get("type")), {key: each for key, each in message.items() if key != "id"}
        else:
            name = next((key for key in message if key != "id"), "")
            body = message.get(name) or {}
        self._plan.auth_message = self._plan.auth_message or name == "auth"
        if name == "connect" and self._protocol == "centrifuge" and not self._plan.connect:
            self._plan.connect = {key: each for key, each in body.items() if key not in {"token", "subs"}}
        if (
            not name
            or name in _OWN[self._protocol]
            or (name == "subscribe" and has_position(body) and self._again(tab))
        ):
            return
        step = self._step(record.t, "command", tab, body, name)
        self._require(step, body)
        self._asked[record.socket, message.get("id")] = step

    def _again(self, tab: int) -> bool:
        """Return whether a tab was open before its present socket."""
        return sum(step.kind == "open" and step.tab == tab for step in self._plan.steps) > 1

    def _receive(self, record: Frame) -> None:
        self._open(record.t, record.socket)
        if self._protocol == "raw" or record.op != 1:
            return
        for message in messages_of(record.data):
            if not isinstance(message, dict):
                continue
            kind = str(message.get("type")) if self._protocol == "native" else push_kind(message)
            self._plan.kinds.add(kind)
            if (step := self._asked.get((record.socket, message.get("id")))) is not None and step.answer is None:
                self._answer(step, record.t, message)
            elif (found := event_of(message)) is not None:
                self._event(record.t, *found)

    def _answer(self, step: Step, t: float, message: dict[str, Any]) -> None:
        if message.get("type") == "error":
            error: str | None = str(message.get("code"))
        else:
            error = str(message["error"].get("code")) if isinstance(message.get("error"), dict) else None
        step.answer, step.answered = Answer(message, error), t
        for name in texts(message):
            self._sources.setdefault(name, step.index)
        started = message if self._protocol == "native" else (message.get("rpc") or {}).get("data") or {}
        body = step.body if self._protocol == "native" else step.body.get("data") or {}
        if error is None and "generate" in {step.name, step.body.get("method")}:
            stream = started.get("generation_id") if self._protocol == "native" else started.get("channel")
            recorded = Recorded(step.t, prompt_of(body.get("input") or {}), str(body.get("kind", "chat")))
            self._plan.streams.setdefault(str(stream), recorded)

    def _event(self, t: float, name: str, event: dict[str, Any]) -> None:
        stream = self._plan.streams.get(name)
        kind = event.get("type")
        if stream is not None and kind == "delta":
            stream.tokens.append((t - stream.asked, str(event.get("text", "")), str(event.get("part", "text"))))
        if stream is not None and stream.kind != "chat" and (line := line_of(event, stream.files)) is not None:
            stream.lines.append((t - stream.asked, line))
        if stream is not None and kind == "reset":
            stream.tokens.clear()
            stream.lines.clear()
            stream.files.clear()
        if kind in _TERMINALS:
            self._ended[name] = t
            if stream is not None:
                stream.terminal = str(kind)

    def _response(self, record: Response) -> None:
        if (step := self._calls.get(record.id)) is not None:
            value = json_of(record.body)
            step.answer, step.answered = Answer(value, str(record.status)), record.t
            for name in texts(value):
                self._sources.setdefault(name, step.index)
