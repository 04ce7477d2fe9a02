"""What Centrifuge tokens grant beside an identity: connection tokens and subscription tokens, as claims.

Pure: the signature was verified before. Raises :exc:`~app.errors.InvalidToken` for claims of the wrong kind.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.auth.identity import Identity
from app.errors import InvalidToken

__all__ = ["ChannelGrant", "ConnectionGrant", "connection_grant", "subscription_grant"]

_OVERRIDES = ("presence", "join_leave", "force_push_join_leave", "force_recovery", "force_positioning")

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChannelGrant:
    """One channel. ``info`` and ``data`` are JSON text; ``override`` has the options that the token settles."""

    info: bytes | None = None
    data: bytes | None = None
    expires_at: float | None = None
    override: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConnectionGrant:
    """A connection. ``channels`` are subscribed to by the server; ``expires_at`` is the connection's end."""

    identity: Identity
    info: bytes | None = None
    expires_at: float | None = None
    channels: Mapping[str, ChannelGrant] = field(default_factory=dict)


def connection_grant(identity: Identity, claims: Claims) -> ConnectionGrant:
    """Read a connection token's claims."""
    if "channel" in claims:
        raise InvalidToken("This is a subscription's token.")
    channels: dict[str, ChannelGrant] = {}
    for name in _kind(claims, "channels", list) or ():
        if not isinstance(name, str) or not name:
            raise InvalidToken("The claim channels must be a list of names.")
        channels[name] = ChannelGrant()
    for name, options in (_kind(claims, "subs", dict) or {}).items():
        if not name or not isinstance(options, dict):
            raise InvalidToken("The claim subs must be an object of objects.")
        channels[name] = ChannelGrant(_json(options, "info"), _json(options, "data"), None, _override(options))
    return ConnectionGrant(identity, _json(claims, "info"), _end(claims, identity.expires_at), channels)


def subscription_grant(claims: Claims, identity: Identity, channel: str, client: str) -> ChannelGrant | None:
    """Read a subscription token's claims; None when it is another channel's, user's or client's."""
    user = claims.get("sub") or ""
    if claims.get("channel") != channel or user != (identity.user_id or "") or claims.get("client", client) != client:
        return None
    expiry = _kind(claims, "exp", (int, float))
    return ChannelGrant(_json(claims, "info"), _json(claims, "data"), _end(claims, expiry), _override(claims))


def _end(claims: Claims, expiry: float | None) -> float | None:
    """``expire_at`` overrides the token's own end; 0 means never."""
    expire_at: float | None = _kind(claims, "expire_at", (int, float))
    return expiry if expire_at is None else expire_at or None


def _json(claims: Claims, name: str) -> bytes | None:
    """Return the claim ``name`` as JSON text, or what ``b64<name>`` holds."""
    if claims.get(name) is not None:
        try:
            return orjson.dumps(claims[name])
        except orjson.JSONEncodeError:
            raise InvalidToken(f"The claim {name} is nested too deeply.") from None
    encoded = _kind(claims, f"b64{name}", str)
    if not encoded:
        return None
    try:
        return orjson.dumps(orjson.loads(base64.b64decode(encoded)))
    except (binascii.Error, ValueError):
        raise InvalidToken(f"The claim b64{name} is not the base64 of JSON.") from None


def _override(claims: Claims) -> dict[str, bool]:
    found = {}
    for name, option in (_kind(claims, "override", dict) or {}).items():
        value = option.get("value") if isinstance(option, dict) else option
        if name in _OVERRIDES and isinstance(value, bool):
            found[name] = value
    return found


def _kind(claims: Claims, name: str, kind: Any) -> Any:
    value = claims.get(name)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise InvalidToken(f"The claim {name} is of the wrong kind.")
    return value
