"""One page of a virtual user: a chain of sockets, one at a time, which it replaces as clients do."""

from __future__ import annotations

import asyncio
import errno
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from loadtests.replay.centrifuge import Centrifuge
from loadtests.replay.correlation import Names
from loadtests.replay.desk import Desk
from loadtests.replay.line import Address, Line, Refused, open_line
from loadtests.replay.native import Native
from loadtests.replay.options import Options
from loadtests.replay.plan import Plan, Step
from loadtests.replay.raw import Raw
from loadtests.replay.tally import Tally
from loadtests.replay.tokens import Tokens, TokensFailed
from loadtests.replay.wire import frame
from loadtests.session_format import Header

__all__ = ["Run", "Tab", "microseconds"]

_BACKOFF, _LONGEST = 0.5, 20.0
"""Seconds: full jitter up to the first, doubled by each failure, at most the second."""
_SIGNED = "bearer."
_NONSENSE = (AttributeError, KeyError, TypeError, ValueError)
"""What a message raises that is not what the protocol says (orjson's error is a ValueError)."""


class Dialect(Protocol):
    """A protocol as a page speaks it."""

    def sign_in(self, token: str) -> None: ...
    def refresh(self, token: str) -> None: ...
    def come_back(self, now: int) -> None: ...
    def command(self, step: Step, scheduled: int) -> None: ...
    def receive(self, payload: bytes, now: int) -> None: ...


@dataclass(slots=True)
class Run:
    """What all users of a process share."""

    options: Options
    header: Header
    plan: Plan
    addresses: list[Address]
    tokens: Tokens
    tally: Tally
    origin: int
    """When the run began, in microseconds of the monotonic clock."""
    wall: int
    """What makes of those microseconds since 1970."""


def microseconds() -> int:
    """Return the monotonic clock."""
    return time.monotonic_ns() // 1000


