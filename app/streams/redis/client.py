"""redis-py for all that is not on the hot path, with one error for whatever goes wrong.

The scripts' sources lie in ``lua/``; each begins with what it takes and returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from app.errors import BrokerUnavailable

__all__ = ["Client", "Script"]

_CONNECTIONS = 32
"""At most so many at once; who comes then waits."""


class Script(Enum):
    """The atomic steps. ``sha`` is the name under which Redis keeps ``source``."""

    APPEND = "append"
    CLAIM = "claim"
    ENTER = "enter"
    EXPIRED = "expired"
    HISTORY = "history"
    LEASE = "lease"
    LEAVE = "leave"
    MARK = "mark"
    MARKS = "marks"
    PAGE = "page"
    POSITIONS = "positions"
    PRESENT = "present"
    PRESENT_COUNT = "present_count"
    PUBLISH = "publish"
    RENEW = "renew"
    SEAL = "seal"
    SLOTS_ENTER = "slots_enter"
    SLOTS_RENEW = "slots_renew"
    SLOTS_TRADE = "slots_trade"

    def __init__(self, name: str) -> None:
        self.source = (files(__package__) / "lua" / f"{name}.lua").read_bytes()
        self.sha = sha1(self.source, usedforsecurity=False).hexdigest()


class Client:
    """Commands that fail within their timeouts (seconds) rather than wait. Replies are bytes, ints, lists and None.

    Every method raises :exc:`~app.errors.BrokerUnavailable`, and nothing else, when Redis does not do as it was asked.
    Nothing is sent twice: a publication whose answer got lost may have happened.
    """

    def __init__(self, url: str, *, connect_timeout: float, command_timeout: float) -> None:
        self.url = url
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=command_timeout,
            socket_connect_timeout=connect_timeout,
            socket_timeout=command_timeout,
            health_check_interval=30,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis.from_pool(pool)
        self._redis.response_callbacks.clear()

    async def close(self) -> None:
        await self._redis.aclose()

    async def command(self, *command: Any) -> Any:
        with _translated():
            return await self._send(*command)

    async def script(self, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        with _translated():
            try:
                return await self._send("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await self._send("EVAL", script.source, len(keys), *keys, *arguments)

    async def scripts(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Run ``script`` for each (keys, arguments) in one round trip. Where Redis does not know it, all run again."""
        if not calls:
            return []
        commands = [("EVALSHA", script.sha, len(keys), *keys, *arguments) for keys, arguments in calls]
        try:
            return await self.pipeline(commands)
        except BrokerUnavailable as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
            return await self.pipeline([("SCRIPT", "LOAD", script.source), *commands])

    async def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send ``commands`` in one round trip and return their replies in order."""
        with _translated():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return await pipeline.execute()

    async def _send(self, *command: Any) -> Any:
        return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise BrokerUnavailable from error
