"""What a page keeps over all its sockets, whatever the protocol: streams, open commands, what belongs to whom.

No socket and no clock: times are microseconds that come in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from loadtests.replay.books import TERMINALS, Stream
from loadtests.replay.correlation import Names
from loadtests.replay.messages import Message, Messages
from loadtests.replay.plan import Step
from loadtests.replay.tally import Tally

__all__ = ["Command", "Desk", "Seat"]

_RETRIES = 5
_NONSENSE = (AttributeError, KeyError, TypeError, ValueError)
"""What a message raises that is JSON, but not what the protocol says."""


class Seat(Protocol):
    """What a protocol asks of the page that it serves."""

    def send(self, payload: bytes) -> None:
        """Send a text message; nothing happens while no socket is open."""

    def signed_in(self, now: int) -> None: ...

    def caught_up(self, now: int) -> None:
        """All that was asked for after a reconnect is answered."""

    def progress(self) -> None:
        """A command was answered, or a stream has ended."""

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something unless the socket is lost before."""

    def refresh(self) -> None:
        """The token ends soon."""

    def leave(self, seconds: float) -> None:
        """The server wants to be left, after a while."""

    def refused(self, why: str) -> None:
        """The server did not let the page in: another attempt needs another socket and a fresh token."""


@dataclass(slots=True)
class Command:
    """A command on its way. ``scheduled`` is when it should have been sent: what it waited here counts as well."""

    kind: str
    body: dict[str, Any]
    scheduled: int
    step: Step | None = None
    """None: it is the page's own, of a reconnect."""
    tries: int = 0
    told: dict[str, Any] = field(default_factory=dict)
    """What the protocol wants to know when the answer comes."""


