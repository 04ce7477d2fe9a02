"""Tokens that are not taken any more, though their signature is right and their time is not over.

A revocation names a token (its ``jti``, or its digest where it has none), a login session (all tokens that carry its
id), or a user: all of his tokens that were issued before a moment. Each lives until the tokens it is about would have
expired, in a store that all replicas share, and in a copy here, so that asking costs a look into a dictionary.

The store is what counts. Replicas tell each other of a revocation at once, but such a word may get lost; so each asks
the store for news every moment, which is one number when there are none. A store that has lost its contents gets them
back from the copies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import inf
from typing import Any, NamedTuple, Protocol

import structlog

from app.auth.identity import Identity
from app.config import AuthConfig
from app.errors import BrokerUnavailable, TooManyRequests

__all__ = ["FOREVER", "News", "Revocation", "RevocationStore", "Revocations", "from_json", "to_json"]

_log = structlog.get_logger(__name__)

FOREVER = 253_402_300_800.0
"""The year 10000, in seconds since 1970: the end of a revocation whose token never expires."""
_SWEEP = 60.0
"""Seconds between two searches for revocations that are over."""
_USER, _SESSION, _TOKEN, _DIGEST = "u:", "s:", "t:", "d:"
"""What a mark begins with says of which kind it is."""

News = tuple[str, Sequence[tuple[str, float, float]]]
"""Where one has read to, and what is new: (mark, before, ends) each."""


class RevocationStore(Protocol):
    """What all replicas share. Both methods raise :exc:`~app.errors.BrokerUnavailable`."""

    async def add(self, mark: str, before: float, ends: float) -> bool:
        """Keep ``mark`` until ``ends``; of one that is there the later times count. False when there is no room."""

    async def news(self, place: str) -> News:
        """Return what was added since ``place`` (at most some: ask again until nothing comes), all since ``""``.

        A place of a store that has lost its contents is as good as none.
        """


class Revocation(NamedTuple):
    """``mark`` is what it is about; tokens issued at or after ``before`` are free of it; it is kept until ``ends``.

    Times are seconds since 1970.
    """

    mark: str
    before: float
    ends: float


class Revocations:
    """The revocations that this replica knows of; run :meth:`follow` as a task.

    ``tell`` lets all replicas :meth:`learn`. ``on_learned`` is called when there are new ones, after which
    :meth:`revoked` says so: for sockets and streams that are open.
    """

    def __init__(
        self,
        config: AuthConfig,
        store: RevocationStore,
        tell: Callable[[Revocation], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._store = store
        self._tell = tell
        self._clock = clock
        self._known: dict[str, Revocation] = {}
        self._place = ""
        self._next_sweep = 0.0
        self.on_learned: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._known)

    def revoked(self, identity: Identity) -> bool:
        """Say whether ``identity`` was verified by a token that is not to be taken any more."""
        known = self._known
        if not known:
            return False
        if identity.session_id is not None and _SESSION + identity.session_id in known:
            return True
        if identity.token_id is not None and _TOKEN + identity.token_id in known:
            return True
        if identity.digest is not None and _DIGEST + identity.digest in known:
            return True
        if identity.user_id is None:
            return False
        of_user = known.get(_USER + identity.user_id)
        return of_user is not None and (identity.issued_at is None or identity.issued_at < of_user.before)

    async def log_out(self, identity: Identity) -> None:
        """Revoke the session of the caller's token, else the token by its id, else by its digest.

        Raises :exc:`~app.errors.BrokerUnavailable` and ``TooManyRequests``; nothing has changed then.
        """
        if identity.session_id is not None:
            await self._add(_SESSION + identity.session_id, inf, self._kept(identity.expires_at))
            return
        ends = FOREVER if identity.expires_at is None else identity.expires_at
        if identity.token_id is not None:
            await self._add(_TOKEN + identity.token_id, inf, ends)
        else:
            assert identity.digest is not None, "only the anonymous caller has no token"
            await self._add(_DIGEST + identity.digest, inf, ends)

    async def revoke(
        self,
        *,
        user: str = "",
        session: str = "",
        token_id: str = "",
        before: float | None = None,
        expire_at: float | None = None,
    ) -> None:
        """Revoke all that is named; a user's tokens that were issued before ``before`` (None: now).

        ``expire_at`` is when the last of these tokens expires. Raises like :meth:`log_out`.
        """
        ends = self._kept(None) if expire_at is None else expire_at
        if user:
            await self._add(_USER + user, self._clock() if before is None else before, ends)
        if session:
            await self._add(_SESSION + session, inf, ends)
        if token_id:
            await self._add(_TOKEN + token_id, inf, ends)

    def learn(self, revocations: Iterable[Revocation]) -> None:
        """Take what another replica or the store says."""
        now, news = self._clock(), False
        for told in revocations:
            known = self._known.get(told.mark, told)
            each = Revocation(told.mark, max(told.before, known.before), max(told.ends, known.ends))
            there = told.mark in self._known
            if each.ends > now and (there or self._has_room()):
                self._known[each.mark] = each
                news = news or not there or each.before > known.before
        if news:
            self.on_learned()

    async def follow(self) -> None:
        """Keep up with the store, until cancelled."""
        while True:
            try:
                await self.catch_up()
            except BrokerUnavailable:
                _log.debug("revocations can't be read just now")
            self._sweep()
            await asyncio.sleep(self._config.revocation_check)

    async def catch_up(self) -> None:
        """Learn what is new in the store. Raises :exc:`~app.errors.BrokerUnavailable`."""
        while True:
            place, news = await self._store.news(self._place)
            if self._known and _era(place) != _era(self._place):
                _log.warning("the store has lost its revocations; it gets them back", revocations=len(self._known))
                for each in list(self._known.values()):
                    await self._store.add(*each)
                place, news = await self._store.news("")
            self._place = place
            if not news:
                return
            self.learn([Revocation(*each) for each in news])

    async def _add(self, mark: str, before: float, ends: float) -> None:
        """Store first: what is stored reaches every replica, also one that does not hear us now."""
        revocation = Revocation(mark, min(before, FOREVER), min(ends, FOREVER))
        if revocation.ends <= self._clock():
            return
        if not await self._store.add(*revocation):
            _log.error("no room for another revocation", limit=self._config.revocation_limit)
            raise TooManyRequests("Too many revocations are kept. Raise auth.revocation_limit.")
        self.learn([revocation])
        try:
            await self._tell(revocation)
        except BrokerUnavailable:
            _log.warning("replicas were not told of a revocation; they will find it")

    def _kept(self, expires_at: float | None) -> float:
        return max(self._clock() + self._config.revocation_ttl, expires_at or 0.0)

    def _has_room(self) -> bool:
        if len(self._known) < self._config.revocation_limit:
            return True
        _log.error("no room for another revocation", limit=self._config.revocation_limit)
        return False

    def _sweep(self) -> None:
        now = self._clock()
        if now < self._next_sweep:
            return
        self._next_sweep = now + _SWEEP
        for mark in [mark for mark, each in self._known.items() if each.ends <= now]:
            del self._known[mark]


def _era(place: str) -> str:
    return place.partition(":")[0]


def from_json(body: dict[str, Any]) -> Revocation:
    """Raises KeyError, TypeError and ValueError for what :func:`to_json` never wrote."""
    return Revocation(str(body["mark"]), float(body["before"]), float(body["ends"]))


def to_json(revocation: Revocation) -> dict[str, Any]:
    return revocation._asdict()
