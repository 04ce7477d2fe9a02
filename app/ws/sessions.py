"""All sessions of this process, and those of each user: a back end that speaks to one user must not look at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.ws.session import Session  # which knows its services, and they these

__all__ = ["Sessions"]


class Sessions:
    """A session is found by its user, None for those who are nobody, once its protocol has let it in."""

    def __init__(self) -> None:
        self._all: set[Session] = set()
        self._by_user: dict[str | None, dict[Session, None]] = {}

    def __iter__(self) -> Iterator[Session]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, session: Session) -> None:
        """Keep a session that has begun, or that is now known to be somebody's. Does nothing for one that is over."""
        if session.closed:
            return
        self._all.add(session)
        if session.protocol.admitted:
            user = session.identity.user_id
            if user is not None:
                self._take(None, session)  # It may have been nobody's until now.
            self._by_user.setdefault(user, {})[session] = None

    def discard(self, session: Session) -> None:
        """Forget a session that is over."""
        self._all.discard(session)
        self._take(session.identity.user_id, session)

    def of(self, user: str | None) -> list[Session]:
        """Return the sessions of a user, the oldest first."""
        return list(self._by_user.get(user, ()))

    def _take(self, user: str | None, session: Session) -> None:
        """Let ``session`` be no longer among those of ``user``."""
        theirs = self._by_user.get(user)
        if theirs is not None:
            theirs.pop(session, None)
            if not theirs:
                del self._by_user[user]