class Tab:
    """Connects when opened, and again whenever its socket is lost, until it is closed. It is its protocol's seat."""

    def __init__(self, run: Run, number: int, names: Names, answered: set[int], progress: Callable[[], None]) -> None:
        self._run = run
        self._number = number
        self._progress = progress
        self._line: Line | None = None
        self._wanted = False
        self._dropped = False
        self._given_up = False
        self._fresh = False
        """Whether the next socket needs another token."""
        self._signed_in = False
        self._caught_up = False
        self._reconnecting = False
        self._attempts = 0
        self._sockets = 0
        self._began = 0
        self._token = ""
        self._keeper: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._outbox: list[tuple[Step, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        user = run.tokens.user(number)
        self.desk = Desk(run.tally, names, user, run.wall, answered)
        share = run.options.slow.share if run.options.slow is not None else 0.0
        self._rate = run.options.slow.rate if run.options.slow is not None and _spread(number) < share else None
        self._dialect = self._speak()

    @property
    def dead(self) -> bool:
        """Whether the server has said that there is no coming back."""
        return self._given_up

    def open(self, *, anew: bool) -> None:
        """Be connected from now on. ``anew``: as a page that remembers nothing."""
        if anew and self._sockets:
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
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self) -> None:
        """Break the socket, as a network does."""
        if self._line is not None and self._signed_in:
            self._run.tally.drops += 1
            self._run.tally.series["drops"][self._run.tally.second] += 1
            self._dropped = True
            self._line.abort()

    def hang_up(self, *, politely: bool) -> None:
        """Close or break the socket as the recorded client did, until it is opened again."""
        self._wanted = False
        if self._line is not None:
            if politely:
                self._line.close()
            else:
                self._run.tally.drops += 1
                self._dropped = True
                self._line.abort()

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
        run, drop_every = self._run, self._run.options.drop_every
        self._signed_in, self._fresh = True, False
        run.tally.connected += 1
        run.tally.open += 1
        run.tally.times["connect"].add(now - self._began)
        if drop_every is not None:
            self.later(drop_every * random.uniform(0.5, 1.5), self.drop)
        self._dialect.come_back(now)

    def caught_up(self, now: int) -> None:
        self._caught_up, self._attempts = True, 0
        if self._reconnecting:
            self._reconnecting = False
            self._run.tally.times["reconnect"].add(now - self._began)
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
        self._fresh = True
        if self._line is not None:
            self._line.abort()

    # What the line tells.

    def opened(self, line: Line) -> None:
        self._line = line
        self._over = asyncio.get_running_loop().create_future()
        self.later(self._run.options.connect_timeout, self._too_late)
        self._dialect.sign_in(self._token)
        if isinstance(self._dialect, Raw):
            self.signed_in(microseconds())

    def received(self, opcode: int, payload: bytes, now: int) -> None:
        tally = self._run.tally
        tally.messages += 1
        if opcode == 2 and not isinstance(self._dialect, Raw):
            tally.note("divergences", "a binary message")
            return
        try:
            self._dialect.receive(payload, now)
        except _NONSENSE as error:
            tally.note("divergences", f"a message that can't be understood: {type(error).__name__}")

    def closed(self, line: Line, code: int, reason: str) -> None:
        if line is not self._line:
            return
        tally = self._run.tally
        self._line = None
        if self._signed_in:
            tally.open -= 1
        if self._wanted and not self._dropped:
            tally.lost_sockets += 1
            tally.note("close_codes", f"{code} {reason}".strip())
            self._given_up = 4500 <= code < 5000 or 3500 <= code < 4000
            self._fresh = self._fresh or code in {3005, 4401, 4501}
        self._signed_in = self._caught_up = False
        self._reconnecting = True
        self.desk.lost()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        self._progress()

    # Its own life.

    def _speak(self) -> Dialect:
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
            after = await self._connect()
            if after is None:
                assert self._over is not None
                await self._over
                after = self._run.options.offline if self._dropped else self._backoff()
                self._dropped = False
            if self._wanted:
                await asyncio.sleep(after)
        self._progress()

    async def _connect(self) -> float | None:
        """Try once; return the seconds until the next attempt, or None when a socket is open."""
        run, options = self._run, self._run.options
        self._began = microseconds()
        address = run.addresses[(self._number + self._sockets) % len(run.addresses)]
        self._sockets += 1
        try:
            token = self._token = await run.tokens.get(self._number, fresh=self._fresh)
            await open_line(
                self, address, token=token, subprotocols=run.header.subprotocols, headers=self._headers(token),
                rate=self._rate, within=options.connect_timeout, tally=run.tally,
            )  # fmt: skip
        except Refused as refused:
            run.tally.note("refusals", str(refused))
            return max(self._backoff(), refused.retry_after or 0.0)
        except TimeoutError:
            run.tally.note("refusals", f"no answer within {options.connect_timeout:g} s")
        except TokensFailed as error:
            run.tally.note("refusals", f"no token: {error}")
        except OSError as error:
            run.tally.note("refusals", errno.errorcode.get(error.errno or 0, type(error).__name__))
        else:
            return None
        return self._backoff()

    def _too_late(self) -> None:
        if not self._signed_in:
            self.refused(f"not signed in within {self._run.options.connect_timeout:g} s")

    def _headers(self, token: str) -> dict[str, str]:
        """Return what the handshake has beside its own. The token is there unless it goes another way."""
        run = self._run
        elsewhere = (
            run.header.protocol == "centrifuge" or run.plan.auth_message
            or any(_SIGNED in each for each in run.header.subprotocols)
        )  # fmt: skip
        own = {} if elsewhere or not token else {"Authorization": f"Bearer {token}"}
        return {**own, **run.options.headers}

    def _backoff(self) -> float:
        self._attempts += 1
        return random.uniform(0, min(_LONGEST, _BACKOFF * 2 ** min(self._attempts, 10)))

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


def _spread(number: int) -> float:
    """Return a number in [0, 1) for a user, so that any share of them is spread evenly over all."""
    return (number * 0.6180339887498949) % 1.0
