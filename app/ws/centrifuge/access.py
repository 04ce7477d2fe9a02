"""Who may do what in which channel, as the Centrifuge protocol answers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.auth.identity import Identity
from app.config import ChannelConfig, RealtimeConfig
from app.errors import BadRequest, NotFound, PermissionDenied
from app.ws.channels import authorise_subscribe
from app.ws.protocols.centrifuge_codes import BAD_REQUEST, PERMISSION_DENIED, UNKNOWN_CHANNEL, Refused

__all__ = ["Options", "is_personal", "options_of", "settings_of", "subscribable"]

_PERSONAL = ("user:", "#")


@dataclass(frozen=True, slots=True)
class Options:
    """A channel's settings, with what a token says otherwise."""

    settings: ChannelConfig
    override: Mapping[str, bool] = field(default_factory=dict)

    @property
    def presence(self) -> bool:
        return self.override.get("presence", self.settings.presence)

    @property
    def join_leave(self) -> bool:
        return self.override.get("join_leave", self.settings.join_leave)

    def pushes_join_leave(self, asked: bool) -> bool:
        forced = self.override.get("force_push_join_leave", self.settings.force_push_join_leave)
        return self.join_leave and (asked or forced)

    def deltas(self, asked: bool) -> bool:
        return asked and "fossil" in self.settings.delta

    @property
    def keeps_history(self) -> bool:
        return self.settings.history_size > 0

    def recovers(self, asked: bool) -> bool:
        forced = self.override.get("force_recovery", self.settings.force_recovery)
        return self.keeps_history and (asked or forced)

    def positions(self, asked: bool) -> bool:
        return self.keeps_history and (asked or self.override.get("force_positioning", False))


def is_personal(identity: Identity, channel: str) -> bool:
    """Whether this is the user's own channel."""
    return not identity.anonymous and any(channel == f"{prefix}{identity.user_id}" for prefix in _PERSONAL)


def settings_of(config: RealtimeConfig, channel: str) -> ChannelConfig:
    """Return a channel's settings, whoever asks. Raises :exc:`Refused`."""
    if not channel.isprintable() or " " in channel:
        raise Refused(BAD_REQUEST)
    namespace, colon, _ = channel.partition(":")
    if not colon or channel.startswith("#"):
        return config.channel
    settings = config.namespaces.get(namespace)
    if settings is None and namespace == "user":
        settings = config.channel
    if settings is None:
        raise Refused(UNKNOWN_CHANNEL)
    return settings


def subscribable(config: RealtimeConfig, identity: Identity, channel: str) -> ChannelConfig:
    """Return a channel's settings if ``identity`` may be in it without a token for it. Raises :exc:`Refused`."""
    if channel.startswith("#"):
        if is_personal(identity, channel):
            return config.channel
        raise Refused(PERMISSION_DENIED)
    try:
        return authorise_subscribe(config, identity, channel)
    except NotFound:
        raise Refused(UNKNOWN_CHANNEL) from None
    except PermissionDenied:
        raise Refused(PERMISSION_DENIED) from None
    except BadRequest:
        raise Refused(BAD_REQUEST) from None


def options_of(config: RealtimeConfig, channel: str) -> Options:
    return Options(settings_of(config, channel))
