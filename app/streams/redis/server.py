"""One server's address, the way to open a link to it, and who it says that it is."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import hiredis
from redis.asyncio.connection import parse_url

from app.errors import BrokerUnavailable
from app.streams.redis.link import Link

__all__ = ["Access", "Address", "Build", "Master", "access_of", "address_of", "dial", "tls_context"]

Build = Callable[[], Link]


class Address(NamedTuple):
    """Where a server listens; ``path`` is that of a Unix socket, and then the only thing that counts."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Access:
    """How servers are spoken to. ``timeout`` bounds connecting, in seconds."""

    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = None
    timeout: float = 2.0


def access_of(url: str, *, timeout: float, tls: ssl.SSLContext | None = None) -> Access:
    """Return what ``url`` says of user, password, database and TLS; ``tls`` is used where it says ``rediss``."""
    options: dict[str, Any] = dict(parse_url(url))
    secure = url.startswith("rediss")
    return Access(
        options.get("username") or "",
        options.get("password") or "",
        int(options.get("db") or 0),
        (tls or tls_context()) if secure else None,
        timeout,
    )


def address_of(url: str) -> Address:
    """Return the address in ``url``."""
    options: dict[str, Any] = dict(parse_url(url))
    return Address(options.get("host", "localhost"), int(options.get("port", 6379)), options.get("path", ""))


def tls_context(ca: str | None = None, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """Return a context that checks the server's certificate and its name. Raises OSError and ``ssl.SSLError``."""
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


async def dial(address: Address, access: Access, build: Build) -> Link:
    """Connect and authenticate. Raises OSError, TimeoutError, ``hiredis.ReplyError`` and ``BrokerUnavailable``."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(access.timeout):
        if address.path:
            _, link = await loop.create_unix_connection(build, address.path)
        else:
            _, link = await loop.create_connection(build, address.host, address.port, ssl=access.tls)
        try:
            if access.password:
                user = [access.username] if access.username else []
                await link.call("AUTH", *user, access.password)
            if access.database:
                await link.call("SELECT", access.database)
        except BaseException:
            link.abort()
            raise
    return link


class Master:
    """A server that takes writes; in a failover its address may change, or be unknown for a while."""

    def __init__(self, address: Address | None, access: Access, *, confirmed: bool = False) -> None:
        self.address = address
        self._access = access
        self._confirmed = confirmed
        """Whether it must say itself that it is a master: a server that was demoted would take no write."""

    async def dial(self, build: Build) -> Link:
        """Open a link. Raises like :func:`dial`."""
        if self.address is None:
            raise BrokerUnavailable("the master is not known")
        link = await dial(self.address, self._access, build)
        try:
            if self._confirmed:
                async with asyncio.timeout(self._access.timeout):
                    await _confirm(link)
        except BaseException:
            link.abort()
            raise
        return link

    def __str__(self) -> str:
        return str(self.address)


async def _confirm(link: Link) -> None:
    role = await link.call("ROLE")
    if not isinstance(role, list) or role[0] != b"master":
        raise hiredis.ReplyError("READONLY this server is not a master")
