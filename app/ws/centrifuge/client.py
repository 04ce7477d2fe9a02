"""What the parts of a Centrifuge socket share: its session, its protocol's state, and the services around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from app.auth.grants import ConnectionGrant
from app.auth.identity import Identity
from app.config import RealtimeConfig
from app.streams.presence import Presence
from app.ws.centrifuge.filter_seat import Filters
from app.ws.commander import Asker
from app.ws.protocols.centrifuge import CentrifugeProtocol
from app.ws.protocols.centrifuge_codec import Codec
from app.ws.protocols.centrifuge_delta import Deltas

__all__ = ["Client", "Tokens", "info_of"]


class Tokens(Protocol):
    """Verifies tokens whose claims matter beside the user."""

    async def claims(self, token: str, now: float | None = None) -> Mapping[str, Any]:
        """Raises :exc:`~app.errors.InvalidToken`, ``TokenExpired``, ``KeysUnavailable``."""

    async def connection(self, token: str, now: float | None = None) -> ConnectionGrant:
        """Raises like :meth:`claims`."""

    def check(self, identity: Identity) -> None:
        """Raises :exc:`~app.errors.TokenRevoked`."""


@dataclass(frozen=True, slots=True)
class Client:
    """One socket, which speaks ``codec``. ``handshake`` is who its request said it is, None when it said nothing.

    ``deltas`` and ``filters`` are shared by all sockets. ``told`` are more members of the connect reply: how to reach a
    session whose commands come on other connections.
    """

    session: Asker
    protocol: CentrifugeProtocol
    tokens: Tokens
    presence: Presence
    handshake: Identity | None
    codec: Codec
    deltas: Deltas
    filters: Filters
    told: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> RealtimeConfig:
        return self.session.services.config

    @property
    def id(self) -> str:
        return self.protocol.connection_id

    def answer(self, id_: int, method: str, result: dict[str, Any] | None = None) -> None:
        self.protocol.succeeded()
        self.session.send(self.session.encoder.frame(self.codec.reply(id_, method, result or {})))


def info_of(protocol: CentrifugeProtocol, channel_info: bytes | None = None) -> bytes:
    """Return the client's info as others see it, JSON text."""
    info: dict[str, Any] = {"user": protocol.identity.user_id or "", "client": protocol.connection_id}
    if protocol.info is not None:
        info["conn_info"] = orjson.Fragment(protocol.info)
    if channel_info is not None:
        info["chan_info"] = orjson.Fragment(channel_info)
    return orjson.dumps(info)
