"""From a host's name to its addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Resolve", "is_address", "resolve"]

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port in, IP addresses out, the preferred first. Raises :exc:`OSError`."""

_MOST = 64
"""Addresses of one name that are used: a name with more would have a connection or more to each of them."""


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system, in a thread of its own. Raises :exc:`OSError`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))[:_MOST]


def is_address(host: str) -> bool:
    """Return whether ``host`` is an IP address, so that there is nothing to look up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