class Desk:
    """One page's books. ``wall`` is what must be added to its times to get microseconds since 1970."""

    def __init__(self, tally: Tally, names: Names, user: str, wall: int, answered: set[int]) -> None:
        self.tally = tally
        self.names = names
        self.user = user
        self.streams: dict[str, Stream] = {}
        """By the live name."""
        self.known: set[str] = set()
        """Streams that were asked for at any time: messages of them are no leak."""
        self.waiting: dict[int, Command] = {}
        self.unsent: list[Command] = []
        """What a lost socket has left without an answer, to be sent again on the next one."""
        self.answered = answered
        """Steps, of all pages of the user."""
        self.receive: Callable[[Message, int], None] = lambda message, now: None
        """The protocol's, for all that does not just follow."""
        self._delayed: list[Command] = []
        self._wall = wall
        self._characters: dict[str, int] = {}
        self._id = 0

    def take(self, messages: Messages, now: int) -> None:
        """Book what came. What follows on a stream as it should is all done here: it is most of all that comes."""
        tally, streams = self.tally, self.streams
        tally.messages += len(messages)
        for message in messages:
            stream = streams.get(message.follows)  # type: ignore[arg-type]  # None is no name
            if (
                stream is None
                or stream.offset != message.before
                or stream.terminal is not None
                or (stream.epoch != message.epoch and message.epoch)
                or message.before < stream.catch_up_to
            ):
                self._other(message, now)
                continue
            stream.offset = message.offset
            tally.delivered += message.merged
            text = message.text
            if text is not None:
                stream.text(text)
                tally.tokens += 1
                if stream.last_token:
                    tally.gaps_between.append(now - stream.last_token)
                else:
                    tally.times["first_token"].add(now - stream.since)
                stream.last_token = now
                if message.marks:
                    self._marks(stream, message, now, live=True)

    def _other(self, message: Message, now: int) -> None:
        try:
            self.receive(message, now)
        except _NONSENSE as error:
            self.nonsense(f"a message that can't be understood: {type(error).__name__}")

    def nonsense(self, what: str) -> None:
        self.tally.note("divergences", what)

    def book(self, stream: Stream, message: Message, now: int) -> bool:
        """Take a message of a stream, whatever it is; return whether the stream has ended with it."""
        if not stream.take(message.epoch or stream.epoch, message.offset, message.merged):
            return False
        event = message.event
        if event is None or not stream.generation:
            return False
        kind = event["type"]
        if message.text is not None:
            stream.text(message.text)
            self._token(stream, message, now)
        elif kind in TERMINALS:
            stream.end(event)
            self._compare_text(message.name or "", stream)
            return True
        elif kind in {"set", "patch"}:
            stream.file(event)
        elif kind == "reset":
            stream.begin_again()
        return False

    @property
    def owed(self) -> bool:
        """Whether something is still to come: an answer, or the end of a generation."""
        open_ = any(each.terminal is None for each in self.streams.values() if each.generation)
        return bool(self.waiting or self.unsent) or open_

    def channels(self) -> list[tuple[str, Stream]]:
        """Return what is no generation and has offsets: nothing says that it has come to its end."""
        return [(name, each) for name, each in self.streams.items() if not each.generation and each.epoch]

    def told_end(self, name: str, epoch: str, offset: int) -> None:
        """Take the server's word on how far a channel goes; no epoch: it would not say."""
        stream = self.streams.get(name)
        if stream is not None:
            stream.asked = False
            if epoch == stream.epoch:
                stream.last = offset

    def number(self, command: Command) -> int:
        """Return the id that ``command`` is sent with, and wait for its answer."""
        self._id += 1
        self.waiting[self._id] = command
        return self._id

    def answer(self, id_: Any, now: int) -> Command | None:
        """Return the command that is answered by this."""
        command = self.waiting.pop(id_, None) if isinstance(id_, int) else None
        if command is None:
            self.tally.note("divergences", "an answer to no command")
            return None
        if command.step is not None:
            self.answered.add(command.step.index)
        if not command.scheduled:  # signing in and refreshing have no time of their own
            return command
        joining = command.kind in {"subscribe", "subscribe_generation", "resume"}
        self.tally.times["subscribe" if joining else "reply"].add(now - command.scheduled)
        return command

    def compare(self, command: Command, error: Any, live: Any) -> None:
        """Lay an answer beside the recorded one. ``error`` is the live one's code, None for a reply."""
        recorded = command.step.answer if command.step is not None else None
        if error is not None:
            self.tally.note("errors", f"{command.kind}: {error}")
        if recorded is None:
            return
        before = recorded.error
        if before is None and error is None:
            self.names.learn(recorded.value, live)
        elif before != error:
            say = "answered" if error is None else f"refused with {error}"
            was = "answered" if before is None else f"refused with {before}"
            self.tally.note("divergences", f"{command.kind} is {say}; recorded: {was}")

    def again(self, command: Command, seconds: float, seat: Seat, send: Callable[[Command], None]) -> bool:
        """Send a command once more in a while, because the server said so; False: it was sent often enough."""
        if command.tries >= _RETRIES:
            return False
        command.tries += 1
        if command.step is not None:
            self.answered.discard(command.step.index)
        self._delayed.append(command)

        def act() -> None:
            self._delayed.remove(command)
            send(command)

        seat.later(seconds, act)
        return True

    def lost(self) -> None:
        """The socket is gone: recorded commands without an answer are sent on the next one."""
        again = [command for command in (*self.waiting.values(), *self._delayed) if command.step is not None]
        self.unsent += [command for command in again if command.kind not in {"ping", "send"}]
        self.waiting.clear()
        self._delayed.clear()

    def open(self, name: str, epoch: str, offset: int, since: int, *, generation: bool) -> Stream:
        """Begin the books of a stream, or have known ones stand where the server says."""
        self.known.add(name)
        stream = self.streams.get(name)
        if stream is None:
            stream = self.streams[name] = Stream(self.tally, epoch, offset, since, generation=generation)
            self.tally.streams += generation
        elif (stream.epoch, stream.offset) != (epoch, offset):
            stream.stand(epoch, offset)
        return stream

    def recovered(self, stream: Stream, told: dict[str, Any], top: int) -> None:
        """Take a server's word on whether a position could be gone on from."""
        if told.get("recovered", True):
            self.tally.resumes_right += 1
            stream.epoch = told.get("epoch") or stream.epoch  # The log may go on under another one.
            stream.catch_up_to = top
            return
        self.tally.resumes_partial += 1
        self.gap(stream, told, "a resume could not go on from where the reader stood")

    def gap(self, stream: Stream, told: dict[str, Any], why: str) -> None:
        """Stand where an announced gap leaves a reader. ``why`` is the server's word on it."""
        self.tally.note("gap_reasons", why)
        epoch, offset = told.get("epoch", stream.epoch), told.get("offset", 0)
        known = max(0, offset - stream.offset) if epoch == stream.epoch else 0
        self.tally.gaps += 1
        stream.stand(epoch, offset, announced=known)

    def gone(self, stream: Stream, code: Any) -> None:
        self.tally.resumes_failed += 1
        self.tally.note("errors", f"resume: {code}")
        stream.terminal = {"type": "gone"}

    def stranger(self, name: str) -> None:
        """A message of a stream that this page has never asked for."""
        if name not in self.known:
            self.tally.leaked += 1
            self.tally.note("divergences", "a message of a stream that was not asked for")

    def _compare_text(self, name: str, stream: Stream) -> None:
        """Compare a whole text with the recorded one, as far as this is told by its length."""
        recorded = self._characters.get(name)
        whole = stream.checked and stream.terminal is not None and stream.terminal["type"] == "completed"
        if recorded is not None and whole and stream.characters != recorded:
            self.tally.note("divergences", f"a text of {stream.characters} characters; recorded: {recorded}")

    def expect(self, name: str, characters: int) -> None:
        """Say how long the text of a live stream will be, where the producer sends the recorded one."""
        self._characters[name] = characters

    def _token(self, stream: Stream, message: Message, now: int) -> None:
        tally = self.tally
        tally.tokens += 1
        live = stream.offset > stream.catch_up_to
        if not stream.last_token:
            tally.times["first_token"].add(now - stream.since)
        elif live:
            tally.gaps_between.append(now - stream.last_token)
        stream.last_token = now
        if message.marks:
            self._marks(stream, message, now, live=live)

    def _marks(self, stream: Stream, message: Message, now: int, *, live: bool) -> None:
        tally = self.tally
        for sent, user, characters in message.marks:
            stream.marks += characters
            if user and user != self.user:
                tally.leaked += 1
            if live:
                tally.ages.append(now + self._wall - sent)
