"""Wrong passwords, counted. Pure: ``now`` is in seconds of any clock that does not go back.

Each counts for the account as it was named, for the address, and for the two together, whether or not there is such
an account. Who exceeds one of the three is refused before any password is looked at. So a guesser at one address gets
few guesses, many addresses together get some more, and an account's owner elsewhere is not locked out by the first.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict

__all__ = ["Attempts"]

_REMEMBERED = 100_000
_SHARED = 10
"""An account or an address alone may have so many times what the two together may."""


class Attempts:
    """``limit`` failures within ``window`` seconds."""

    def __init__(self, limit: int, window: float, remembered: int = _REMEMBERED) -> None:
        self._limit = limit
        self._window = window
        self._remembered = remembered
        self._failures: OrderedDict[bytes, tuple[float, int]] = OrderedDict()
        """By what failed: when its window began, and how often since."""

    def wait(self, account: str, address: str, now: float) -> int:
        """Whole seconds until the next try is allowed; 0 for now."""
        longest = 0.0
        for key, limit in self._keys(account, address):
            begun, count = self._failures.get(key, (now, 0))
            if count >= limit and begun + self._window > now:
                longest = max(longest, begun + self._window - now)
        return math.ceil(longest)

    def failed(self, account: str, address: str, now: float) -> None:
        """Count a wrong password. To be called before the password is checked, so that tries at once all count."""
        for key, _ in self._keys(account, address):
            begun, count = self._failures.pop(key, (now, 0))
            if begun + self._window <= now:
                begun, count = now, 0
            self._failures[key] = begun, count + 1
        while len(self._failures) > self._remembered:
            self._failures.popitem(last=False)

    def succeeded(self, account: str, address: str) -> None:
        """Take back what ``failed`` counted for this try, and forget the account's failures from there."""
        self.undecided(account, address)
        self._failures.pop(self._keys(account, address)[0][0], None)

    def undecided(self, account: str, address: str) -> None:
        """Take back what ``failed`` counted: whether the password was wrong could not be found out."""
        for key, _ in self._keys(account, address):
            if key in self._failures:
                begun, count = self._failures[key]
                self._failures[key] = begun, max(0, count - 1)

    def _keys(self, account: str, address: str) -> tuple[tuple[bytes, int], ...]:
        parts = (f"{account}\n{address}", f"{account}\n", f"\n{address}")
        limits = (self._limit, self._limit * _SHARED, self._limit * _SHARED)
        # Digests: an account's name may be long, or not be one at all but a password in the wrong field.
        digests = (hashlib.blake2b(part.encode(errors="replace"), digest_size=16).digest() for part in parts)
        return tuple(zip(digests, limits, strict=True))
