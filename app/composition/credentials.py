"""What the gateway takes for who somebody is: tokens, tickets and keys of services, and what was revoked of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.auth.revocation import Revocation, Revocations
from app.auth.service_keys import ServiceKeys
from app.auth.tickets import Tickets
from app.auth.tokens import TokenVerifier
from app.config import Config
from app.http.access import kept_claims
from app.observe.tasks import TaskSet
from app.streams.backend import Backend

__all__ = ["Credentials"]


class Credentials:
    """Follow it to keep issuers' keys fresh; close it at the end."""

    def __init__(
        self, config: Config, backend: Backend, tell: Callable[[Revocation], Awaitable[None]], tasks: TaskSet
    ) -> None:
        """``tell`` tells the other replicas of a revocation."""
        self._config = config
        self._tasks = tasks
        self._followers: list[asyncio.Task[None]] = []
        self.revocations = Revocations(config.auth, backend.revocations, tell)
        self.verifier = TokenVerifier(config.auth, kept_claims(config.routes), self.revocations.revoked)
        self.tickets = Tickets(backend.keys, config.auth.ticket_ttl, self.revocations.revoked)
        self.service_keys = ServiceKeys(_service_keys(config))

    def prepare(self, config: Config) -> Callable[[], None]:
        """Return what makes these the ones of ``config``, at once. Raises :exc:`~app.errors.ConfigError` before."""
        before, claims = self._config, kept_claims(config.routes)
        verifier = None
        if config.auth != before.auth or claims != kept_claims(before.routes):
            verifier = self.verifier.prepare(config.auth, claims)

        def take() -> None:
            if verifier is not None:
                for source in self.verifier.sources:
                    self._tasks.start(source.close(), "end of keys of issuers")
                verifier()
                self.follow()
            self.service_keys.take(_service_keys(config))
            self._config = config

        return take

    def follow(self) -> None:
        """Keep the keys of the verifier's issuers fresh, and no others."""
        for follower in self._followers:
            follower.cancel()
        self._followers = [self._tasks.start(source.follow(), "keys of issuers") for source in self.verifier.sources]

    async def close(self) -> None:
        for source in self.verifier.sources:
            await source.close()


def _service_keys(config: Config) -> list[str]:
    return [key.get_secret_value() for key in config.auth.service_keys.values()]
