"""Sockets of thousands of users in one process, read many at a time.

An event loop that is woken for each message spends most of its time on being woken. Where much comes, this one rests
for two milliseconds, and then reads all that is there; where little comes, each message is read at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import struct
from typing import Protocol

__all__ = ["ABORT", "Carrier", "Poller", "Receiver", "Wire"]

_READ = 16 * 1024
_MOST = 512
"""Sockets that are read in one turn of the loop: a few milliseconds of work."""
_BUSY = 64
"""From so many on there is a rest before the next turn."""
_REST = 0.002
"""Seconds."""
_CALM = 10
"""After so many rests with little to read, each message is waited for again."""
ABORT = struct.pack("ii", 1, 0)
"""Of ``SO_LINGER``: what is closed is reset."""
_GONE = select.EPOLLHUP | select.EPOLLERR


class Receiver(Protocol):
    """Who reads a wire."""

    def data_received(self, data: bytes) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class Carrier(Protocol):
    """What carries a line: a :class:`Wire`, or asyncio's transport where there is TLS."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def is_closing(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Poller:
    """All wires of a process. Made within a running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._wires: dict[int, Wire] = {}
        self._calm = 0
        """Turns since the last with much to read."""
        self._listen()

    def close(self) -> None:
        """Break whatever is still open."""
        for wire in list(self._wires.values()):
            wire.abort()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def carry(self, connected: socket.socket, receiver: Receiver) -> Wire:
        """Read a connected socket for ``receiver`` from now on."""
        wire = Wire(self, connected, receiver)
        self._wires[wire.number] = wire
        self._epoll.register(wire.number, select.EPOLLIN)
        return wire

    def watch(self, wire: Wire, events: int) -> None:
        self._epoll.modify(wire.number, events)

    def forget(self, wire: Wire) -> None:
        if self._wires.pop(wire.number, None) is not None:
            self._epoll.unregister(wire.number)

    def _listen(self) -> None:
        self._loop.add_reader(self._epoll.fileno(), self._woken)

    def _woken(self) -> None:
        if self._turn() >= _BUSY:
            self._calm = 0
            self._loop.remove_reader(self._epoll.fileno())
            self._loop.call_later(_REST, self._rested)

    def _rested(self) -> None:
        if self._epoll.closed:
            return
        count = self._turn()
        self._calm = 0 if count >= _BUSY else self._calm + 1
        if count >= _MOST:
            self._loop.call_soon(self._rested)
        elif self._calm < _CALM:
            self._loop.call_later(_REST, self._rested)
        else:
            self._listen()

    def _turn(self) -> int:
        """Read what is there; return on how many sockets there was something."""
        events, wires, read = self._epoll.poll(0, _MOST), self._wires, os.read
        for number, what in events:
            wire = wires.get(number)
            if wire is None:  # closed in this turn
                continue
            if what != select.EPOLLIN:
                wire.other(what)
                continue
            try:
                data = read(number, _READ)
            except BlockingIOError:
                continue
            except OSError as error:
                wire.lost(error)
                continue
            if data:
                wire.take(data)
            else:
                wire.lost(None)
        return len(events)


class Wire:
    """One connected TCP socket, with the methods of asyncio's transports that are needed here."""

    def __init__(self, poller: Poller, connected: socket.socket, receiver: Receiver) -> None:
        self.number = connected.fileno()
        self.receiver = receiver
        self.take = receiver.data_received
        self._poller = poller
        self._socket: socket.socket | None = connected
        self._unsent = bytearray()
        self._closing = False
        self._reading = True

    def write(self, data: bytes) -> None:
        if self._socket is None or self._closing:
            return
        if not self._unsent:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:  # reading will tell
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._unsent += data
        self._watch()

    def close(self) -> None:
        """Close when all is sent."""
        if self._socket is not None and not self._closing:
            self._closing = True
            if self._unsent:
                self._watch()
            else:
                self._leave()

    def abort(self) -> None:
        """Break the connection by a reset."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self._leave()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading = False
        self._watch()

    def resume_reading(self) -> None:
        self._reading = True
        self._watch()

    def other(self, what: int) -> None:
        """Take what is more than something to read: room to send, or the end."""
        if what & select.EPOLLOUT and self._unsent and self._socket is not None:
            try:
                del self._unsent[: self._socket.send(self._unsent)]
            except BlockingIOError:
                return
            except OSError as error:
                self.lost(error)
                return
            if not self._unsent:
                if self._closing:
                    self.lost(None)
                    return
                self._watch()
        if what & (select.EPOLLIN | _GONE) and self._socket is not None:
            try:
                data = os.read(self.number, _READ)
            except BlockingIOError:
                return
            except OSError as error:
                self.lost(error)
                return
            if data:
                self.take(data)
            else:
                self.lost(None)

    def lost(self, error: Exception | None) -> None:
        """Be over, and say so."""
        if self._end():
            self.receiver.connection_lost(error)

    def _leave(self) -> None:
        """Be over, and say so once whoever asked for it has gone on."""
        if self._end():
            asyncio.get_running_loop().call_soon(self.receiver.connection_lost, None)

    def _end(self) -> bool:
        if self._socket is None:
            return False
        self._poller.forget(self)
        self._socket.close()
        self._socket, self._closing = None, True
        return True

    def _watch(self) -> None:
        if self._socket is not None:
            events = (select.EPOLLIN if self._reading and not self._closing else 0) | (
                select.EPOLLOUT if self._unsent else 0
            )
            self._poller.watch(self, events)
