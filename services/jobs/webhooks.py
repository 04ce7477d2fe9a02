"""Events of a job to an address that its client named, signed as Standard Webhooks does.

An address is only called when the operator listed its host: otherwise the service would fetch whatever a stranger says,
from inside the operator's network. Progress and previews go at most twice a second; the terminal event always goes,
and is sent again, at growing intervals, when it is not taken.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import time
from contextlib import aclosing
from urllib.parse import urlsplit

import httpx
import orjson
from pydantic import SecretStr

from services.jobs.job import TERMINAL, Job, JobEvent
from services.web.errors import Invalid, Overloaded

__all__ = ["Webhooks", "signature"]

_log = logging.getLogger(__name__)
_INTERVAL = 0.5
_TRIES = 5
_TIMEOUT = 5.0
_MOST = 1000
"""Jobs at once whose events are sent."""


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """``v1,<base 64>``: HMAC-SHA256 over ``id.timestamp.body``. A secret ``whsec_…`` is base 64 after its prefix."""
    encoded = secret.removeprefix("whsec_")
    key = base64.b64decode(encoded) if encoded != secret else secret.encode()
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


class Webhooks:
    """Sends to ``hosts`` alone (``name`` or ``name:port``), with ``secret``."""

    def __init__(self, hosts: tuple[str, ...], secret: SecretStr | None) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._secret = secret
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False, trust_env=False)

    def check(self, url: str, field: str = "callback_url") -> None:
        """Raise ``Invalid`` unless events may be sent there, ``Overloaded`` when too many are."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise Invalid(f"{field} is no address.", field) from None
        host = (parts.hostname or "").lower()
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise Invalid(f"{field} must be of the form https://host/path.", field)
        if self._secret is None or not {host, f"{host}:{port}"} & self._hosts:
            raise Invalid(f"{field}: this service sends no events to that host.", field)
        if len(self._tasks) >= _MOST:
            raise Overloaded("Too many jobs report their events already. Try again in a moment.")

    def follow(self, job: Job, url: str) -> None:
        """Send the events of ``job`` to ``url``, which was checked."""
        task = asyncio.get_running_loop().create_task(self._follow(job, url), name=f"webhook {job.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, grace: float = 2.0) -> None:
        """Give what is being sent ``grace`` seconds, then end it."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._client.aclose()

    async def _follow(self, job: Job, url: str) -> None:
        async with aclosing(job.follow()) as events:
            async for event in events:
                final = event.type in TERMINAL
                for attempt in range(_TRIES if final else 1):
                    if await self._send(job, url, event):
                        break
                    await asyncio.sleep(0 if not final else 0.5 * 2**attempt)
                if not final:
                    await asyncio.sleep(_INTERVAL)  # Meanwhile newer events replace older ones of their kind.

    async def _send(self, job: Job, url: str, event: JobEvent) -> bool:
        assert self._secret is not None, "checked before the job was taken"
        body = orjson.dumps({"type": event.type, "job_id": job.id, "seq": event.number, **event.data})
        message_id, timestamp = f"{job.id}.{event.number}", str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(self._secret.get_secret_value(), message_id, timestamp, body),
        }
        try:
            response = await self._client.post(url, content=body, headers=headers)
        except httpx.HTTPError as error:
            _log.warning("events of job %s were not taken: %s", job.id, type(error).__name__)
            return False
        return response.is_success
