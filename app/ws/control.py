"""This replica's sessions, as a back end and revocations act on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import orjson
import structlog

from app.auth.identity import Identity
from app.errors import TokenRevoked
from app.streams.control import Target
from app.streams.position import Position
from app.ws.orders import Put, Remove
from app.ws.session import Session
from app.ws.sessions import Sessions

__all__ = ["LocalSessions"]

_log = structlog.get_logger(__name__)


class LocalSessions:
    """:class:`~app.streams.control.SessionControl` over all sessions of the process."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def disconnect(self, target: Target, code: int, reason: str) -> int:
        count = 0
        for count, session in enumerate(self._meant(target), 1):  # noqa: B007 (it is the result)
            session.step(session.protocol.dismissed, code, reason)
        return count

    def subscribe(
        self,
        target: Target,
        channel: str,
        *,
        data: Any = None,
        info: Any = None,
        since: Position | None = None,
        options: Mapping[str, bool] = MappingProxyType({}),
        expire_at: float | None = None,
    ) -> int:
        return self._order(target, Put(channel, _json(data), _json(info), since, options, expire_at))

    def unsubscribe(self, target: Target, channel: str, code: int, reason: str) -> int:
        return self._order(target, Remove(channel, code, reason))

    def refresh(self, target: Target, *, expired: bool, expire_at: int | None) -> int:
        count = 0
        for count, session in enumerate(self._meant(target), 1):  # noqa: B007 (it is the result)
            now = session.services.clock()
            end = now if expired else expire_at
            session.step(session.protocol.extended, end, now)
            session.services.ticker.watch(session)
        return count

    def end_revoked(self, revoked: Callable[[Identity], bool]) -> int:
        """Close those whose token was revoked; return how many."""
        found = [session for session in self._sessions if not session.closed and revoked(session.identity)]
        for session in found:
            session.close(TokenRevoked())
        return len(found)

    def _order(self, target: Target, order: Put | Remove) -> int:
        count = 0
        for session in self._meant(target):
            if session.order(order):
                count += 1
            else:
                _log.warning("a session has too many orders waiting", connection_id=session.protocol.connection_id)
        return count

    def _meant(self, target: Target) -> Iterator[Session]:
        """Yield whom ``target`` means among those who were let in. The list is fixed first: some will close."""
        for session in self._sessions.of(target.user or None):
            if session.closed:
                continue
            client = session.protocol.connection_id
            if target.client not in {"", client} or client in target.spared:
                continue
            if target.session in {"", session.protocol.session_id}:
                yield session


def _json(value: Any) -> bytes | None:
    return None if value is None else orjson.dumps(value)
