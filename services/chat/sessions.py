"""Conversations that the service remembers, in memory and bounded. Pure: ``now`` (Unix seconds) is an argument.

A session belongs to a user and is known by its id *within* that user's: two users who pick the same id have two
sessions, so an id never opens, or even reveals, somebody else's. Three bounds hold at all times: how many sessions,
how many bytes they all take (the least recently used goes first), and how many bytes one takes (its oldest messages go
first; the newest stays even if it alone is larger than one session may be, cut to that size).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.chat.protocol import ChatMessage

__all__ = ["Session", "SessionStore"]

_MESSAGE_OVERHEAD = 256
_SESSION_OVERHEAD = 512
"""Bytes that a message or a session takes in memory besides its text, roughly."""


@dataclass(slots=True)
class Session:
    """One conversation. ``size`` is its weight in bytes."""

    id: str
    created: float
    updated: float
    messages: list[ChatMessage] = field(default_factory=list)
    size: int = _SESSION_OVERHEAD


class SessionStore:
    """All sessions of all users. ``user`` is an opaque name; the empty one is anonymous."""

    def __init__(self, max_sessions: int, max_bytes: int, max_session_bytes: int) -> None:
        self._max_sessions = max_sessions
        self._max_bytes = max_bytes
        self._max_session_bytes = min(max_session_bytes, max_bytes)
        self._sessions: OrderedDict[tuple[str, str], Session] = OrderedDict()
        self.size = 0
        """Bytes of all sessions together."""

    def __len__(self) -> int:
        return len(self._sessions)

    def history(self, user: str, session_id: str) -> tuple[ChatMessage, ...]:
        """What was said before, oldest first; empty for a session that does not exist yet. Counts as a use."""
        session = self._sessions.get((user, session_id))
        if session is None:
            return ()
        self._sessions.move_to_end((user, session_id))
        return tuple(session.messages)

    def append(self, user: str, session_id: str, messages: Sequence[ChatMessage], now: float) -> None:
        """Add an exchange (not empty), creating the session when it is new, and evict what no longer fits."""
        session = self._sessions.pop((user, session_id), None)
        if session is None:
            session = Session(session_id, now, now)
        else:
            self.size -= session.size
        self._sessions[user, session_id] = session
        session.updated = now
        session.messages.extend(messages)
        session.size += sum(_weight(message) for message in messages)
        self._trim(session)
        self.size += session.size
        while len(self._sessions) > self._max_sessions or self.size > self._max_bytes:
            _, evicted = self._sessions.popitem(last=False)
            self.size -= evicted.size

    def get(self, user: str, session_id: str) -> Session | None:
        """The user's session, or None. Looking is no use: it does not save a session from eviction."""
        return self._sessions.get((user, session_id))

    def of_user(self, user: str) -> list[Session]:
        """The user's sessions, the most recently used first."""
        return [session for (owner, _), session in reversed(self._sessions.items()) if owner == user]

    def delete(self, user: str, session_id: str) -> bool:
        """Forget a session. Returns whether there was one."""
        session = self._sessions.pop((user, session_id), None)
        if session is None:
            return False
        self.size -= session.size
        return True

    def _trim(self, session: Session) -> None:
        """Drop the oldest messages until the session fits; of a single one too large, keep the end."""
        drop = 0
        while session.size > self._max_session_bytes and drop < len(session.messages) - 1:
            session.size -= _weight(session.messages[drop])
            drop += 1
        del session.messages[:drop]
        if session.size > self._max_session_bytes:
            (message,) = session.messages
            room = max(0, self._max_session_bytes - _SESSION_OVERHEAD - _MESSAGE_OVERHEAD)
            # Cut in bytes, then drop what the cut left of a character.
            text = message.content.encode()[-room:].decode(errors="ignore") if room else ""
            session.messages[0] = ChatMessage(role=message.role, content=text)
            session.size = _SESSION_OVERHEAD + _weight(session.messages[0])


def _weight(message: ChatMessage) -> int:
    return len(message.content.encode()) + _MESSAGE_OVERHEAD
