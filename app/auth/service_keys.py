"""Keys by which services prove that they are ours: upstreams that report, and callers of routes for services. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from app.errors import InvalidServiceKey

__all__ = ["SERVICE_KEY_HEADERS", "ServiceKeys"]

SERVICE_KEY_HEADERS = (b"x-service-key", b"x-internal-key")


class ServiceKeys:
    """The keys that are good."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self.take(keys)

    def take(self, keys: Iterable[str]) -> None:
        """From now on these are the good ones."""
        self._keys = [key.encode() for key in keys if key]

    def check(self, received: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise :exc:`~app.errors.InvalidServiceKey` unless the headers hold one of the keys, once.

        ``received`` has lower-case names. It takes as long for each key, and for none.
        """
        shown = [value for name, value in received if name in SERVICE_KEY_HEADERS]
        given = shown[0] if len(shown) == 1 else b""
        if not any([hmac.compare_digest(key, given) for key in self._keys]):  # noqa: C419
            raise InvalidServiceKey
