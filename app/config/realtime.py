"""What can be set about sockets and channels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.config.section import Section

__all__ = ["CentrifugeConfig", "ChannelConfig", "EmulationConfig", "LimitsConfig", "RealtimeConfig"]


class ChannelConfig(Section):
    """What a channel keeps and who may use it."""

    history_size: int = Field(0, ge=0)
    """Publications that are kept for those who come back; 0 for none."""
    history_ttl: float = Field(0.0, ge=0)
    """How long they are kept."""
    allow_subscribe: bool = False
    """Whether any authenticated client may subscribe without a token of the channel's own."""
    allow_anonymous: bool = False
    """Whether what is allowed is allowed to anonymous clients, too. Alone it allows nothing."""
    allow_publish: bool = False
    """Whether a client that is subscribed, or may be, may publish. Here and below: over the Centrifuge protocol."""
    allow_history: bool = False
    """Whether such a client may page through the history."""
    allow_presence: bool = False
    """Whether such a client may ask who is there."""
    presence: bool = False
    """Whether it is kept who is there."""
    join_leave: bool = False
    """Whether it is announced who comes and goes, to those who ask for it when they subscribe."""
    force_push_join_leave: bool = False
    """Announce it to those, too, who did not ask."""
    force_recovery: bool = False
    """Whether those who come back recover what they missed even when they did not ask for it. Needs a history."""
    delta: tuple[Literal["fossil"], ...] = ()
    """Ways in which publications may go out as deltas against the one before, to subscribers that ask for it."""
    allow_tags_filter: bool = False
    """Whether a client may ask for those messages alone whose tags pass its filter. Saves bytes, and hides nothing."""
    recovery_max_publications: int = Field(300, ge=1)
    """Publications that are recovered at most, and that one page of history holds. Generations have no such limit."""


class CentrifugeConfig(Section):
    """Sockets that speak the Centrifuge client protocol, at `/connection/websocket`."""

    anonymous: bool = False
    """Whether sockets without a token, or with one that names no user, are let in as anonymous."""
    personal_channel: Literal["none", "user:", "#"] = "none"
    """What the name of the channel begins with that each signed-in user is subscribed to, followed by the user's id."""
    max_channels: int = Field(128, ge=1)
    """Channels that one socket may be in."""
    max_channel_length: int = Field(255, ge=1)
    """Characters of a channel's name."""
    max_errors: int = Field(1000, ge=1)
    """So many commands of a socket in a row that came to nothing, and it is closed."""
    pong_timeout: float = Field(8.0, gt=0)
    """How long the answer to a ping may take before the socket is closed."""
    expired_delay: float = Field(25.0, ge=0)
    """How long after a token's end its connection or subscription is ended; until then the client may refresh it."""


class EmulationConfig(Section):
    """Sessions of the Centrifuge protocol without a WebSocket: over server-sent events or a streamed answer."""

    enabled: bool = True
    """Whether `/connection/sse`, `/connection/http_stream` and `/emulation` are served."""
    max_commands: int = Field(1000, ge=1)
    """Commands that one request may carry. How many bytes it may have says `realtime.max_message`."""
    max_waiting: int = Field(256 * 1024, ge=1024)
    """Bytes of commands that may wait for a session that has too much to do; more are refused."""


class LimitsConfig(Section):
    """How many sockets may be there, over all replicas, and how much each may ask. 0 is for any number."""

    sockets: int = Field(0, ge=0)
    """Sockets in total."""
    sockets_per_ip: int = Field(0, ge=0)
    """Sockets from one address; for IPv6, from one /64. Behind a proxy, set `server.trusted_proxies` first."""
    sockets_per_user: int = Field(0, ge=0)
    """Sockets of one user."""
    sockets_per_company: int = Field(0, ge=0)
    """Sockets of all users of one company."""
    without_redis: Literal["open", "closed"] = "open"
    """While Redis does not answer each replica counts its own sockets alone (`open`), or takes none (`closed`)."""
    patience: float = Field(0.04, gt=0, le=5)
    """After so long without an answer Redis counts as away."""
    ttl: float = Field(30.0, ge=1)
    """How long the sockets of a replica that was killed are still counted, and what else it held of limits."""
    commands_rate: float = Field(0.0, ge=0)
    """Commands a second of one socket. Beyond it they are answered `too_many_requests`, and who goes on is put out."""
    commands_burst: int = Field(1000, ge=1)
    """So many may come at once."""
    bytes_rate: float = Field(0.0, ge=0)
    """Bytes a second that one socket may send."""
    bytes_burst: int = Field(16 * 1024 * 1024, ge=1)
    """So many may come at once. Not below `max_message`, or a frame of that size never passes."""


class RealtimeConfig(Section):
    """Sockets and channels."""

    insecure: bool = False
    """Development only: sockets without a token are let in as anonymous."""
    query_token: bool = False
    """Whether `?token=` is accepted. It ends up in logs of proxies: prefer a ticket."""
    max_message: int = Field(64 * 1024, ge=1024)
    """Largest frame that a client may send."""
    send_queue: int = Field(1024 * 1024, ge=16 * 1024)
    """Bytes that may wait for a slow socket before it is closed with `slow_consumer`."""
    auth_timeout: float = Field(10.0, gt=0)
    """How long a socket that came without a token may wait before it sends one."""
    ping_interval: float = Field(25.0, gt=0)
    """Time between two pings to a socket."""
    pong_timeout: float = Field(15.0, gt=0)
    """How long the answer to a ping may take before the socket counts as dead."""
    expiry_warning: float = Field(60.0, ge=0)
    """How long before a token's expiry its socket is warned."""
    max_subscriptions: int = Field(512, ge=1)
    """Channels and generations that one socket may listen to."""
    max_pending_commands: int = Field(64, ge=1)
    """Commands of one socket that may be at work at once."""
    limits: LimitsConfig = LimitsConfig()
    centrifuge: CentrifugeConfig = CentrifugeConfig()
    emulation: EmulationConfig = EmulationConfig()
    presence_ttl: float = Field(60.0, ge=1)
    """How long the clients of a replica that was killed stay present in their channels."""
    channel: ChannelConfig = ChannelConfig()
    """For channels whose name has no namespace."""
    namespaces: dict[str, ChannelConfig] = Field(default_factory=dict)
    """`[realtime.namespaces.chat]` is for the channels named `chat:…`."""
