"""The event loop of a gateway: uvloop's, whose servers take all connections that wait when they take one.

libuv accepts one connection in a turn of the loop, and a turn is as long as all that there is to do in it. With some
hundred busy connections that is a tenth of a second: of a thousand clients that come at once the last would wait for
as long as the others keep the gateway busy.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

import uvloop

from app.observe.tasks import TaskSet

__all__ = ["EventLoop"]

_BURST = 128
"""Connections that are taken in one turn: those that are there already want theirs, too."""

_Factory = Callable[[], asyncio.BaseProtocol]


class EventLoop(uvloop.Loop):
    """uvloop's event loop, whose TCP servers accept in bursts."""

    async def create_server(self, protocol_factory: _Factory, *where: Any, **options: Any) -> Any:
        if options.get("ssl") is not None:
            return await super().create_server(protocol_factory, *where, **options)
        door = _Door(self, protocol_factory)
        server: Any = await super().create_server(door.take_all, *where, **options)
        door.listen(server.sockets)
        return _Server(server, door)


class _Door:
    """Where connections wait to be accepted. What is accepted here is as what libuv accepts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol_factory: _Factory) -> None:
        self._loop = loop
        self._protocol_factory = protocol_factory
        self._listening: tuple[socket.socket, ...] = ()
        self._tasks = TaskSet()
        self._closed = False

    def listen(self, sockets: Iterable[Any]) -> None:
        """Take from copies of ``sockets``: theirs are libuv's, which have no ``accept``."""
        self._listening = tuple(socket.socket(fileno=os.dup(each.fileno())) for each in sockets)
        for each in self._listening:
            each.setblocking(False)

    def take_all(self) -> asyncio.BaseProtocol:
        """Return the protocol for a connection that libuv has accepted, and accept those that wait behind it."""
        for listening in self._listening:
            for _ in range(_BURST):
                try:
                    connection, _ = listening.accept()
                except OSError:  # Nobody waits, or there are no descriptors left: libuv sees to that.
                    break
                connection.setblocking(False)
                self._tasks.start(self._take(connection), "accept")
        return self._protocol_factory()

    async def _take(self, connection: socket.socket) -> None:
        transport, _ = await self._loop.connect_accepted_socket(self._protocol_factory, connection)
        if self._closed:  # Whoever closed the server told the connections that were there, not this one.
            transport.abort()

    def close(self) -> None:
        self._closed = True
        for each in self._listening:
            each.close()
        self._listening = ()

    async def wait_closed(self) -> None:
        await self._tasks.close(1.0)


class _Server(asyncio.AbstractServer):
    """A server and its door."""

    def __init__(self, server: asyncio.Server, door: _Door) -> None:
        self._server, self._door = server, door

    @property
    def sockets(self) -> Any:
        return self._server.sockets

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._server.get_loop()

    def is_serving(self) -> bool:
        return self._server.is_serving()

    async def start_serving(self) -> None:
        await self._server.start_serving()

    async def serve_forever(self) -> None:
        await self._server.serve_forever()

    def close(self) -> None:
        """Stop listening. The last copy of a listening socket must go, or clients would go on connecting."""
        self._server.close()
        self._door.close()

    async def wait_closed(self) -> None:
        await self._door.wait_closed()
        await self._server.wait_closed()
