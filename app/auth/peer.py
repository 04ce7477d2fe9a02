"""Which address a client has, behind proxies that are trusted and those that are not. Pure.

Every proxy adds the address that it saw to the end of a list; what stands before the last trusted one may be the
client's own invention. So the list is read from its end, and the first address that is no trusted proxy's counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["Peers", "address_group"]

_HOPS = 32
"""Entries of a list that are looked at, from its end."""


class Peers:
    """``trusted`` are networks of proxies, ``header`` (lower case) is the one in which they name the client."""

    def __init__(self, trusted: Iterable[str] = (), header: str = "x-forwarded-for") -> None:
        self._networks = [ip_network(text, strict=False) for text in trusted]
        self._header = header.encode("ascii")

    def address(self, peer: str | None, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """Return the client's address; ``peer`` is the connection's, None on a Unix socket.

        ``headers`` have lower-case names; several lines of one header are one list (RFC 9110 section 5.3). An entry
        that is no address ends the search: what a trusted proxy does not know is not taken from anybody else. Empty
        when there is none.
        """
        found = peer or ""
        if not self._networks or not self._trusts(found):
            return found
        lines = [value for name, value in headers if name == self._header]
        entries = b",".join(lines).split(b",")[-_HOPS:]
        for entry in reversed(entries):
            text = entry.decode("latin-1").strip()
            address = _read(_for(text) if self._header == b"forwarded" else text)
            if address is None:
                break
            found = address
            if not self._trusts(found):
                break
        return found

    def _trusts(self, text: str) -> bool:
        if not text:
            return True  # Only this machine's own processes reach a Unix socket.
        address = _parse(text)
        return address is not None and any(
            address.version == network.version and address in network for network in self._networks
        )


@lru_cache(maxsize=4096)
def address_group(address: str) -> str:
    """Return whom an address stands for when sockets are counted: itself, or an IPv6 address's /64.

    A single subscriber has a /64 at least (RFC 6177), so that its addresses are no measure of anything.
    """
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return address if parsed is None else str(parsed)


@lru_cache(maxsize=4096)
def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address; an IPv4 one that was written as IPv6 as what it is."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _read(text: str) -> str | None:
    """Return an entry's address without its port, None where it holds none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    address = _parse(text)
    return None if address is None else str(address)


def _for(element: str) -> str:
    """Return the ``for`` parameter of an element of ``Forwarded`` (RFC 7239 section 4); empty without one."""
    for pair in element.split(";"):
        name, _, value = pair.strip().partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"')
    return ""
