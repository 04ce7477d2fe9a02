"""Before the handshake: how many sockets a process takes in a storm.

A storm is many clients that come back at once, after a restart or a network's fault. Who is refused here has cost next
to nothing: no token was verified, nothing decoded, no WebSocket made. Each is given a time of his own to come back at.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from time import monotonic

from app.auth.peer import Peers, address_group
from app.config import StormConfig
from app.ws.rates import Bucket, Buckets, Rate

__all__ = ["STATE_KEY", "Gate"]

STATE_KEY = "tidegate.gate"
"""Key of the lifespan's state under which connections find the gate."""
_ADDRESSES = 10_000
"""Addresses whose handshakes are counted."""


class Gate:
    """The handshakes of one process."""

    def __init__(self, config: StormConfig, peers: Peers, clock: Callable[[], float] = monotonic) -> None:
        self._config = config
        self._peers = peers
        self._clock = clock
        self._rate = Rate(config.accept_rate, config.accept_burst)
        self._bucket = Bucket()
        self._addresses = None
        if config.per_ip_rate:
            self._addresses = Buckets(Rate(config.per_ip_rate, config.per_ip_burst), _ADDRESSES)
        self.at_work = 0
        """Handshakes that have begun and have not ended."""
        self.refused = 0

    def refuse(self, peer: str | None, headers: Sequence[tuple[bytes, bytes]]) -> int:
        """Let one more handshake begin and return 0, or return after how many seconds it may be tried again.

        ``peer`` is the connection's address; ``headers`` have lower-case names.
        """
        now = self._clock()
        if self.at_work >= self._config.at_once or self._bucket.wait(self._rate, 1, now) > 0:
            return self._refusal()
        if self._addresses is not None:
            address = self._peers.address(peer, headers)
            if address and not self._addresses.take(address_group(address), now):
                return self._refusal()
        self._bucket.take(self._rate, 1, now)
        return 0

    def _refusal(self) -> int:
        self.refused += 1
        return random.randint(1, self._config.retry_after)
