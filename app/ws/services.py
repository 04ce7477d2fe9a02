"""What all sessions share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from app.auth.identity import Identity
from app.config import RealtimeConfig
from app.generations.service import Generations
from app.observe.counts import SocketCounts
from app.observe.tasks import TaskSet
from app.observe.tracing import Tracing
from app.streams.broker import Broker
from app.streams.hub import Hub
from app.streams.listener import Encoder
from app.streams.merge import MergeRule
from app.ws.admission import Admission
from app.ws.drain import Drain
from app.ws.pacer import Pacer
from app.ws.rates import Rate
from app.ws.recording import Recorder
from app.ws.sessions import Sessions
from app.ws.ticker import Ticker

__all__ = ["Services", "SocketEncoder", "Verifier"]


class SocketEncoder(Encoder, Protocol):
    """A wire format of sockets, which knows how its messages are framed."""

    def frame(self, payload: bytes) -> bytes:
        """Return the bytes that carry ``payload``, one message of the protocol."""


class Verifier(Protocol):
    def verify(self, token: str) -> Identity:
        """Raises :exc:`~app.errors.Unauthenticated`, ``KeysUnavailable``, and ``UnknownKey``: there it may wait."""

    async def verified(self, token: str) -> Identity:
        """Do the same, and wait for an issuer's fresh keys where that could help."""

    def check(self, identity: Identity) -> None:
        """Raises :exc:`~app.errors.TokenRevoked` when what was verified before was revoked since."""


@dataclass(frozen=True, slots=True)
class Services:
    """One object for all sessions of a process. ``rule`` says how events of generations merge."""

    config: RealtimeConfig
    verifier: Verifier
    generations: Generations
    hub: Hub
    broker: Broker
    ticker: Ticker
    drain: Drain
    admission: Admission
    tasks: TaskSet
    sessions: Sessions
    encoder: SocketEncoder
    rule: MergeRule
    clock: Callable[[], float]
    counts: SocketCounts = field(default_factory=SocketCounts)
    pacer: Pacer = field(default_factory=Pacer)
    recorder: Recorder | None = None
    """Writes down what chosen sockets carry; None for none."""
    tracing: Tracing | None = None
    """Makes spans of what clients publish; None for none."""
    rates: tuple[Rate, Rate] | None = None
    """How many commands and bytes a socket may send; None for any number."""
