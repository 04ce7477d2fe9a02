"""One page of a virtual user: a chain of sockets, one at a time, which it replaces as clients do."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

from loadtests.replay.books import Stream
from loadtests.replay.centrifuge import Centrifuge
from loadtests.replay.correlation import Names
from loadtests.replay.desk import Desk
from loadtests.replay.dialling import Dialler
from loadtests.replay.line import Line
from loadtests.replay.messages import Message
from loadtests.replay.native import Native
from loadtests.replay.plan import Step
from loadtests.replay.raw import Raw
from loadtests.replay.run import Run, microseconds
from loadtests.replay.tokens import TokensFailed
from loadtests.replay.wire import frame

__all__ = ["Tab"]


class Dialect(Protocol):
    """A protocol as a page speaks it."""

    def sign_in(self, token: str) -> None: ...
    def refresh(self, token: str) -> None: ...
    def come_back(self, now: int) -> None: ...
    def command(self, step: Step, scheduled: int) -> None: ...
    def receive(self, message: Message, now: int) -> None: ...
    def ask_end(self, name: str) -> None: ...


class Tab:
    """Connects when opened, and again whenever its socket is lost, until it is closed. It is its protocol's seat."""

    def __init__(self, run: Run, number: int, names: Names, answered: set[int], progress: Callable[[], None]) -> None:
        self._run = run
        self._number = number
        self._progress = progress
        self._line: Line | None = None
        self._left: Line | None = None
        """The line that the recorded client has hung up."""
        self._wanted = False
        self._dropped = False
        self._given_up = False
        self._at_rest = False
        self._signed_in = False
        self._caught_up = False
        self._reconnecting = False
        self._keeper: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._outbox: list[tuple[Step, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        user = run.tokens.user(number)
        self.desk = Desk(run.tally, names, user, run.wall, answered)
        self.received = self.desk.take
        self.nonsense = self.desk.nonsense
        run.ends.enter(self.desk)
        self._dialler = Dialler(run, number)
        self._dialect = self._speak()

    @property
    def dead(self) -> bool:
        """Whether the server has said that there is no coming back."""
        return self._given_up

    @property
    def wanted(self) -> bool:
        """Whether it is to be connected."""
        return self._wanted and not self._given_up

    @property
    def ready(self) -> bool:
        """Whether it is connected and has caught up."""
        return self._caught_up

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """Break no socket meanwhile."""
        self._at_rest = True
        try:
            yield
        finally:
            self._at_rest = False

    def ask_end(self, name: str, stream: Stream) -> None:
        """Ask the server how far a channel goes."""
        stream.asked, stream.last = True, None
        self._dialect.ask_end(name)

    def open(self, *, anew: bool) -> None:
        """Be connected from now on. ``anew``: as a page that remembers nothing."""
        if anew and self._dialler.sockets:
            self.desk.streams.clear()
            self.desk.unsent.clear()
            self._dialect = self._speak()
        if not self._wanted:
            self._wanted = True
            if self._keeper is None or self._keeper.done():
                self._keeper = self._spawn(self._keep())

    async def close(self) -> None:
        """Leave politely, and wait until all is over."""
        self._wanted = False
        if self._line is not None:
            self._line.close()
        for task in list(self._tasks):
            task.cancel()
        self._run.ends.leave(self.desk)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self) -> bool:
        """Break the socket, as a network does; return whether there was one to break."""
        if self._line is None or not self._signed_in or self._at_rest or self._line is self._left:
            return False
        self._run.tally.drops += 1
        self._run.tally.series["drops"][self._run.tally.second] += 1
        self._dropped = True
        self._line.abort()
        return True

    def hang_up(self, *, politely: bool) -> None:
        """Close or break the socket as the recorded client did, until it is opened again."""
        self._wanted = False
        self._left = self._line
        if self._line is not None:
            if politely:
                self._line.close()
            else:
                self._run.tally.drops += 1
                self._line.abort()

    def see_the_end(self) -> None:
        """Come back if something is still to come: nothing of the recording will make it do so any more."""
        if self.desk.owed:
            self.open(anew=False)

    def command(self, step: Step, scheduled: int) -> None:
        """Send a step's message now, or as soon as the page is connected."""
        if not self._caught_up:
            self._outbox.append((step, scheduled))
        elif step.kind == "raw":
            self._send_raw(step)
        else:
            self._dialect.command(step, scheduled)

    # What the protocol asks for.

    def send(self, payload: bytes) -> None:
        if self._line is not None:
            data = frame(1, payload)
            self._run.tally.bytes_out += len(data)
            self._line.write(data)

    def signed_in(self, now: int) -> None:
        if self._signed_in:
            return
        run = self._run
        self._signed_in, self._dialler.fresh = True, False
        run.tally.connected += 1
        run.tally.open += 1
        run.tally.times["connect"].add(now - self._dialler.began)
        self._dialect.come_back(now)

    def caught_up(self, now: int) -> None:
        self._caught_up, self._dialler.attempts = True, 0
        if self._reconnecting:
            self._reconnecting = False
            self._run.tally.times["reconnect"].add(now - self._dialler.began)
            self._run.tally.series["resumes"][self._run.tally.second] += 1
        outbox, self._outbox = self._outbox, []
        for step, scheduled in outbox:
            self.command(step, scheduled)

    def progress(self) -> None:
        self._progress()

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        line = self._line
        asyncio.get_running_loop().call_later(seconds, lambda: act() if self._line is line is not None else None)

    def refresh(self) -> None:
        if self._run.options.refresh:
            self._spawn(self._refresh())

    def leave(self, seconds: float) -> None:
        self.later(seconds * random.random(), self._leave)

    def refused(self, why: str) -> None:
        self._run.tally.note("refusals", why)
        self._dialler.fresh = True
        if self._line is not None:
            self._line.abort()

    # What the line tells.

    def opened(self, line: Line) -> None:
        self._line = line
        self._over = asyncio.get_running_loop().create_future()
        self.later(self._run.options.connect_timeout, self._too_late)
        self._dialect.sign_in(self._dialler.token)
        if isinstance(self._dialect, Raw):
            self.signed_in(microseconds())

    def closed(self, line: Line, code: int, reason: str) -> None:
        if line is not self._line:
            return
        tally = self._run.tally
        self._line = None
        if self._signed_in:
            tally.open -= 1
        if self._wanted and not self._dropped and line is not self._left:
            tally.lost_sockets += 1
            tally.note("close_codes", f"{code} {reason}".strip())
            self._given_up = 4500 <= code < 5000 or 3500 <= code < 4000
            self._dialler.fresh = self._dialler.fresh or code in {3005, 4401, 4501}
        self._signed_in = self._caught_up = False
        self._reconnecting = True
        self.desk.lost()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        self._progress()

    # Its own life.

    def _speak(self) -> Dialect:
        """Return the protocol, as of a page that has just been loaded."""
        dialect = self._dialect_of_the_recording()
        self.desk.receive = dialect.receive
        return dialect

    def _dialect_of_the_recording(self) -> Dialect:
        run, protocol = self._run, self._run.header.protocol
        marks = run.options.marks

        def characters(recorded: str) -> int | None:
            stream = run.plan.streams.get(recorded)
            return stream.characters if marks and stream is not None and stream.terminal == "completed" else None

        if protocol == "native":
            return Native(self.desk, self, auth_message=run.plan.auth_message, characters=characters)
        if protocol == "centrifuge":
            token = run.tokens.of_channel(self._number)
            connect = run.plan.connect
            return Centrifuge(self.desk, self, connect=connect, channel_token=token, characters=characters)
        return Raw(self.desk, self)

    async def _keep(self) -> None:
        while self._wanted and not self._given_up:
            after = await self._dialler.connect(self)
            if after is None:
                assert self._over is not None
                if not self._wanted:  # hung up while it was being opened
                    self.hang_up(politely=True)
                await self._over
                if self._dropped:
                    after = self._run.options.offline
                else:
                    after = 0.0 if self._left is not None else self._dialler.backoff()
                self._dropped, self._left = False, None
            if self._wanted:
                await asyncio.sleep(after)
        self._progress()

    def _too_late(self) -> None:
        if not self._signed_in:
            self.refused(f"not signed in within {self._run.options.connect_timeout:g} s")

    def _leave(self) -> None:
        if self._line is not None:
            self._dropped = True
            self._line.close()

    async def _refresh(self) -> None:
        try:
            self._dialect.refresh(await self._run.tokens.get(self._number, fresh=True))
        except TokensFailed as error:
            self._run.tally.note("refusals", f"no token: {error}")

    def _send_raw(self, step: Step) -> None:
        opcode, data = step.body
        data = frame(opcode, data.encode() if isinstance(data, str) else data)
        self._run.tally.bytes_out += len(data)
        self.desk.answered.add(step.index)
        if self._line is not None:
            self._line.write(data)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
