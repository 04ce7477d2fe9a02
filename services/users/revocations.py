"""Telling the gateway of sessions that have ended, until it has heard.

That a session has ended is stored first. From there the gateway is told by its server API (``revoke`` by session, which
closes the session's sockets on every replica and refuses its tokens), at once where it answers, else with growing
pauses, and also after a restart of this service. When the last access token of a session has expired there is nothing
left to tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

import httpx

from services.users.accounts import Accounts
from services.users.records import Ended
from services.web.errors import ApiError

__all__ = ["Revocations"]

_BATCH = 100
_PATIENCE = 2.0
"""Seconds that a logout waits for the gateway. It goes on in the background."""
_TIMEOUT = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
_FORGET_EVERY = 3600.0
_log = logging.getLogger(__name__)


class Revocations:
    """``url`` and ``key`` are the gateway's; without them nobody is told. Tokens live ``access_seconds``."""

    def __init__(self, accounts: Accounts, url: str | None, key: str | None, access_seconds: float) -> None:
        self._accounts = accounts
        self._url = url
        self._key = key or ""
        self._access_seconds = access_seconds
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

    async def start(self) -> None:
        """Begin to tell, first what a former process did not."""
        self._wake.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="revocations")

    async def close(self) -> None:
        """Stop; what was not told is told after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def tell(self) -> None:
        """Return when the gateway has heard of all that ended until now, or after two seconds."""
        if self._url is None:
            return
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(heard)
        self._wake.set()
        await asyncio.wait([heard], timeout=_PATIENCE)
        heard.cancel()

    async def _run(self) -> None:
        forgotten = 0.0
        async with httpx.AsyncClient(timeout=_TIMEOUT, headers={"x-api-key": self._key}, trust_env=False) as client:
            while True:
                await self._pause()
                self._wake.clear()
                # Whoever comes from here on waits for the next round: this one may have read before he wrote.
                waiting, self._waiting = self._waiting, []
                if await self._tell_all(client):
                    for heard in waiting:
                        if not heard.done():
                            heard.set_result(None)
                else:
                    self._waiting = [heard for heard in waiting if not heard.done()] + self._waiting
                if time.time() - forgotten > _FORGET_EVERY:
                    forgotten = time.time()
                    with contextlib.suppress(ApiError):
                        await self._accounts.forget(forgotten)

    async def _pause(self) -> None:
        """Until there is something to tell; after a failure for a while, whatever there is."""
        if self._failures:
            await asyncio.sleep(min(_FIRST_PAUSE * 2 ** min(self._failures - 1, 10), _LONGEST_PAUSE))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_PAUSE):
                await self._wake.wait()

    async def _tell_all(self, client: httpx.AsyncClient) -> bool:
        """Returns whether the gateway knows of everything."""
        try:
            while ended := await self._accounts.untold(_BATCH):
                oldest = time.time() - self._access_seconds
                alive = [one for one in ended if one.revoked_at > oldest]
                if alive and self._url is not None:
                    await self._post(client, alive)
                await self._accounts.told([one.id for one in ended])
        except (ApiError, httpx.HTTPError, _Refused) as error:
            self._failures += 1
            if self._failures == 1:
                _log.warning("the gateway could not be told of ended sessions, and will be: %s", type(error).__name__)
            return False
        self._failures = 0
        return True

    async def _post(self, client: httpx.AsyncClient, ended: Sequence[Ended]) -> None:
        commands = [
            {"revoke": {"session": one.id, "expire_at": int(one.revoked_at + self._access_seconds) + 1}}
            for one in ended
        ]
        answer = await client.post(f"{self._url}/api/batch", json={"commands": commands})
        if answer.status_code != 200 or any("error" in next(iter(it.values())) for it in _replies(answer)):
            raise _Refused


class _Refused(Exception):
    """The gateway answered that it did not do it."""


def _replies(answer: httpx.Response) -> list[dict[str, dict[str, object]]]:
    try:
        replies: list[dict[str, dict[str, object]]] = answer.json()["replies"]
    except (ValueError, KeyError, TypeError):
        raise _Refused from None
    return replies
