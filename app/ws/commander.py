"""What carries out the commands of a session's protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from app.ws.session import Session  # which has one of these

__all__ = ["NOBODY", "Commander"]


class Commander(Protocol):
    """Carries out the commands of a protocol."""

    def at_once(self, session: Session, action: Any) -> bool:
        """Carry out what needs nothing but the session; False for what must ask the log, in order."""

    async def perform(self, session: Session, action: Any) -> None:
        """Carry out a command. Raises :exc:`~app.errors.TidegateError`, which is then its answer."""

    def left(self, session: Session, channel: str) -> None:
        """The session is not in ``channel`` any more."""


class _Nobody:
    """:class:`Commander` of a session that is over."""

    def at_once(self, session: Session, action: Any) -> bool:
        return True

    async def perform(self, session: Session, action: Any) -> None: ...

    def left(self, session: Session, channel: str) -> None: ...


NOBODY = _Nobody()
