"""A gateway with a cache before an upstream that a test scripts, all over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from app.auth.identity import Identity
from app.config import RouteCacheConfig, RouteConfig, UpstreamConfig
from app.errors import InvalidToken
from app.http.cache.cache import ResponseCache
from app.http.cache.memory import MemoryStore
from app.http.cache.store import Store
from app.http.cached_routes import CachedRoutes
from app.http.dispatch import Dispatch
from app.http.proxy import Proxy
from app.http.routes import RouteTable
from app.http.transport import HttpTransport
from tests.http.support import asgi_server, raw_server, read_head

LIMIT = 1000


def answer(body: bytes = b"ok", *fields: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@dataclass
class Origin:
    """What the upstream answers and what it was asked."""

    reply: Callable[[bytes, int], bytes | Awaitable[bytes]]
    """Of a request's head in lower case and its number, from 1."""
    asked: list[bytes] = field(default_factory=list)
    hung_up: int = 0
    last: int = 0
    """The number of the request after whose answer the connection is closed."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await read_head(reader)).lower()
                if b"content-length: " in head:
                    await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                self.asked.append(head)
                data = self.reply(head, len(self.asked))
                writer.write(data if isinstance(data, bytes) else await data)
                await writer.drain()
                if len(self.asked) == self.last:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up += 1
            raise


@dataclass
class Answered:
    status: int
    fields: dict[str, str]
    body: bytes


class Tokens:
    """The token is the user, a slash, the company, a slash, the roles."""

    def verify(self, token: str) -> Identity:
        if token == "bad":
            raise InvalidToken
        user, company, roles = (token + "//").split("/")[:3]
        return Identity(user, company or None, None, tuple(roles.split()))

    def again(self, token: str) -> Callable[[], Identity]:
        return lambda: self.verify(token)

    async def verified(self, token: str) -> Identity:
        return self.verify(token)


@dataclass
class Site:
    port: int
    origin: Origin
    cache: ResponseCache
    clock: list[float]

    def pass_time(self, seconds: float) -> None:
        self.clock[0] += seconds

    async def ask(self, path: str = "/", *fields: str, method: str = "GET", body: bytes = b"") -> Answered:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            length = [f"Content-Length: {len(body)}"] if body or method in ("POST", "PUT") else []
            host = [] if any(line.startswith("Host:") for line in fields) else ["Host: gw"]
            lines = [f"{method} {path} HTTP/1.1", *host, *length, *fields, "", ""]
            writer.write("\r\n".join(lines).encode() + body)
            return await read_answer(reader, method)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> Answered:
    head = await read_head(reader)
    status = int(head.split(b" ")[1])
    fields: dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n")[1:-2]:
        name, _, value = line.partition(": ")
        fields[name.lower()] = f"{fields[name.lower()]}, {value}" if name.lower() in fields else value
    body = b""
    if method == "HEAD" or status in (204, 304):
        pass
    elif "transfer-encoding" in fields:
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(fields.get("content-length", 0)))
    return Answered(status, fields, body)


Sites = Callable[..., contextlib.AbstractAsyncContextManager[Site]]


@contextlib.asynccontextmanager
async def site(
    reply: Callable[[bytes, int], bytes | Awaitable[bytes]],
    *,
    store: Store | None = None,
    auth: str = "none",
    routes: list[RouteConfig] | None = None,
    origin: Origin | None = None,
    clock: list[float] | None = None,
    **rule: object,
) -> AsyncIterator[Site]:
    origin = origin or Origin(reply)
    clock = clock or [1_700_000_000.0]
    rule.setdefault("max_body", LIMIT)
    async with raw_server(origin.handle) as server:
        upstream = UpstreamConfig(targets=(server.url,), retries={"count": 0}, health={"consecutive_failures": 0},
                                  breaker={"min_requests": 100_000}, max_connections=5000)  # fmt: skip
        transport = HttpTransport({"u": upstream})
        table = RouteTable(
            routes or [RouteConfig(path="/*", upstream="u", auth=auth, cache=RouteCacheConfig.model_validate(rule))]
        )
        cache = ResponseCache(store or MemoryStore(1_000_000), longest=86400, clock=lambda: clock[0])
        proxy = Proxy(transport, Tokens(), body_limit=100_000, cached=CachedRoutes(table, cache))
        try:
            async with asgi_server(Dispatch(table, proxy, nothing)) as port:
                yield Site(port, origin, cache, clock)
        finally:
            await cache.close()
            await proxy.close()
            await transport.close()


async def nothing(scope, receive, send):
    raise AssertionError("no request of these tests is for the gateway itself")
