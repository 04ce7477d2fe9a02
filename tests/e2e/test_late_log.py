"""A log, or a subscription, that is late is waited for: nobody has to begin again because of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from tests.support.client import connected
from tests.support.gateway import running, settings
from tests.support.upstream import in_parts, scripted
from tests.support.valkey import ValkeyServer

TOKENS = [f" tok{number}" if number % 7 else f" ∂{number}😀" for number in range(40)]


class SlowLine:
    """Stands between a gateway and Valkey. While it is held, what would go to Valkey waits on chosen connections."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._free = asyncio.Event()
        self._free.set()
        self._word = b""
        self.held = asyncio.Event()
        """Set as soon as something waits."""

    def hold(self, word: bytes = b"") -> None:
        """Hold back what has ``word`` in it, and all behind that on its connection."""
        self._word = word
        self.held.clear()
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, out: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if out and not self._free.is_set() and self._word in data:
                    self.held.set()
                    await self._free.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._target)
        both = (self.pump(reader, up_writer, out=True), self.pump(up_reader, writer, out=False))
        try:
            await asyncio.gather(*both, return_exceptions=True)
        finally:
            writer.close()
            up_writer.close()


@contextlib.asynccontextmanager
async def slow_line(valkey: ValkeyServer) -> AsyncIterator[tuple[SlowLine, str]]:
    line = SlowLine(urlsplit(valkey.url).path)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    try:
        yield line, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        line.release()
        server.close()


def shared(upstream: str, url: str, prefix: str, **broker: float):
    generations = {"lease": 20.0, "kinds": {"chat": {"upstream": "chat"}}}
    return settings(upstream, broker={"redis_url": url, "key_prefix": prefix, **broker}, generations=generations)


async def test_who_is_ahead_of_a_log_that_is_seconds_late_goes_on_where_he_was(
    valkey: ValkeyServer, prefix: str
) -> None:
    go_on, end = asyncio.Event(), asyncio.Event()
    script = in_parts(TOKENS[:5], go_on, TOKENS[5:35], end, TOKENS[35:])
    async with (
        slow_line(valkey) as (line, url),
        scripted(script) as upstream,
        running(shared(upstream.url, url, prefix)) as a,
        running(shared(upstream.url, valkey.url, prefix)) as b,
    ):
        async with connected(a) as client:
            stream = await client.generate()
            await client.until(stream, lambda s: s.offset >= 5)
            line.hold()
            go_on.set()
            await client.until(stream, lambda s: s.offset >= 30)
            client.cut()
        async with connected(b) as client:
            asked = asyncio.create_task(client.resume(stream))
            done, _ = await asyncio.wait({asked}, timeout=3.0)
            assert not done, "the log is late, and no reason to begin again"
            line.release()
            answers = await asked
            assert answers[stream.generation_id]["recovered"]
            end.set()
            await client.finish(stream)
    stream.check_receipt()
    assert stream.text == "".join(TOKENS)


async def test_a_subscription_that_is_late_after_a_resume_is_no_gap(valkey: ValkeyServer, prefix: str) -> None:
    go_on = asyncio.Event()
    script = in_parts(TOKENS[:20], go_on, TOKENS[20:])
    async with (
        slow_line(valkey) as (line, url),
        scripted(script) as upstream,
        running(shared(upstream.url, valkey.url, prefix)) as a,
        running(shared(upstream.url, url, prefix, command_timeout=0.5)) as b,
    ):
        async with connected(a) as client:
            stream = await client.generate()
            await client.until(stream, lambda s: s.text == "".join(TOKENS[:20]))
            client.cut()
        async with connected(b) as client:
            line.hold(b"SUBSCRIBE")
            answers = await client.resume(stream)
            assert answers[stream.generation_id]["recovered"]
            await line.held.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.2):
                    message = await client.receive_until(lambda message: message["type"] == "gap")
                    pytest.fail(f"nothing was lost: {message}")
            line.release()
            go_on.set()
            await client.finish(stream)
    stream.check_receipt()
    assert stream.text == "".join(TOKENS)
