"""Sessions of the Centrifuge protocol, and what concerns all of them."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from app.auth.identity import Identity
from app.errors import TidegateError
from app.streams.broker import Archive
from app.streams.presence import Presence
from app.ws.centrifuge.client import Client, Tokens
from app.ws.centrifuge.commander import CentrifugeCommander
from app.ws.centrifuge.filter_seat import Filters
from app.ws.handshake import Handshake
from app.ws.ports import ConnectionPort
from app.ws.protocols.centrifuge import CentrifugeProtocol
from app.ws.protocols.centrifuge_codec import Codec
from app.ws.protocols.centrifuge_delta import Deltas
from app.ws.protocols.centrifuge_json import JSON
from app.ws.protocols.centrifuge_protobuf import PROTOBUF
from app.ws.services import Services
from app.ws.session import Session

__all__ = ["SUBPROTOCOLS", "Opener", "spoken"]

_log = structlog.get_logger(__name__)

_CODECS: tuple[Codec, ...] = (JSON, PROTOBUF)
SUBPROTOCOLS = tuple(codec.subprotocol for codec in _CODECS)
_RENEWALS = 3
"""How often an entry of presence is renewed within its time to live."""


@dataclass(slots=True)
class Opener:
    """:class:`~app.ws.endpoint.Begin` of this protocol. ``clients`` are those that are there, by their ids."""

    services: Services
    tokens: Tokens
    presence: Presence
    archive: Archive
    clients: dict[str, Client]
    presence_ttl: float
    """Seconds that an entry of presence lives."""
    _deltas: Deltas = field(init=False, default_factory=Deltas)
    _filters: Filters = field(init=False, default_factory=Filters)
    _services: dict[Codec, Services] = field(init=False, default_factory=dict)

    def __call__(
        self,
        connection: ConnectionPort,
        handshake: Handshake,
        identity: Identity | None,
        error: TidegateError | None,
        on_end: Callable[[Session], None],
    ) -> Session:
        pings = not handshake.frame_pings
        return self.open(connection, spoken(handshake), identity, error, on_end, pings=pings)

    def open(
        self,
        connection: ConnectionPort,
        codec: Codec,
        identity: Identity | None,
        error: TidegateError | None,
        on_end: Callable[[Session], None],
        told: Mapping[str, str] | None = None,
        *,
        pings: bool = True,
    ) -> Session:
        """Start a session of one flavour. ``identity`` is who the request says it is; ``error`` ends it at once.

        ``told`` is as in :class:`~app.ws.centrifuge.client.Client`.
        """
        services = self._services.get(codec)
        if services is None:
            services = self._services[codec] = replace(self.services, encoder=codec.encoder)
        client_id = str(uuid.uuid4())
        now = services.clock()
        protocol = CentrifugeProtocol(services.config, client_id, now, random.random(), codec, pings=pings)
        protocol.session_id = (told or {}).get("session", "")
        commander = CentrifugeCommander(self.archive)

        def ended(session: Session) -> None:
            self.clients.pop(client_id, None)
            on_end(session)

        session = Session(connection, protocol, services, commander, ended)
        commander.client = self.clients[client_id] = Client(
            session,
            protocol,
            self.tokens,
            self.presence,
            identity,
            codec,
            self._deltas,
            self._filters,
            told or {},
        )
        if error is not None:
            session.run(protocol.refused(error))
        return session

    async def renew(self) -> None:
        """Keep those who are here present, until cancelled."""
        while True:
            await asyncio.sleep(self.presence_ttl / _RENEWALS)
            try:
                await self.presence.renew(list(self._entries()))
            except TidegateError:
                _log.warning("presence could not be renewed")

    def _entries(self) -> Iterable[tuple[str, str, bytes]]:
        for client_id, client in list(self.clients.items()):
            for channel, place in client.protocol.places.items():
                if place.present:
                    yield channel, client_id, place.info


def spoken(handshake: Handshake) -> Codec:
    """Return the flavour that a client asks for, by a subprotocol or by the query; JSON when it doesn't."""
    asked = handshake.subprotocol or f"centrifuge-{handshake.format}"
    return next((codec for codec in _CODECS if codec.subprotocol == asked), JSON)
