"""One virtual user: plays the steps of the plan, on as many pages as the recording has."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

from loadtests.replay.books import Stream
from loadtests.replay.correlation import Names
from loadtests.replay.plan import Step
from loadtests.replay.rest import Rest
from loadtests.replay.run import Run, microseconds
from loadtests.replay.tab import Tab

__all__ = ["User"]

_ENDS = 5.0
"""Seconds for which the last messages of a channel are waited for."""
_LOOK = 0.02
_BREAK_AGAIN = 0.25
"""Seconds after which a user whose sockets were all closed when they were to be broken is looked at again."""
_PATIENCE = 30.0
"""Seconds that a step waits for the answers that it needs, beyond its time."""


class User:
    """``number`` is its own among all processes' users."""

    def __init__(self, run: Run, number: int, rest: Rest | None) -> None:
        self._run = run
        self._number = number
        self._rest = rest
        self._news = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self.stopping = False
        self.tabs: list[Tab] = []

    def stop(self) -> None:
        """Begin nothing new; what runs may end."""
        self.stopping = True
        self._news.set()

    def drop(self) -> bool:
        """Break all its sockets; return whether there was one."""
        broken = [tab.drop() for tab in self.tabs]
        return any(broken)

    async def play(self) -> None:
        """Play the recording; again and again, if that was asked for, until stopped."""
        tally = self._run.tally
        tally.users += 1
        breaking = asyncio.get_running_loop().create_task(self._break_forever())
        try:
            while True:
                await self._play_once()
                if not self._run.options.loop or self.stopping or any(tab.dead for tab in self.tabs):
                    break
        finally:
            breaking.cancel()
        tally.finished_users += 1

    async def _break_forever(self) -> None:
        """Break its sockets about that often, however many it has had meanwhile: a recording may have short ones."""
        every = self._run.options.drop_every
        while every is not None:
            await asyncio.sleep(every * random.uniform(0.5, 1.5))
            while not self.drop():  # noqa: ASYNC110
                await asyncio.sleep(_BREAK_AGAIN)

    async def _play_once(self) -> None:
        run = self._run
        names, answered = Names(), set[int]()
        if run.options.mapping == "each":
            names.live.update(_channels(run, self._number))
        self.tabs = [Tab(run, self._number, names, answered, self._news.set) for _ in range(max(1, run.plan.tabs))]
        start = microseconds()
        try:
            for step in run.plan.steps:
                if not await self._due(step, start, names, answered):
                    break
                if step.kind == "close" or step.name == "unsubscribe":
                    await self._compare_ends([self.tabs[step.tab]])
                self._act(step, start, names, answered)
            for tab in self.tabs if self.stopping else ():
                tab.see_the_end()
            await self._wait(self._quiet, run.options.settle)
            await self._compare_ends(self.tabs)
            self._unfinished(names)
        finally:
            for task in self._calls:
                task.cancel()
            await asyncio.gather(*self._calls, *(tab.close() for tab in self.tabs), return_exceptions=True)

    async def _due(self, step: Step, start: int, names: Names, answered: set[int]) -> bool:
        """Wait until a step's time has come; False: the user is to stop, or can't go on."""
        options = self._run.options
        if options.pace == "recorded" and not await self._sleep(self._scheduled(step, start)):
            return False
        ending = step.kind in {"close", "drop"}
        waits = set(step.needs) if options.pace == "recorded" and not ending else step.needs | step.after
        ends = step.ends if ending or options.pace != "recorded" else set()

        def ready() -> bool:
            return waits <= answered and all(self._ended(names.live.get(name, name)) for name in ends)

        patience = options.settle if ending else _PATIENCE
        if not await self._wait(ready, patience) and not self.stopping:
            self._run.tally.note("divergences", f"{step.name or step.kind} waited in vain for what it follows")
        if options.pace == "gated" and not await self._sleep(microseconds() + int(step.think / options.speed * 1e6)):
            return False
        return not self.stopping and not all(tab.dead for tab in self.tabs)

    def _scheduled(self, step: Step, start: int) -> int:
        return start + int(step.t / self._run.options.speed * 1_000_000)

    def _act(self, step: Step, start: int, names: Names, answered: set[int]) -> None:
        now = microseconds()
        scheduled = self._scheduled(step, start) if self._run.options.pace == "recorded" else now
        tab = self.tabs[step.tab]
        if step.kind == "open":
            tab.open(anew=not step.body)
        elif step.kind in {"close", "drop"}:
            tab.hang_up(politely=step.kind == "close")
        elif step.kind == "call":
            if self._rest is None:
                answered.add(step.index)
                return
            call = self._rest.call(step, names, self._number, scheduled, answered, self._news.set)
            task = asyncio.get_running_loop().create_task(call)
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        else:
            tab.command(step, scheduled)

    def _ended(self, name: str) -> bool:
        """Return whether a stream has ended on every page that has it, and one has."""
        found = [stream for tab in self.tabs if (stream := tab.desk.streams.get(name)) is not None]
        had = found or any(name in tab.desk.known for tab in self.tabs)  # a page that began anew remembers none
        return bool(had) and all(stream.terminal is not None for stream in found)

    def _quiet(self) -> bool:
        """Return whether nothing is to come any more."""
        return not self._calls and all(tab.dead or not tab.desk.owed for tab in self.tabs)

    async def _compare_ends(self, tabs: list[Tab]) -> None:
        """Compare how far the channels of some pages have come with what the server and other users say."""
        channels = [(tab, name, each) for tab in tabs if tab.wanted for name, each in tab.desk.channels()]
        if not channels:
            return
        within = min(_ENDS, self._run.options.settle)
        with contextlib.ExitStack() as stack:
            for tab in tabs:
                stack.enter_context(tab.at_rest())
            await self._wait(lambda: all(tab.ready or tab.dead for tab, _, _ in channels), within)
            for tab, name, stream in channels:
                if tab.ready:
                    tab.ask_end(name, stream)
            await self._wait(lambda: not any(stream.asked for _, _, stream in channels), within)
            lasts = self._lasts([(name, stream) for _, name, stream in channels])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    while any(stream.offset < last for stream, last in lasts):  # noqa: ASYNC110
                        await asyncio.sleep(_LOOK)
        for stream, last in lasts:
            stream.ends_at(last)
        self._run.tally.ends_checked += len(lasts)
        self._run.tally.ends_unchecked += len(channels) - len(lasts)

    def _lasts(self, channels: list[tuple[str, Stream]]) -> list[tuple[Stream, int]]:
        """Return the last offsets of channels, of those where anybody knows them."""
        ends, now = self._run.ends, microseconds()
        told = [(stream, (stream.last, ends.top(name, stream, now))) for name, stream in channels]
        return [(stream, max(each or 0 for each in both)) for stream, both in told if both != (None, None)]

    def _unfinished(self, names: Names) -> None:
        """Count what should have come."""
        recorded = {live: name for name, live in names.live.items()}
        plan, tally = self._run.plan, self._run.tally
        for tab in self.tabs:
            tally.unanswered += sum(command.step is not None for command in tab.desk.waiting.values())
            for name, stream in tab.desk.streams.items():
                known = plan.streams.get(recorded.get(name, name))
                if stream.generation and stream.terminal is None and (known is None or known.terminal):
                    tally.unfinished += 1

    async def _sleep(self, until: int) -> bool:
        """Sleep until a time; False: stopped meanwhile."""
        if (left := until - microseconds()) > 0:
            await self._wait(lambda: self.stopping, left / 1e6)
        return not self.stopping

    async def _wait(self, wanted: Callable[[], bool], within: float) -> bool:
        """Wait until something is so; False: it was not, in time."""
        if wanted():
            return True
        try:
            async with asyncio.timeout(within):
                while not wanted():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return wanted()
        return True


def _channels(run: Run, number: int) -> dict[str, str]:
    """Return the recorded channels, each with its name for this user."""
    bodies = [step.body for step in run.plan.steps if step.kind == "command"]
    channels = {str(body["channel"]) for body in bodies if isinstance(body, dict) and body.get("channel")}
    return {name: f"{name}-{number}" for name in channels if not name.startswith("gen:")}
