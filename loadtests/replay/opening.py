"""Opening a WebSocket: where a gateway is, the connection to it, and the handshake."""

from __future__ import annotations

import asyncio
import base64
import secrets
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loadtests.replay.line import Line, LineOwner
from loadtests.replay.messages import Memo
from loadtests.replay.poller import Poller
from loadtests.replay.tally import Tally
from loadtests.replay.wire import handshake

__all__ = ["Address", "open_line"]

_SLOW_BUFFER = 4096
"""Bytes that the kernel keeps for a slow reader: what does not fit waits at the server."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway is."""

    host: str
    port: int
    target: str
    tls: ssl.SSLContext | None

    @classmethod
    def parse(cls, url: str, tls: ssl.SSLContext | None = None) -> Address:
        """Read ``ws://`` or ``wss://``. Raises :exc:`ValueError`."""
        parts = urlsplit(url)
        if parts.scheme not in {"ws", "wss"} or not parts.hostname:
            raise ValueError(f"{url!r} is no ws:// or wss:// URL")
        secure = parts.scheme == "wss"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        context = (tls or ssl.create_default_context()) if secure else None
        return cls(parts.hostname, parts.port or (443 if secure else 80), target, context)

    @property
    def authority(self) -> str:
        """What ``Host`` says."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def open_line(
    owner: LineOwner,
    address: Address,
    *,
    token: str,
    subprotocols: list[str],
    headers: dict[str, str],
    rate: float | None,
    within: float,
    poller: Poller,
    memo: Memo,
    tally: Tally,
) -> Line:
    """Open a socket, which ``rate`` bytes a second are read of (None: all).

    Raises :exc:`Refused`, :exc:`OSError` (ports, descriptors, no server) and :exc:`TimeoutError`.
    """
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    offered = [each.replace("${token}", token) for each in subprotocols]
    request = handshake(address.authority, address.target.replace("$%7Btoken%7D", token), key, offered, headers)
    async with asyncio.timeout(within):
        connected = await _connect(address, slow=rate is not None)
        line = Line(owner, request, key, rate, memo, tally)
        if address.tls is None:
            line.begin(poller.carry(connected, line))
        else:
            await asyncio.get_running_loop().create_connection(
                lambda: line, sock=connected, ssl=address.tls, server_hostname=address.host
            )
        try:
            await line.opened
        except BaseException:
            line.abort()
            raise
        return line


async def _connect(address: Address, *, slow: bool) -> socket.socket:
    """Return a connected socket, to the first of the host's addresses that takes it."""
    error: OSError = ConnectionRefusedError(f"{address.host} has no address")
    for family, kind, protocol, _, where in await _addresses(address):
        made = socket.socket(family, kind, protocol)
        try:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if slow:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER)
            await asyncio.get_running_loop().sock_connect(made, where)
        except OSError as refused:
            made.close()
            error = refused
        except BaseException:
            made.close()
            raise
        else:
            return made
    raise error


async def _addresses(address: Address) -> list[Any]:
    """Return what :func:`socket.getaddrinfo` does."""
    try:  # most are numbers, for which nobody has to be asked
        return socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
