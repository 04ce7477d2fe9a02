"""The seam between the Centrifuge protocol and its flavours: how commands are read, replies and pushes written.

All else is the same for all of them. A result is a mapping with the protocol's own names, written by one rule: members
that say nothing (false, zero, an empty text) are left out, ``bytes`` are somebody's JSON text and put in as it is,
:class:`Publications` stand for their list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.streams.listener import Encoder
from app.streams.publication import Publication
from app.ws.protocols.centrifuge_codes import Fault
from app.ws.protocols.centrifuge_commands import Command, Word
from app.ws.protocols.centrifuge_delta import DeltaCodec

__all__ = ["Codec", "FramingEncoder", "Publications"]


@dataclass(frozen=True, slots=True)
class Publications:
    """A page of a channel's history, or what was recovered of it: with ``deltas`` for one who takes them.

    He gets them in full all the same: a delta is made once for all, and these are for one.
    """

    epoch: str
    publications: Sequence[Publication]
    deltas: bool = False

    def __len__(self) -> int:
        return len(self.publications)


class FramingEncoder(Encoder, DeltaCodec, Protocol):
    def frame(self, payload: bytes) -> bytes:
        """Return the bytes that carry ``payload``, messages of the protocol, through the transport."""


class Codec(Protocol):
    """One flavour on one transport; one object for all sockets that speak it.

    Messages that are written are payloads, which the ``encoder`` frames.
    """

    @property
    def subprotocol(self) -> str:
        """The WebSocket subprotocol that stands for the flavour."""

    @property
    def binary(self) -> bool:
        """Whether its frames are binary ones."""

    @property
    def encoder(self) -> FramingEncoder:
        """Writes what channels have for their listeners, framing included."""

    @property
    def quiet(self) -> FramingEncoder:
        """The same, for those who are not told who comes and goes."""

    @property
    def ping(self) -> bytes: ...

    def commands(self, data: bytes) -> Iterator[Command | Word]:
        """Read a frame's payload, one command after the other.

        Raises :exc:`~app.ws.protocols.centrifuge_commands.Malformed` where one is none; those before it count.
        """

    def reply(self, id_: int, method: str, result: Mapping[str, Any]) -> bytes:
        """Return the answer to the command ``id_``, which was a ``method``."""

    def error(self, id_: int, fault: Fault) -> bytes:
        """Return the answer to a command that came to nothing."""

    def push(self, channel: str, kind: str, fields: Mapping[str, Any]) -> bytes:
        """Return what nobody asked for: ``unsubscribe``, ``message`` and so on, for ``channel`` where there is one."""
