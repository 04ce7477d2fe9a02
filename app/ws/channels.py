"""Who may listen to which channel."""

from __future__ import annotations

from app.auth.identity import Identity
from app.config import ChannelConfig, RealtimeConfig
from app.errors import BadRequest, NotFound, PermissionDenied

__all__ = ["authorise_subscribe"]

_PERSONAL = "user"


def authorise_subscribe(config: RealtimeConfig, identity: Identity, channel: str) -> ChannelConfig:
    """Return the channel's configuration if ``identity`` may subscribe to it. Generations have their own rule.

    Raises :exc:`~app.errors.PermissionDenied`, ``NotFound`` for a namespace that is not configured, ``BadRequest``.
    """
    if not channel.isprintable() or " " in channel:
        raise BadRequest("A channel's name has no spaces and no control characters.")
    namespace, colon, name = channel.partition(":")
    if colon and namespace == _PERSONAL:
        if identity.anonymous or name != identity.user_id:
            raise PermissionDenied("This is another user's channel.")
        return config.namespaces.get(_PERSONAL, config.channel)
    settings = config.namespaces.get(namespace) if colon else config.channel
    if settings is None:
        raise NotFound(f"There is no namespace {namespace[:64]!r}.")
    if not settings.allow_subscribe or (identity.anonymous and not settings.allow_anonymous):
        raise PermissionDenied("This channel is not open to you.")
    return settings
