"""The slots that one process holds, for all that it counts by them: sockets, and requests and generations at once.

One task talks to the shared count, one step at a time, each with all that has come up meanwhile: so a storm costs a few
round trips, and nothing overtakes. Whenever it is not sure any more what the count has of this process (Redis did not
answer, or has forgotten it) the process enters anew with all that it holds. What is there stays, even where there is
then more than the limit allows: nobody new gets in until it is less. While Redis does not answer a process decides
alone: by its own slots, or by refusing all, as whoever asks says.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from app.errors import BrokerUnavailable
from app.streams.slots import Claim, Slots

__all__ = ["SlotKeeper", "WithoutRedis"]

_log = structlog.get_logger(__name__)

WithoutRedis = Literal["open", "closed"]
"""What is done while the shared count is away: ``open`` decides by this process's own slots, ``closed`` refuses."""

_RETRY = 0.5
"""Seconds between two attempts to reach a count that is away."""
_AT_ONCE = 256
"""Wishes that one step carries."""
_RENEWALS = 3
"""How often what is held is renewed within its time to live."""
_TURNS = 8
"""Turns of the loop in which an answer that has arrived by then is taken."""


@dataclass(slots=True, eq=False)
class _Wish:
    claims: Sequence[Claim]
    answer: asyncio.Future[str]
    """The subject that has no slot left; empty when they were taken."""


class SlotKeeper:
    """What this process holds. ``slots`` are its own among those of all processes, ``ttl`` is theirs in seconds."""

    def __init__(self, slots: Slots, *, ttl: float) -> None:
        self._slots = slots
        self._ttl = ttl
        self._held: Counter[str] = Counter()
        self._freed: Counter[str] = Counter()
        """Not held any more; the shared count is still to be told."""
        self._wishes: deque[_Wish] = deque()
        self._news = asyncio.Event()
        self._wanted = asyncio.Event()
        self._incarnation = ""
        self._certain = False
        """Whether the shared count has what is held here, but for ``_freed``."""
        self._away = False
        self._step_began = 0.0

    @property
    def away(self) -> bool:
        """Whether the shared count does not answer."""
        return self._away

    def prepare(self) -> None:
        """Slots will be asked for: let :meth:`run` reach the count already."""
        self._wanted.set()

    async def take(self, claims: Sequence[Claim], *, patience: float, without_redis: WithoutRedis) -> str:
        """Take a slot of each subject and return nothing; or take none, and return the subject that had none left.

        After ``patience`` seconds without an answer the count is away. Raises
        :exc:`~app.errors.BrokerUnavailable` where nothing may be taken then.
        """
        if self._away:
            return self._alone(claims, without_redis)
        self._wanted.set()
        wish = _Wish(claims, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        self._news.set()
        try:
            await self._wait(wish.answer, patience)
        except asyncio.CancelledError:
            taken = wish.answer.done() and not wish.answer.cancelled() and not wish.answer.result()
            wish.answer.cancel()
            if taken:
                self.release(subject for subject, _ in claims)
            raise
        if wish.answer.cancelled() or wish.answer.cancel():
            self._suspect()
            return self._alone(claims, without_redis)
        return wish.answer.result()

    def release(self, subjects: Iterable[str]) -> None:
        """Free a slot of each."""
        for subject in subjects:
            self._drop(subject)
            self._freed[subject] += 1
            self._news.set()

    async def run(self) -> None:
        """Keep the shared count, until cancelled. Nobody is asked before somebody wants a slot."""
        await self._wanted.wait()
        loop = asyncio.get_running_loop()
        renewal = loop.time()
        while True:
            try:
                await self._turn()
                if loop.time() >= renewal:
                    if self._certain and not await self._renew():
                        self._certain = False
                    renewal = loop.time() + self._ttl / _RENEWALS
            except BrokerUnavailable:
                self._lose()
                await asyncio.sleep(_RETRY)
                continue
            if self._away:
                self._away = False
                _log.info("slots are counted over all replicas again")
            if self._certain and not (self._wishes or self._freed):
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), max(0.0, renewal - loop.time()))

    async def close(self) -> None:
        """Hold nothing any more. Call it when :meth:`run` has ended."""
        if self._wanted.is_set():
            with contextlib.suppress(BrokerUnavailable):
                await self._slots.leave()

    # Private.

    async def _wait(self, answer: asyncio.Future[str], patience: float) -> None:
        """Wait for an answer as long as steps end in time: in a storm a wish is not in the first one."""
        loop = asyncio.get_running_loop()
        rest = patience
        while rest > 0 and not answer.done():
            await asyncio.wait([answer], timeout=rest)
            for _ in range(_TURNS):  # It was this process that was slow, perhaps: then the answer is there.
                if answer.done():
                    return
                await asyncio.sleep(0)
            rest = self._step_began + patience - loop.time()

    def _alone(self, claims: Sequence[Claim], without_redis: WithoutRedis) -> str:
        """Decide without the shared count, which then does not know of it."""
        if without_redis == "closed":
            raise BrokerUnavailable("This cannot be counted just now. Come back in a moment.", retry_after=2.0)
        for subject, limit in claims:
            if self._held[subject] >= limit:
                return subject
        self._held.update(subject for subject, _ in claims)
        self._certain = False
        self._news.set()
        return ""

    async def _turn(self) -> None:
        """Take one step."""
        self._step_began = asyncio.get_running_loop().time()
        if not self._certain:
            self._incarnation, self._certain = secrets.token_hex(8), True
            self._freed.clear()
            await self._slots.enter(self._incarnation, dict(self._held))
            return
        if not (self._wishes or self._freed):
            return
        wishes = [self._wishes.popleft() for _ in range(min(len(self._wishes), _AT_ONCE))]
        freed, self._freed = self._freed, Counter()
        try:
            answers = await self._slots.trade(self._incarnation, freed, [wish.claims for wish in wishes])
        except BrokerUnavailable:
            self._wishes.extendleft(reversed(wishes))
            raise
        if answers is None:
            self._certain = False
            self._wishes.extendleft(reversed(wishes))
            return
        for wish, refused in zip(wishes, answers, strict=True):
            self._answer(wish, refused)

    def _answer(self, wish: _Wish, refused: str) -> None:
        waits = not wish.answer.done()
        if not refused:
            for subject, _ in wish.claims:
                if waits:
                    self._held[subject] += 1
                else:
                    self._freed[subject] += 1  # Nobody waits for it any more.
        if waits:
            wish.answer.set_result(refused)

    async def _renew(self) -> bool:
        return await self._slots.renew(self._incarnation, self._held.total() + self._freed.total())

    def _lose(self) -> None:
        """The shared count is away, and what it has is not known."""
        self._certain = False
        self._suspect()
        while self._wishes:
            wish = self._wishes.popleft()
            if not wish.answer.done():
                wish.answer.cancel()

    def _suspect(self) -> None:
        if not self._away:
            self._away = True
            _log.warning("slots cannot be counted over all replicas")

    def _drop(self, subject: str) -> None:
        self._held[subject] -= 1
        if self._held[subject] <= 0:
            del self._held[subject]
