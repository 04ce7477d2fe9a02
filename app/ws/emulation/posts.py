"""Commands on their way to a session, which any replica may hold.

The connect reply names the session and the replica that holds it, and each request names both, so that it may come to
any replica: that one passes it on and answers when the session has it. A request that was answered is therefore ahead
of all that are sent after it; those of one session that arrive here together are passed on in the order in which they
came.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from typing import Any

from app.errors import NotFound, TooManyRequests
from app.streams.control import Replicas
from app.ws.emulation.requests import Post
from app.ws.emulation.stream import Stream, Taken

__all__ = ["Posts"]

_KIND = "emulation"
_LINGER = 2.0
"""Seconds that a client may take to read why its session ended."""
_MOST_WAITING = 100
"""Requests of one session that may wait here while one of them is on its way to another replica."""


class Posts:
    """This replica's streams by their sessions' ids, and the way to those of others."""

    def __init__(self, replicas: Replicas) -> None:
        self._streams: dict[str, Stream] = {}
        self._replicas = replicas
        self._lanes: dict[str, _Lane] = {}
        replicas.on(_KIND, self._receive)

    def enter(self, session: str, stream: Stream) -> None:
        """From now on ``session`` can be spoken to."""
        self._streams[session] = stream

    def leave(self, session: str, stream: Stream) -> None:
        """It has ended. A client that was told why must not be told by a 404 first: it would come back for that."""
        if stream.told:
            asyncio.get_running_loop().call_later(_LINGER, self._streams.pop, session, None)
        else:
            self._streams.pop(session, None)

    async def post(self, post: Post) -> None:
        """Bring commands to their session, on whichever replica it is.

        Raises :exc:`~app.errors.NotFound` when either is gone, which tells the client to connect again,
        ``TooManyRequests`` when more wait than may, and ``BrokerUnavailable``.
        """
        session = post.session
        stream = self._streams.get(session)
        if stream is not None:
            _answered(stream.take(post.commands, binary=post.binary))
            return
        lane = self._lanes.setdefault(session, _Lane())
        if lane.waiting >= _MOST_WAITING:
            raise TooManyRequests("Too many requests of this session are on their way. Put commands together.")
        lane.waiting += 1
        try:
            async with lane.lock:
                _answered(Taken(await self._replicas.ask_one(post.node, _KIND, _packed(post))))
        finally:
            lane.waiting -= 1
            if not lane.waiting:
                del self._lanes[session]

    def _receive(self, body: dict[str, Any]) -> str:
        """Take what another replica passes on."""
        stream = self._streams.get(body["session"])
        if stream is None:
            return Taken.GONE.value
        binary = "binary" in body
        commands = b64decode(body["binary"]) if binary else body["commands"].encode()
        return stream.take(commands, binary=binary).value


class _Lane:
    """Requests for one session of another replica, one after the other."""

    __slots__ = ("lock", "waiting")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


def _packed(post: Post) -> dict[str, Any]:
    """Return a post as it goes to another replica, which is JSON."""
    if post.binary:
        return {"session": post.session, "binary": b64encode(post.commands).decode()}
    return {"session": post.session, "commands": post.commands.decode()}


def _answered(taken: Taken) -> None:
    if taken is Taken.GONE:
        raise NotFound("This session is gone. Connect again.")
    if taken is Taken.FULL:
        raise TooManyRequests("More commands wait for this session than may. Wait for its answers.")
