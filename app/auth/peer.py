"""Which address a client has, behind proxies that are trusted and those that are not. Pure.

Every proxy adds the address that it saw to the end of a list; what stands before the last trusted one may be the
client's own invention. So the list is read from its end, and the first address that is no trusted proxy's counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

__all__ = ["Networks", "Peers", "Way", "address_group"]

_HOPS = 32
"""Entries of a list that are looked at, from its end."""
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Networks:
    """A set of addresses. The empty address, which a Unix socket has, is in every one: this machine's own processes."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ip_network(text, strict=False) for text in networks]

    def __contains__(self, text: str) -> bool:
        if not text:
            return True
        address = _parse(text)
        return address is not None and any(
            address.version == network.version and address in network for network in self._networks
        )

    def __bool__(self) -> bool:
        return bool(self._networks)


class Way(NamedTuple):
    """By which way a request came, as far as that can be believed."""

    addresses: tuple[str, ...]
    """The client's, then those of the trusted proxies behind it; one empty text on a Unix socket."""
    scheme: str | None
    """``http`` or ``https``, where a trusted proxy said it."""
    host: bytes | None
    """The Host by which the client asked, where a trusted proxy said it; its form was not looked at."""


class Peers:
    """``trusted`` are networks of proxies, ``header`` (lower case) is the one in which they name the client."""

    def __init__(self, trusted: Iterable[str] = (), header: str = "x-forwarded-for") -> None:
        self._networks = Networks(trusted)
        self._header = header.encode("ascii")

    def address(self, peer: str | None, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """Return the client's address; ``peer`` is the connection's, None on a Unix socket.

        ``headers`` have lower-case names; several lines of one header are one list (RFC 9110 section 5.3). An entry
        that is no address ends the search: what a trusted proxy does not know is not taken from anybody else. Empty
        when there is none.
        """
        found = peer or ""
        if not self._networks or found not in self._networks:
            return found
        return self._chain(found, headers)[0]

    def __bool__(self) -> bool:
        """Whether anybody is trusted."""
        return bool(self._networks)

    def way(self, peer: str | None, headers: Sequence[tuple[bytes, bytes]]) -> Way:
        """Return by which way a request came. ``peer`` and ``headers`` are those of :meth:`address`."""
        found = peer or ""
        if not self._networks or found not in self._networks:
            return Way((found,), None, None)
        chain = self._chain(found, headers)
        hops = max(1, len(chain) - 1)
        if self._header == b"forwarded":
            elements = _entries(headers, b"forwarded")
            element = elements[-min(hops, len(elements))] if elements else ""
            scheme, host = _parameter(element, "proto"), _parameter(element, "host")
        else:
            scheme, host = (_said(headers, name, hops) for name in (b"x-forwarded-proto", b"x-forwarded-host"))
        return Way(tuple(chain), _SCHEMES.get(scheme.lower()), host.encode("latin-1") or None)

    def _chain(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
        """Return the client's address and those of the proxies behind it, the last of which is the trusted ``peer``."""
        chain = [peer]
        for text in reversed(_entries(headers, self._header)):
            address = _read(_parameter(text, "for") if self._header == b"forwarded" else text)
            if address is None:
                break
            chain.append(address)
            if address not in self._networks:
                break
        chain.reverse()
        return chain


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


def _entries(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """Return the last entries of a list, over all its lines. A comma always divides, also in quotes: so nothing that
    stands before the entry of a trusted proxy can swallow it."""
    lines = [value for each, value in headers if each == name]
    return [entry.decode("latin-1").strip() for entry in b",".join(lines).split(b",")[-_HOPS:]]


def _said(headers: Sequence[tuple[bytes, bytes]], name: bytes, hops: int) -> str:
    """Return what the outermost of ``hops`` trusted proxies said, or the outermost that said anything."""
    values = _entries(headers, name)
    return values[-min(hops, len(values))]


def _parameter(element: str, wanted: str) -> str:
    """Return a parameter of an element of ``Forwarded`` (RFC 7239 section 4); empty without it."""
    for pair in element.split(";"):
        name, _, value = pair.strip().partition("=")
        if name.strip().lower() == wanted:
            return value.strip().strip('"')
    return ""
