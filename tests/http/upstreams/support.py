"""A transport to test, and upstreams that fail at one point of an exchange."""

from __future__ import annotations

import contextlib
import socket
import struct

from app.config import RouteConfig, UpstreamConfig
from app.http.transport import HttpTransport
from tests.http.support import ok, read_request
from tests.support.waiting import eventually

NO_PAUSE = {"backoff": 0, "budget_percent": 100, "budget_min": 1000}
"""Retries without pauses and with a budget that is never the reason."""
NO_EJECTION = {"consecutive_failures": 0}
NO_BREAKER = {"enabled": False}


@contextlib.asynccontextmanager
async def transport(*targets, meter=None, resolve=None, random=lambda: 0.0, **options):
    """Yields a transport to the upstream ``u``; at the end no request may hold a connection."""
    extra = {} if resolve is None else {"resolve": resolve}
    config = UpstreamConfig(targets=targets, **options)
    client = HttpTransport({"u": config}, meter=meter, random=random, **extra)
    client.start()
    try:
        yield client
        await eventually(lambda: len(set(client.connections("u"))) == 1)
    finally:
        await client.close()
        assert client.connections("u") == (0, 0)


async def read_all(response):
    pieces = []
    while piece := await response.read():
        pieces.append(piece)
    return b"".join(pieces)


async def get(client, method="GET", body=b"", **route):
    """Send one request; returns status and body. ``route`` are the settings of the route it comes by."""
    plan = client.plan(RouteConfig(path="/r", upstream="u", **route)) if route else None
    response = await client.request("u", method, "/", (), body, plan=plan)
    return response.status, await read_all(response)


def status(code, extra=b""):
    return b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n%b\r\n" % (code, extra)


def reset(writer):
    """Let the close be a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Upstream:
    """Counts requests, and fails those whose number is in ``failing`` in the way that ``how`` names."""

    WAYS = ("closes", "resets", "half a head", "half a head, reset", "stalls", "503", "half a body", "nonsense")

    def __init__(self, how="503", failing=range(10**9)):
        self.how = how
        self.failing = failing
        self.seen = []
        """Heads of the requests that came, whole or not."""

    async def __call__(self, reader, writer):
        while True:
            head, _ = await read_request(reader)
            number = len(self.seen)
            self.seen.append(head)
            if number not in self.failing:
                writer.write(ok(b"well"))
            elif self.how == "503":
                writer.write(status(503))
            elif self.how == "stalls":
                await reader.read()
                raise ConnectionResetError
            else:
                await self._break(writer)
                return

    async def _break(self, writer):
        if self.how.startswith("half a head"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-")
        elif self.how == "half a body":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        elif self.how == "nonsense":
            writer.write(b"SSH-2.0-x\r\n")
        await writer.drain()
        if "reset" in self.how:
            reset(writer)
