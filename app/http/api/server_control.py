"""The server API's methods that act on live sockets and on tokens, over all replicas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Protocol

import orjson
from pydantic import Field, field_validator, model_validator

from app.config import RealtimeConfig
from app.generations.channels import GENERATION_PREFIX
from app.http.api.server_channels import channel_settings
from app.http.api.server_methods import Method, Result
from app.http.api.server_requests import Channel, Fault, Request, Since, json_text, parse
from app.streams.control import Target
from app.streams.position import Position

__all__ = ["Revoker", "Sessions", "control_methods"]

_FORCE_DISCONNECT = (3503, "force disconnect")
_UNSUBSCRIBED = (2000, "server unsubscribe")
_PERMISSION_DENIED = 103
_LONGEST = 256
_LATEST = 253_402_300_800
_REASON_BYTES = 123

Name = Annotated[str, Field(max_length=_LONGEST)]
Moment = Annotated[int, Field(ge=0, lt=_LATEST)]


class Sessions(Protocol):
    """Acts on the sessions of all replicas. All may raise :exc:`~app.errors.BrokerUnavailable`."""

    async def disconnect(self, target: Target, code: int, reason: str) -> None: ...
    async def subscribe(
        self,
        target: Target,
        channel: str,
        *,
        data: Any = None,
        info: Any = None,
        since: Position | None = None,
        options: Mapping[str, bool],
        expire_at: float | None = None,
    ) -> None: ...
    async def unsubscribe(self, target: Target, channel: str, code: int, reason: str) -> None: ...
    async def refresh(self, target: Target, *, expired: bool, expire_at: int | None) -> None: ...


class Revoker(Protocol):
    async def revoke(
        self, *, user: str, session: str, token_id: str, before: float | None, expire_at: float | None
    ) -> None:
        """Raises :exc:`~app.errors.BrokerUnavailable` and ``TooManyRequests``."""


class _Targeted(Request):
    """An empty ``user`` is the anonymous one, who is no one in particular: a client or session must be named then."""

    user: Name
    client: Name = ""
    session: Name = ""

    @model_validator(mode="after")
    def _somebody(self) -> _Targeted:
        if not (self.user or self.client or self.session):
            raise ValueError("user is empty: name a client or session too")
        return self

    def target(self, spared: frozenset[str] = frozenset()) -> Target:
        return Target(self.user, self.client, self.session, spared)


class _Disconnect(Request):
    code: int = 0
    reason: str = ""

    @field_validator("code")
    @classmethod
    def _for_applications(cls, code: int) -> int:
        if code and not 3000 <= code <= 4999:
            raise ValueError("must be from 3000 to 4999")
        return code

    @field_validator("reason")
    @classmethod
    def _plain(cls, reason: str) -> str:
        """A close frame has room for 123 bytes, and the JavaScript SDK takes JSON for something else."""
        if len(reason.encode(errors="replace")) > _REASON_BYTES or not reason.isprintable():
            raise ValueError(f"is at most {_REASON_BYTES} printable bytes")
        try:
            orjson.loads(reason)
        except orjson.JSONDecodeError:
            return reason
        raise ValueError("must not be JSON")


class DisconnectRequest(_Targeted):
    whitelist: list[Name] = Field(default_factory=list, max_length=1000)
    disconnect: _Disconnect = _Disconnect()


class _Value(Request):
    value: bool


class _Override(Request):
    presence: _Value | None = None
    join_leave: _Value | None = None
    force_push_join_leave: _Value | None = None
    force_recovery: _Value | None = None
    force_positioning: _Value | None = None

    def options(self) -> dict[str, bool]:
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: option.value for name, option in values.items() if option is not None}


class SubscribeRequest(_Targeted):
    channel: Channel
    info: Any = None
    b64info: str = ""
    data: Any = None
    b64data: str = ""
    recover_since: Since | None = None
    override: _Override = _Override()
    expire_at: Moment = 0


class UnsubscribeRequest(_Targeted):
    channel: Annotated[str, Field(max_length=255)] = ""


class RefreshRequest(_Targeted):
    expired: bool = False
    expire_at: Moment = 0


class RevokeRequest(Request):
    """``before`` is the moment until which a user's tokens were issued; ``expire_at`` when the last of them expires."""

    user: Name = ""
    session: Name = ""
    token_id: Name = ""
    before: Annotated[float, Field(ge=0, lt=_LATEST)] | None = None
    expire_at: Moment = 0

    @model_validator(mode="after")
    def _something(self) -> RevokeRequest:
        if not (self.user or self.session or self.token_id):
            raise ValueError("name a user, a session or a token_id")
        return self


def control_methods(config: RealtimeConfig, sessions: Sessions, revoker: Revoker) -> dict[str, Method]:
    """Return the methods by name."""

    async def disconnect(body: Any) -> Result:
        request = parse(DisconnectRequest, body)
        code = request.disconnect.code or _FORCE_DISCONNECT[0]
        reason = request.disconnect.reason or _FORCE_DISCONNECT[1]
        await sessions.disconnect(request.target(frozenset(request.whitelist)), code, reason)
        return {}

    async def subscribe(body: Any) -> Result:
        request = parse(SubscribeRequest, body)
        channel_settings(config, request.channel)
        if request.channel.startswith(GENERATION_PREFIX):
            raise Fault(_PERMISSION_DENIED, "permission denied: who may watch a generation asks for it himself")
        since = request.recover_since
        await sessions.subscribe(
            request.target(),
            request.channel,
            data=_value("data", request.data, request.b64data),
            info=_value("info", request.info, request.b64info),
            since=None if since is None else Position(since.epoch, since.offset),
            options=request.override.options(),
            expire_at=request.expire_at or None,
        )
        return {}

    async def unsubscribe(body: Any) -> Result:
        request = parse(UnsubscribeRequest, body)
        await sessions.unsubscribe(request.target(), request.channel, *_UNSUBSCRIBED)
        return {}

    async def refresh(body: Any) -> Result:
        request = parse(RefreshRequest, body)
        await sessions.refresh(request.target(), expired=request.expired, expire_at=request.expire_at or None)
        return {}

    async def revoke(body: Any) -> Result:
        request = parse(RevokeRequest, body)
        named = {"user": request.user, "session": request.session, "token_id": request.token_id}
        await revoker.revoke(**named, before=request.before, expire_at=request.expire_at or None)
        return {}

    return {
        "disconnect": disconnect,
        "subscribe": subscribe,
        "unsubscribe": unsubscribe,
        "refresh": refresh,
        "revoke": revoke,
    }


def _value(name: str, value: Any, encoded: str) -> orjson.Fragment | None:
    """Return what travels to the replicas. Raises :exc:`~app.http.api.server_requests.Fault`."""
    return None if value is None and not encoded else orjson.Fragment(json_text(name, value, encoded))
