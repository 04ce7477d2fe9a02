"""The REST calls of a recording, in step with its sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from loadtests.replay.correlation import Names
from loadtests.replay.options import Options
from loadtests.replay.plan import Step
from loadtests.replay.run import microseconds
from loadtests.replay.tally import Tally
from loadtests.replay.tokens import Tokens, TokensFailed

__all__ = ["Rest"]

_OWN = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "cookie", "authorization"}
"""Headers that are not sent as they were recorded."""
_CONNECTIONS = 256
_TIMEOUT = 60.0


class Rest:
    """Calls of all users of a process. Use it as an async context manager."""

    def __init__(self, options: Options, tokens: Tokens, tally: Tally) -> None:
        self._tokens = tokens
        self._tally = tally
        self._base = options.rest_url or _http(options.urls[0])
        limits = httpx.Limits(max_connections=_CONNECTIONS)
        self._client = httpx.AsyncClient(limits=limits, timeout=_TIMEOUT, verify=not options.insecure, trust_env=False)

    async def __aenter__(self) -> Rest:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    async def call(
        self,
        step: Step,
        names: Names,
        number: int,
        scheduled: int,
        answered: set[int],
        progress: Callable[[], None],
    ) -> None:
        """Make a recorded call, and compare its answer with the recorded one."""
        try:
            status, body = await self._ask(step, names, number)
            self._tally.times["rest"].add(microseconds() - scheduled)
            self._compare(step, names, status, body)
        except httpx.HTTPError as error:
            self._tally.unanswered += 1
            self._tally.note("errors", f"{step.body.method}: {type(error).__name__}")
        except TokensFailed as error:
            self._tally.note("refusals", f"no token: {error}")
        finally:
            answered.add(step.index)
            progress()

    async def _ask(self, step: Step, names: Names, number: int) -> tuple[int, bytes]:
        recorded = step.body
        parts = urlsplit(names.translate(recorded.url))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        token = await self._tokens.get(number)
        headers = {name: names.translate(value) for name, value in recorded.headers.items() if name not in _OWN}
        if token and "authorization" in recorded.headers:
            headers["authorization"] = f"Bearer {token}"
        body = recorded.body
        if isinstance(body, str) and body:
            try:
                body = orjson.dumps(names.translate(orjson.loads(body)))
            except orjson.JSONDecodeError:
                body = body.encode()
        self._tally.commands += 1
        answer = await self._client.request(recorded.method, self._base + target, headers=headers, content=body or None)
        return answer.status_code, answer.content

    def _compare(self, step: Step, names: Names, status: int, body: bytes) -> None:
        what = f"{step.body.method} {urlsplit(step.body.url).path}"
        if status >= 400:
            self._tally.note("errors", f"{what}: {status}")
        if step.answer is None:
            return
        if step.answer.error != str(status):
            self._tally.note("divergences", f"{what} is answered {status}; recorded: {step.answer.error}")
            return
        value: Any = None
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        names.learn(step.answer.value, value)


def _http(url: str) -> str:
    parts = urlsplit(url)
    return f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"
