"""How many sockets may be there: of one address, one user, one company, and in all, over all replicas (promise G11).

Whoever opens a socket, of whatever transport, asks :meth:`Admission.admit` and keeps what it returns, adds to it when
the user becomes known, and hands it to :meth:`Admission.release` at the end.

One task talks to the shared count, one step at a time, each with all that has come up meanwhile: so a storm costs a few
round trips, and nothing overtakes. Whenever it is not sure any more what the count has of this process (Redis did not
answer, or has forgotten it) the process enters anew with all that it holds. Sockets that are there stay, even where
there are then more than the limit allows: nobody new gets in until they are fewer. While Redis does not answer a
process decides alone: by its own sockets, or by refusing all, as the configuration says.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from app.auth.identity import Identity
from app.auth.peer import address_group
from app.config import LimitsConfig
from app.errors import BrokerUnavailable, TooManySockets
from app.streams.slots import Claim, Slots

__all__ = ["Admission", "Held"]

_log = structlog.get_logger(__name__)

Held = tuple[str, ...]
"""The subjects of which a socket holds a slot."""

_RETRY = 0.5
"""Seconds between two attempts to reach a count that is away."""
_AT_ONCE = 256
"""Wishes that one step carries."""
_RENEWALS = 3
"""How often what is held is renewed within its time to live."""
_TURNS = 8
"""Turns of the loop in which an answer that has arrived by then is taken."""
_WORDS = {"ip": "from this address", "user": "of this user", "company": "of this company", "all": "in all"}


@dataclass(slots=True, eq=False)
class _Wish:
    claims: Sequence[Claim]
    answer: asyncio.Future[str]
    """The subject that has no slot left; empty when they were taken."""


class Admission:
    """The count of this process's sockets. ``slots`` are its own among those of all processes."""

    def __init__(self, limits: LimitsConfig, slots: Slots) -> None:
        self._limits = limits
        self._slots = slots
        self._held: Counter[str] = Counter()
        self._freed: Counter[str] = Counter()
        """Not held any more; the shared count is still to be told."""
        self._wishes: deque[_Wish] = deque()
        self._news = asyncio.Event()
        self._incarnation = ""
        self._certain = False
        """Whether the shared count has what is held here, but for ``_freed``."""
        self._away = False
        self._step_began = 0.0
        self.counts_users = bool(limits.sockets_per_user or limits.sockets_per_company)
        """Whether it matters who a socket's user is."""
        self._counts = bool(self.counts_users or limits.sockets or limits.sockets_per_ip)

    async def admit(self, held: Held = (), *, address: str | None = None, identity: Identity | None = None) -> Held:
        """Take the slots that a socket needs besides what it has ``held``, and return all that it holds then.

        ``address`` counts the socket itself, ``identity`` its user; None leaves it for later. Nothing was taken when
        this raises :exc:`~app.errors.TooManySockets`, or ``BrokerUnavailable`` where the count may not be guessed.
        """
        if not self._counts:
            return held
        claims = [claim for claim in self._claims(address, identity) if claim[0] not in held]
        if not claims:
            return held
        refused = self._alone(claims) if self._away else await self._ask(claims)
        if refused:
            where = _WORDS[refused.partition(":")[0]]
            raise TooManySockets(
                f"There are as many sockets {where} as are allowed.", retry_after=random.uniform(2.0, 10.0)
            )
        return (*held, *(subject for subject, _ in claims))

    def release(self, held: Held) -> None:
        """Free what a socket held."""
        for subject in held:
            self._drop(subject)
            self._freed[subject] += 1
        if held:
            self._news.set()

    async def run(self) -> None:
        """Keep the shared count, until cancelled."""
        if not self._counts:
            return
        loop = asyncio.get_running_loop()
        renewal = loop.time()
        while True:
            try:
                await self._turn()
                if loop.time() >= renewal:
                    if self._certain and not await self._renew():
                        self._certain = False
                    renewal = loop.time() + self._limits.ttl / _RENEWALS
            except BrokerUnavailable:
                self._lose()
                await asyncio.sleep(_RETRY)
                continue
            if self._away:
                self._away = False
                _log.info("sockets are counted over all replicas again")
            if self._certain and not (self._wishes or self._freed):
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), max(0.0, renewal - loop.time()))

    async def close(self) -> None:
        """Hold nothing any more. Call it when :meth:`run` has ended."""
        if self._counts:
            with contextlib.suppress(BrokerUnavailable):
                await self._slots.leave()

    # Private.

    def _claims(self, address: str | None, identity: Identity | None) -> list[Claim]:
        limits = self._limits
        claims: list[Claim] = []
        if address is not None:
            claims.append(("all", limits.sockets))
            if address:
                claims.append((f"ip:{address_group(address)}", limits.sockets_per_ip))
        if identity is not None and identity.user_id is not None:
            claims.append((f"user:{identity.user_id}", limits.sockets_per_user))
            if identity.company_id is not None:
                claims.append((f"company:{identity.company_id}", limits.sockets_per_company))
        return [claim for claim in claims if claim[1]]

    async def _ask(self, claims: Sequence[Claim]) -> str:
        wish = _Wish(claims, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        self._news.set()
        try:
            await self._wait(wish.answer)
        except asyncio.CancelledError:
            taken = wish.answer.done() and not wish.answer.cancelled() and not wish.answer.result()
            wish.answer.cancel()
            if taken:
                self.release(tuple(subject for subject, _ in claims))
            raise
        if wish.answer.cancelled() or wish.answer.cancel():
            self._suspect()
            return self._alone(claims)
        return wish.answer.result()

    async def _wait(self, answer: asyncio.Future[str]) -> None:
        """Wait for an answer as long as steps end in time: in a storm a wish is not in the first one."""
        loop, patience = asyncio.get_running_loop(), self._limits.patience
        rest = patience
        while rest > 0 and not answer.done():
            await asyncio.wait([answer], timeout=rest)
            for _ in range(_TURNS):  # It was this process that was slow, perhaps: then the answer is there.
                if answer.done():
                    return
                await asyncio.sleep(0)
            rest = self._step_began + patience - loop.time()

    def _alone(self, claims: Sequence[Claim]) -> str:
        """Decide without the shared count, which then does not know of it."""
        if self._limits.without_redis == "closed":
            raise BrokerUnavailable("Sockets cannot be counted just now. Come back in a moment.", retry_after=2.0)
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
            _log.warning("sockets cannot be counted over all replicas", policy=self._limits.without_redis)

    def _drop(self, subject: str) -> None:
        self._held[subject] -= 1
        if self._held[subject] <= 0:
            del self._held[subject]
