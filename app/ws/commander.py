"""What carries out the commands of a session's protocol, and what it sees of the session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from app.auth.identity import Identity
from app.errors import TidegateError
from app.limits.shares import Caller
from app.streams.listener import Listener, Subscription
from app.ws.account import Account
from app.ws.services import Services, SocketEncoder
from app.ws.ticker import Ticked

if TYPE_CHECKING:
    from app.ws.session import Session  # which has one of these

__all__ = ["NOBODY", "Asker", "Commander"]


class Asker(Listener, Ticked, Protocol):
    """The session, as its commands see it. ``subscriptions`` holds None for a channel that is being joined."""

    @property
    def encoder(self) -> SocketEncoder: ...
    @property
    def services(self) -> Services: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def caller(self) -> Caller: ...
    @property
    def subscriptions(self) -> dict[str, Subscription | None]: ...
    @property
    def account(self) -> Account: ...
    @property
    def closed(self) -> bool: ...
    async def admit(self, identity: Identity) -> None: ...
    def let_in(self) -> None: ...
    def run(self, actions: Sequence[Any]) -> None: ...
    def deliver_ready(self, block: bytes) -> None: ...
    def send(self, frame: bytes) -> None: ...
    def close(self, error: TidegateError) -> None: ...
    def roll_up(self, seconds: float) -> None: ...
    def unsubscribe(self, channel: str) -> bool: ...
    async def room(self) -> None: ...


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
