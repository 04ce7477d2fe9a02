"""Which channels there are for back ends."""

from __future__ import annotations

from app.config import ChannelConfig, RealtimeConfig
from app.generations.channels import GENERATION_PREFIX
from app.http.api.server_requests import Fault

__all__ = ["channel_settings"]

_PERSONAL = "user"
_UNKNOWN_CHANNEL = 102


def channel_settings(config: RealtimeConfig, channel: str) -> ChannelConfig:
    """Return a channel's settings. Raises :exc:`~app.http.api.server_requests.Fault`."""
    namespace, colon, _ = channel.partition(":")
    if not colon or channel.startswith(("#", GENERATION_PREFIX)):
        return config.channel
    settings = config.namespaces.get(namespace)
    if settings is None and namespace == _PERSONAL:
        settings = config.channel
    if settings is None:
        raise Fault(_UNKNOWN_CHANNEL, "unknown channel")
    return settings
