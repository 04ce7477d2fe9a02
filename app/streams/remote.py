"""What a back end wants done to sessions, told to all replicas; each obeys for its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.streams.control import Replicas, SessionControl, Target
from app.streams.position import Position

__all__ = ["RemoteControl", "obey"]

_DISCONNECT, _SUBSCRIBE, _UNSUBSCRIBE, _REFRESH = "disconnect", "subscribe", "unsubscribe", "refresh"


class RemoteControl:
    """:class:`~app.streams.control.SessionControl` of all replicas. Raises :exc:`~app.errors.BrokerUnavailable`."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def disconnect(self, target: Target, code: int, reason: str) -> None:
        await self._replicas.tell(_DISCONNECT, {**_written(target), "code": code, "reason": reason})

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
    ) -> None:
        place = None if since is None else list(since)
        wanted = {"channel": channel, "data": data, "info": info, "since": place, "options": dict(options)}
        await self._replicas.tell(_SUBSCRIBE, {**_written(target), **wanted, "expire_at": expire_at})

    async def unsubscribe(self, target: Target, channel: str, code: int, reason: str) -> None:
        body = {**_written(target), "channel": channel, "code": code, "reason": reason}
        await self._replicas.tell(_UNSUBSCRIBE, body)

    async def refresh(self, target: Target, *, expired: bool, expire_at: int | None) -> None:
        await self._replicas.tell(_REFRESH, {**_written(target), "expired": expired, "expire_at": expire_at})


def obey(replicas: Replicas, control: SessionControl) -> None:
    """Let ``control`` do here what any replica's :class:`RemoteControl` says."""

    def subscribe(body: dict[str, Any]) -> int:
        since = body["since"]
        return control.subscribe(
            _read(body),
            body["channel"],
            data=body["data"],
            info=body["info"],
            since=None if since is None else Position(*since),
            options=body["options"],
            expire_at=body["expire_at"],
        )

    def refresh(body: dict[str, Any]) -> int:
        return control.refresh(_read(body), expired=body["expired"], expire_at=body["expire_at"])

    replicas.on(_DISCONNECT, lambda body: control.disconnect(_read(body), body["code"], body["reason"]))
    replicas.on(_SUBSCRIBE, subscribe)
    replicas.on(
        _UNSUBSCRIBE, lambda body: control.unsubscribe(_read(body), body["channel"], body["code"], body["reason"])
    )
    replicas.on(_REFRESH, refresh)


def _written(target: Target) -> dict[str, Any]:
    return {
        "user": target.user,
        "client": target.client,
        "session": target.session,
        "spared": sorted(target.spared),
    }


def _read(body: Mapping[str, Any]) -> Target:
    return Target(body["user"], body["client"], body["session"], frozenset(body["spared"]))
