"""A subscription to be made: what was asked for and what was granted, and who listens for it."""

from __future__ import annotations

from dataclasses import dataclass

from app.auth.grants import ChannelGrant
from app.generations.channels import GENERATION_PREFIX
from app.streams.listener import Listener
from app.streams.position import Position
from app.ws.centrifuge.access import Options
from app.ws.centrifuge.client import Client
from app.ws.centrifuge.delta_seat import seated
from app.ws.centrifuge.filter_seat import FilterSeat
from app.ws.protocols.tag_filters import TagFilter

__all__ = ["Joining", "seat"]


@dataclass(frozen=True, slots=True)
class Joining:
    """A subscription to be made."""

    channel: str
    options: Options
    grant: ChannelGrant
    since: Position | None
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    reject_unrecovered: bool = False
    server_side: bool = False
    delta: bool = False
    tags: TagFilter | None = None

    @property
    def generation(self) -> bool:
        return self.channel.startswith(GENERATION_PREFIX)

    @property
    def recovers(self) -> bool:
        return self.options.recovers(self.recoverable or self.since is not None)

    @property
    def quiet(self) -> bool:
        """Whether there is something about who comes and goes that is not to be told."""
        return self.options.join_leave and not self.options.pushes_join_leave(self.join_leave)

    @property
    def deltas(self) -> bool:
        return self.tags is None and self.options.deltas(self.delta)

    @property
    def keeps_position(self) -> bool:
        return self.recovers or self.options.positions(self.positioned)


def seat(client: Client, joining: Joining) -> Listener:
    """Return who listens for the session: itself where nothing is in the way."""
    session, codec = client.session, client.codec
    if joining.tags is not None:
        return FilterSeat(session, client.filters.encoder(codec, joining.tags, quiet=joining.quiet))
    deltas = client.deltas if joining.deltas else None
    return seated(session, codec, joining.channel, deltas, quiet=joining.quiet)
