"""Answers that begin a job: they pass through, and whoever follows jobs gets a copy of them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import MutableMapping
from typing import Any, Protocol

import orjson
import structlog
from starlette.types import Receive, Scope

from app.auth.identity import Identity
from app.config import RouteConfig
from app.http.ahead import again, read_messages
from app.http.cache.flight import Answer
from app.limits.callers import counted_caller
from app.limits.shares import Caller

__all__ = ["StartedCall", "TrackedAnswer", "Tracker", "as_client", "let_in"]

_log = structlog.get_logger(__name__)
_MOST = 1024 * 1024
"""Bytes of an answer that are looked at."""
_MOST_ASKED = 8 * 1024 * 1024
"""Bytes of a request that is passed on under the gateway's own name."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_PATIENCE = 2.0
"""Seconds that the end of an answer waits for its job to be followed, so that its client can ask for it at once."""


async def as_client(route: RouteConfig, scope: Scope, receive: Receive) -> tuple[str | None, Scope, Receive]:
    """Return a request that begins a job as it is to be passed on, and the name that the gateway asks under.

    ComfyUI tells of a prompt on the socket of the ``client_id`` that posted it. Who names none hears nothing of it, so
    the gateway names one of its own. None where nothing is changed: the client has named itself, or the body is no
    JSON object, or longer than 8 MiB. Raises :exc:`~app.http.client_watch.ClientGone`.
    """
    if route.generation is None or route.generation.format != "comfyui" or scope["method"] != "POST":
        return None, scope, receive
    messages, body = await read_messages(receive, _MOST_ASKED)
    try:
        value = orjson.loads(body) if not messages or not messages[-1].get("more_body", False) else None
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or value.get("client_id") is not None:
        return None, scope, again(messages, receive)
    client = f"tidegate-{secrets.token_urlsafe(12)}"
    changed = orjson.dumps({**value, "client_id": client})
    kept = [(name, field) for name, field in scope["headers"] if name not in _FRAMING]
    asked: MutableMapping[str, Any] = {**scope, "headers": [*kept, (b"content-length", b"%d" % len(changed))]}
    return client, asked, again([{"type": "http.request", "body": changed, "more_body": False}], receive)


class StartedCall(Protocol):
    """A request that may begin a job, as it was let in."""

    async def follow(self, answer: bytes, client: str | None = None) -> None:
        """Follow the job that the answer's body names; ``client`` is from :func:`as_client`. Never raises."""

    def release(self) -> None:
        """Give back what was taken for it, unless a job is followed that uses it. Idempotent."""


class Tracker(Protocol):
    """Follows jobs."""

    def reads(self, route: RouteConfig) -> bool:
        """Whether :meth:`admit` makes something of the request's body."""

    def uncounted(self, route: RouteConfig, caller: Caller) -> StartedCall:
        """Return a request that begins nothing by its method, though its answer may name a job."""

    async def admit(self, route: RouteConfig, caller: Caller, body: bytes, *, whole: bool) -> StartedCall:
        """Let a request in that may begin a job; ``body`` is empty where it is no JSON, and its beginning if that is
        not ``whole``.

        Raises :exc:`~app.errors.RateLimited`, ``BudgetExhausted`` or ``BrokerUnavailable``.
        """


async def let_in(
    tracker: Tracker, route: RouteConfig, scope: Scope, receive: Receive, identity: Identity
) -> tuple[StartedCall, Receive]:
    """Return a request on ``route`` as it was let in, and a ``receive`` that gives its body from the beginning.

    Raises what :meth:`Tracker.admit` raises, and :exc:`~app.http.client_watch.ClientGone`.
    """
    caller = counted_caller(scope, identity)
    if scope["method"] in _SAFE:
        return tracker.uncounted(route, caller), receive
    body, whole = b"", True
    if tracker.reads(route) and _is_json(scope):
        messages, body = await read_messages(receive, _MOST_ASKED)
        whole = not (messages and messages[-1].get("more_body", False))
        receive = again(messages, receive)
    return await tracker.admit(route, caller, body, whole=whole), receive


def _is_json(scope: Scope) -> bool:
    value = next((field for name, field in scope["headers"] if name == b"content-type"), b"")
    media = value.partition(b";")[0].strip().lower()
    return media == b"application/json" or (media.startswith(b"application/") and media.endswith(b"+json"))


class TrackedAnswer:
    """An :class:`~app.http.cache.flight.Answer` whose whole body is also handed to ``call``, before its last bytes
    are given on: the client that then has them may watch the job at once.
    """

    def __init__(self, answer: Answer, call: StartedCall, path: str, client: str | None) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.complete = answer.complete
        self._answer = answer
        self._call = call
        self._path = path
        self._client = client
        self._body: bytearray | None = bytearray() if 200 <= answer.status < 300 else None

    async def read(self) -> bytes:
        data = await self._answer.read()
        if self._body is not None:
            self._body += data
            if len(self._body) > _MOST:
                self._body = None
        self.complete = self._answer.complete
        if self.complete and self._body is not None:
            body, self._body = bytes(self._body), None
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._call.follow(body, self._client)
            except TimeoutError:
                _log.warning("a job is not followed", route=self._path, cause="timeout")
        return data

    def abort(self) -> None:
        self._answer.abort()
