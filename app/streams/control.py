"""Words between replicas: one tells all, or asks all and waits for the answers.

What a back end wants done to a user's sockets concerns every replica, for any of them may hold one. So the replica that
was asked tells all of them, itself included, and each acts on its own sessions (:class:`SessionControl`). Telling is at
most once: a replica that is cut off from Redis at that moment does not hear it, as in Centrifugo.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import orjson
import structlog

from app.errors import BrokerUnavailable, NotFound
from app.observe.tasks import TaskSet
from app.streams.position import Position

__all__ = ["Replicas", "SessionControl", "Signals", "Target"]

_log = structlog.get_logger(__name__)

Handler = Callable[[dict[str, Any]], Any]
"""Gets the body of what was told or asked; returns the answer, which is JSON. Must not block."""


class Signals(Protocol):
    """Messages between replicas. Both methods may raise :exc:`~app.errors.BrokerUnavailable`."""

    async def signal(self, node: str, message: bytes) -> bool:
        """Send ``message`` to one replica; False when it is not there."""

    async def signal_all(self, message: bytes) -> int:
        """Send ``message`` to all replicas, this one too; return how many it reached."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which sessions: a user's, all of them or one, by client id or session id, but for those in ``spared``.

    Client ids in ``spared`` and ``client`` are what the connect reply named. An empty ``user`` is the anonymous one, of
    whom one client or session must be named.
    """

    user: str
    client: str = ""
    session: str = ""
    spared: frozenset[str] = frozenset()


class SessionControl(Protocol):
    """This replica's sessions, as a back end acts on them. Nothing here may block or raise.

    Each returns how many sessions it concerned. Codes and reasons are those of the Centrifuge protocol.
    """

    def disconnect(self, target: Target, code: int, reason: str) -> int:
        """Close with ``code``: 3500–3999 and 4500–4999 tell the client to stay away, others to come back."""

    def subscribe(
        self,
        target: Target,
        channel: str,
        *,
        data: Any = None,
        info: Any = None,
        since: Position | None = None,
        options: Mapping[str, bool] = MappingProxyType({}),
        expire_at: float | None = None,
    ) -> int:
        """Subscribe them to ``channel`` from the server's side, whatever they may subscribe to themselves.

        ``data`` goes to the client, ``info`` into presence, ``since`` is where recovery begins, and ``options``
        override the channel's (``presence``, ``join_leave``, ``force_recovery``, …). The subscription ends at the Unix
        time ``expire_at``.
        """

    def unsubscribe(self, target: Target, channel: str, code: int, reason: str) -> int:
        """End their subscriptions to ``channel``; to all channels when it is empty."""

    def refresh(self, target: Target, *, expired: bool, expire_at: int | None) -> int:
        """Let them expire now, or at the Unix time ``expire_at`` (None: never)."""


class Replicas:
    """All replicas, this one (``node``) included.

    :meth:`receive` takes every message that the broker's sink gets. ``patience`` is how long a question may wait for
    its answers, in seconds.
    """

    def __init__(self, node: str, signals: Signals, *, patience: float = 2.0) -> None:
        self.node = node
        self._patience = patience
        self._signals = signals
        self._handlers: dict[str, Handler] = {}
        self._ids = itertools.count(1)
        self._questions: dict[int, _Question] = {}
        self._tasks = TaskSet()

    def on(self, kind: str, handler: Handler) -> None:
        """Let ``handler`` act on what is told, or answer what is asked, under the name ``kind``."""
        self._handlers[kind] = handler

    async def tell(self, kind: str, body: Mapping[str, Any]) -> None:
        """Have every replica act. Raises :exc:`~app.errors.BrokerUnavailable`."""
        await self._signals.signal_all(orjson.dumps({"tell": kind, "body": body}))

    async def ask(self, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return every replica's answer, by node. Raises ``BrokerUnavailable`` when one of them stays silent."""
        answers = await self._question(kind, body, self._signals.signal_all)
        if self.node not in answers:
            raise BrokerUnavailable("Not all replicas answered. Try again.")
        return answers

    async def ask_one(self, node: str, kind: str, body: Mapping[str, Any]) -> Any:
        """Return the answer of one replica; this one answers at once.

        Raises :exc:`~app.errors.NotFound` when it is not there, ``BrokerUnavailable`` when it stays silent.
        """
        if node == self.node:
            return self._handle(kind, dict(body))
        answers = await self._question(kind, body, lambda message: self._signals.signal(node, message))
        if not answers:
            raise NotFound("There is no such replica.")
        return answers[node]

    def receive(self, message: bytes) -> None:
        """Take a message of a replica."""
        try:
            said = orjson.loads(message)
            if "tell" in said:
                self._handle(said["tell"], said["body"])
            elif "ask" in said:
                answer = {"answer": said["id"], "node": self.node, "body": self._handle(said["ask"], said["body"])}
                self._tasks.start(self._answer(said["from"], orjson.dumps(answer)), "answer a replica")
            else:
                question = self._questions.get(said["answer"])
                if question is not None:
                    question.answers[said["node"]] = said["body"]
                    question.news.set()
        except (ValueError, KeyError, TypeError):
            _log.warning("a message of a replica is not understood; another version?")

    async def close(self) -> None:
        await self._tasks.close()

    async def _question(
        self, kind: str, body: Mapping[str, Any], send: Callable[[bytes], Awaitable[int]]
    ) -> dict[str, Any]:
        """Return the answers of all whom ``send`` has reached."""
        id_ = next(self._ids)
        question = self._questions[id_] = _Question()
        try:
            question.expected = await send(orjson.dumps({"ask": kind, "body": body, "from": self.node, "id": id_}))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    while len(question.answers) < question.expected:
                        question.news.clear()
                        await question.news.wait()
        finally:
            del self._questions[id_]
        if len(question.answers) < question.expected:
            raise BrokerUnavailable("Not all replicas answered. Try again.")
        return question.answers

    def _handle(self, kind: str, body: dict[str, Any]) -> Any:
        return self._handlers[kind](body)

    async def _answer(self, node: str, message: bytes) -> None:
        try:
            await self._signals.signal(node, message)
        except BrokerUnavailable:
            _log.warning("a replica's question stays without an answer")


class _Question:
    """``expected`` is how many were asked; answers may come before it is known."""

    def __init__(self) -> None:
        self.expected = 0
        self.answers: dict[str, Any] = {}
        self.news = asyncio.Event()
