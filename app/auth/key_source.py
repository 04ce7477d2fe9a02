"""The keys that an issuer publishes, kept here: fetched by HTTP in the background, asked for without waiting.

A set is fetched at the start, then each ``jwks_refresh`` seconds, and when a token names a key that is not among those
known: whoever can wait does so for that one fetch, all together. Between two fetches lies ``jwks_cooldown`` at least,
so that invented names make nobody ask the issuer more often; only as long as there never was a set do tries follow each
other faster. What was known stays through failures of any kind: no answer, a slow or a huge one, a redirect (which is
never followed), nonsense, or a set without keys.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import httpx
import structlog

from app.auth.discovery import discovery_url, read_discovery
from app.auth.jwks import MOST_BYTES, InvalidKeySet, read_key_set
from app.auth.keys import NamedKey, UnknownKey, VerificationKey, matching
from app.config import IssuerConfig
from app.errors import InvalidToken, KeysUnavailable
from app.observe.tasks import TaskSet

__all__ = ["KeySource"]

_log = structlog.get_logger(__name__)

_FIRST_PAUSE = 1.0
"""Seconds until the second try while there never was a set; doubled each time, up to the cool-down."""
_HOLDS = 3600.0
"""Seconds for which an issuer is not asked again where its keys are, if they can be had there."""
_HEADERS = {"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}


class Refused(Exception):
    """An answer that is not looked at."""


_FAULTS = (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, InvalidKeySet, Refused)


class KeySource:
    """:class:`~app.auth.keys.Keys` of a ``jwks_url``, or of the one that the issuer names. Run :meth:`follow` as a
    task, and close it at the end.

    ``clock`` gives seconds; ``on_change`` is called when other keys are known than before.
    """

    def __init__(self, config: IssuerConfig, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        assert config.publishes, "another issuer has its keys in the configuration"
        self._config = config
        self._found: str | None = None
        """Where the keys are, as the issuer says; nobody asks it where the configuration says."""
        self._look_again = float("-inf")
        self._name = name
        self._clock = clock
        self._keys: tuple[NamedKey, ...] = ()
        self._next_fetch = float("-inf")
        self._failures = 0
        """In a row."""
        self._tasks = TaskSet()
        self._fetching: asyncio.Task[None] | None = None
        self._client: httpx.AsyncClient | None = None
        self.fetches = 0
        self.on_change: Callable[[], None] = lambda: None

    # Keys

    def candidates(self, algorithm: str, name: str | None) -> Sequence[VerificationKey]:
        found = matching(self._keys, algorithm, name)
        if not found and not self._keys and self._fetching is None and self._clock() < self._next_fetch:
            raise KeysUnavailable(retry_after=max(1.0, self._next_fetch - self._clock()))
        if not found:
            raise UnknownKey(self)
        return found

    def nothing_fits(self, name: str | None) -> InvalidToken:
        """An issuer may give its keys no names: then a fresh one shows by a signature that none of them has made."""
        if name is not None and any(each.name == name for each in self._keys):
            return InvalidToken("The token's signature is wrong.")
        return UnknownKey(self)

    async def refresh(self) -> None:
        """Fetch, unless that was done a moment ago; wait with others for a fetch that is under way."""
        if self._fetching is None:
            if self._clock() < self._next_fetch:
                return
            self._fetching = self._tasks.start(self._fetch(), f"keys of {self._name}")
        await asyncio.wait([self._fetching])  # which does not cancel it when who waits is cancelled

    # For the composition.

    async def follow(self) -> None:
        """Keep the keys fresh, until cancelled."""
        while True:
            await self.refresh()
            pause = self._next_fetch - self._clock() if self._failures else self._config.jwks_refresh
            await asyncio.sleep(max(0.0, pause))

    async def close(self) -> None:
        """End a fetch that is under way, and its connection."""
        await self._tasks.close()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    # Private.

    async def _fetch(self) -> None:
        self.fetches += 1
        self._next_fetch = self._clock() + self._config.jwks_cooldown
        try:
            keys = read_key_set(await self._document(await self._place()), self._config.algorithms)
        except _FAULTS as error:
            self._failed(error)
        else:
            self._failures = 0
            self._take(keys)
        finally:
            self._fetching = None

    async def _place(self) -> str:
        """Return where the keys are. What was found once holds while the issuer does not say anything else."""
        if self._config.jwks_url is not None:
            return self._config.jwks_url
        issuer = self._config.issuer[0]
        if self._clock() >= self._look_again:
            try:
                self._found = read_discovery(await self._document(discovery_url(issuer)), issuer)
                self._look_again = self._clock() + _HOLDS
            except _FAULTS as error:
                if self._found is None:
                    raise
                _log.warning("an issuer's description can't be had", issuer=self._name, cause=_cause(error))
        assert self._found is not None, "it was found, or that was raised"
        return self._found

    def _failed(self, error: Exception) -> None:
        self._look_again = float("-inf")  # The keys may have moved.
        if not self._keys:
            pause = min(self._config.jwks_cooldown, _FIRST_PAUSE * 2.0 ** min(self._failures, 16))
            self._next_fetch = self._clock() + pause
        self._failures += 1
        known = len(self._keys)
        _log.warning("the keys of an issuer can't be had", issuer=self._name, cause=_cause(error), known=known)

    def _take(self, keys: tuple[NamedKey, ...]) -> None:
        if [_face(each) for each in keys] == [_face(each) for each in self._keys]:
            return
        self._keys = keys
        _log.info("an issuer's keys", issuer=self._name, keys=len(keys))
        self.on_change()

    async def _document(self, url: str) -> bytes:
        """Return the body of a good answer. Raises what :meth:`_fetch` knows."""
        if self._client is None:
            timeout = self._config.jwks_timeout
            self._client = httpx.AsyncClient(headers=_HEADERS, follow_redirects=False, timeout=timeout)
        async with (
            asyncio.timeout(self._config.jwks_timeout),
            self._client.stream("GET", url) as response,
        ):
            if response.status_code != 200:
                raise Refused(f"answered {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Refused("answered compressed, which was not asked for")
            body = b""
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MOST_BYTES:
                    raise Refused(f"answered more than {MOST_BYTES} bytes")
            return body


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, (InvalidKeySet, Refused)) else type(error).__name__


def _face(named: NamedKey) -> tuple[object, ...]:
    """Return what two keys are the same by."""
    assert not isinstance(named.key, bytes), "sets hold public keys"
    return named.name, named.algorithms, named.key
