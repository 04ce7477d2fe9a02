"""Subscriptions of the Centrifuge protocol that a back end makes and ends while the connection is there."""

from __future__ import annotations

from typing import Any

import structlog

from app.auth.grants import ChannelGrant
from app.errors import TidegateError
from app.ws.centrifuge.client import Client
from app.ws.centrifuge.connecting import server_side
from app.ws.centrifuge.joining import appear, enter
from app.ws.orders import Order, Put, Remove
from app.ws.protocols.centrifuge_codec import Publications
from app.ws.protocols.centrifuge_codes import Unsubscription
from app.ws.protocols.centrifuge_state import State

__all__ = ["obey"]

_log = structlog.get_logger(__name__)
_TOLD = ("recoverable", "epoch", "offset", "positioned", "data")
"""What the client is told of the result."""


async def obey(client: Client, order: Order) -> None:
    """Carry out what a back end ordered."""
    if client.protocol.state is not State.OPEN:
        return
    if isinstance(order, Put):
        await _put(client, order)
    else:
        _remove(client, order)


async def _put(client: Client, order: Put) -> None:
    """Subscribe the client from the server's side. Who is there already stays as he is."""
    session, protocol, channel = client.session, client.protocol, order.channel
    if channel in protocol.places:
        return
    if len(protocol.places) >= client.config.centrifuge.max_channels:
        _log.warning("a session has no room for another channel", connection_id=client.id)
        return

    def send(result: dict[str, Any]) -> None:
        told = {name: result[name] for name in _TOLD if name in result}
        missed = result.get("publications") or Publications("", ())
        block = session.encoder.frame(client.codec.push(channel, "subscribe", told))
        session.send(block + session.encoder.publications(channel, missed.epoch, missed.publications))

    try:
        grant = ChannelGrant(order.info, order.data, order.expire_at, order.options)
        joining = server_side(client, channel, grant, order.since)
        await enter(client, joining, session, send)
    except TidegateError as error:
        _log.warning("a session was not subscribed", connection_id=client.id, code=error.code)
        return
    await appear(client, channel)


def _remove(client: Client, order: Remove) -> None:
    """End one subscription, or all, and tell the client."""
    why = Unsubscription(order.code, order.reason)
    for channel in [order.channel] if order.channel else list(client.protocol.places):
        if channel in client.protocol.places:
            client.session.run(client.protocol.put_out(channel, why))
