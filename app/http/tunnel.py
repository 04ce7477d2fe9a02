"""A connection to an upstream that does not speak HTTP any more, and who takes what comes on it."""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["Passenger", "Tunnel"]


class Tunnel(Protocol):
    """A connection that has switched protocols. What it carries is no HTTP."""

    @property
    def transport(self) -> asyncio.Transport: ...

    def carry(self, passenger: Passenger) -> None:
        """Hand all that comes to ``passenger``, what came already first. Nothing is read before."""

    def close(self) -> None:
        """Close the connection at once."""


class Passenger(Protocol):
    """What gets the bytes of a :class:`Tunnel`."""

    def receive(self, data: bytes) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def gone(self) -> None:
        """The connection is lost. Called once or more."""
