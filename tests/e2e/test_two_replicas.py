"""Two replicas over a real Valkey: what one of them loses the other one has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from websockets.exceptions import ConnectionClosed

from app.streams.redis.layout import Layout
from tests.support.client import Client, Stream, connected
from tests.support.gateway import Gateway, Process, running, settings, two_replicas
from tests.support.upstream import Call, endless, in_parts, scripted
from tests.support.valkey import ValkeyServer

TOKENS = [f" tok{number}" if number % 7 else f" ∂{number}😀" for number in range(60)]
LEASE = 1.0


def shared(upstream: str, valkey: ValkeyServer, prefix: str):
    broker = {"redis_url": valkey.url, "key_prefix": prefix}
    return settings(upstream, broker=broker, generations={"lease": LEASE, "kinds": {"chat": {"upstream": "chat"}}})


def config_file(folder: Path, upstream: str, valkey: ValkeyServer, prefix: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(
        f'[server]\nlog_level = "error"\nplayground = false\ndrain_window = 0.5\ndrain_grace = 1.0\n'
        f'[broker]\nredis_url = "{valkey.url}"\nkey_prefix = "{prefix}"\n'
        f'[upstreams.chat]\ntargets = ["{upstream}"]\n'
        f'[generations]\nlease = {LEASE}\n[generations.kinds.chat]\nupstream = "chat"\n'
    )
    return path


async def test_a_socket_cut_at_every_token_comes_back_on_the_other_replica(valkey: ValkeyServer, prefix: str) -> None:
    async def script(call: Call) -> None:
        await call.answer(TOKENS, pause=0.004)

    async def cut_after(tokens: int, first: Gateway, second: Gateway) -> None:
        async with connected(first) as client:
            stream = await client.generate()
            await client.until(stream, lambda s: len(s.events) >= tokens + 1 or s.terminal is not None)
            client.cut()
        async with connected(second) as client:
            answers = await client.resume(stream)
            assert answers[stream.generation_id]["recovered"]
            if stream.terminal is None:
                await client.finish(stream)
        stream.check_receipt()
        assert stream.text == "".join(TOKENS)

    async with (
        scripted(script) as upstream,
        two_replicas(shared(upstream.url, valkey, prefix)) as (a, b),
    ):
        limit = asyncio.Semaphore(16)

        async def bounded(tokens: int) -> None:
            async with limit:
                await cut_after(tokens, *((a, b) if tokens % 2 else (b, a)))

        async with asyncio.TaskGroup() as group:
            for tokens in range(len(TOKENS) + 2):
                group.create_task(bounded(tokens))
    assert len(upstream.calls) == len(TOKENS) + 2


async def test_both_replicas_see_the_same_stream_at_the_same_time(valkey: ValkeyServer, prefix: str) -> None:
    async def script(call: Call) -> None:
        await call.answer(TOKENS, pause=0.002)

    async with (
        scripted(script) as upstream,
        two_replicas(shared(upstream.url, valkey, prefix)) as (a, b),
        connected(a) as here,
        connected(b) as there,
    ):
        stream = await here.generate()
        other = await there.subscribe(stream.generation_id)
        await asyncio.gather(here.finish(stream), there.finish(other))
    assert stream.text == other.text == "".join(TOKENS)


@pytest.fixture
async def killed(tmp_path: Path, valkey: ValkeyServer, prefix: str) -> AsyncIterator[tuple[Process, Gateway, Client]]:
    """A replica in a process of its own that can be killed, and a client on another one."""
    async with scripted(endless) as upstream, running(shared(upstream.url, valkey, prefix)) as survivor:
        process = await asyncio.to_thread(Process, config_file(tmp_path, upstream.url, valkey, prefix))
        try:
            async with connected(survivor) as client:
                yield process, survivor, client
        finally:
            await asyncio.to_thread(process.stop)


async def test_a_killed_replica_leaves_a_terminal_within_lease_and_two_seconds(
    killed: tuple[Process, Gateway, Client],
) -> None:
    process, _, client = killed
    async with connected(process) as owner:
        stream = await owner.generate()
        await owner.until(stream, lambda s: s.offset >= 5)
        watched = await client.subscribe(stream.generation_id)
        await client.until(watched, lambda s: s.offset >= 10)
        process.kill()
        async with asyncio.timeout(LEASE + 2):
            await client.finish(watched)
    assert watched.terminal is not None
    assert (watched.terminal["type"], watched.terminal["code"]) == ("failed", "interrupted")
    assert watched.terminal["retryable"] is True


async def test_a_replica_that_was_frozen_past_its_lease_cannot_write_any_more(
    killed: tuple[Process, Gateway, Client],
) -> None:
    process, _, client = killed
    async with connected(process) as owner:
        stream = await owner.generate()
        await owner.until(stream, lambda s: s.offset >= 5)
        watched = await client.subscribe(stream.generation_id)
        os.kill(process.process.pid, signal.SIGSTOP)
        try:
            await client.finish(watched)
        finally:
            os.kill(process.process.pid, signal.SIGCONT)
        assert watched.terminal is not None
        assert watched.terminal["code"] == "interrupted"
        # The sealed log is what everybody gets from now on, the frozen replica's own listener too: he is told.
        gap = await owner.receive_until(lambda message: message["type"] == "gap")
        assert gap["generation_id"] == stream.generation_id
        again = await owner.finish(await owner.subscribe(stream.generation_id))
        assert again.text == watched.text
        assert again.terminal == watched.terminal


async def test_a_stopped_replica_ends_its_generations_before_it_goes(killed: tuple[Process, Gateway, Client]) -> None:
    process, _, client = killed
    async with connected(process) as owner:
        stream = await owner.generate()
        await owner.until(stream, lambda s: s.offset >= 3)
        watched = await client.subscribe(stream.generation_id)
        owner.cut()
    process.process.terminate()
    await client.finish(watched)
    assert watched.terminal is not None
    assert watched.terminal["code"] == "interrupted"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same replica", "other replica"])
@pytest.mark.parametrize("first", ["before the first token", "between tokens"])
async def test_cancel_reaches_the_upstream_within_a_second(
    valkey: ValkeyServer, prefix: str, first: str, elsewhere: bool
) -> None:
    async def script(call: Call) -> None:
        if first == "before the first token":
            await asyncio.Event().wait()
        await endless(call)

    async with (
        scripted(script) as upstream,
        two_replicas(shared(upstream.url, valkey, prefix)) as (a, b),
        connected(a) as here,
        connected(b) as there,
    ):
        stream = await here.generate()
        call = await upstream.call()
        if first == "between tokens":
            await here.until(stream, lambda s: s.offset >= 3)
        canceller = there if elsewhere else here
        async with asyncio.timeout(1):
            reply = await canceller.command("cancel", generation_id=stream.generation_id)
            await call.closed.wait()
        assert reply["status"] == "cancelled"
        await here.finish(stream)
        assert stream.terminal is not None
        assert (stream.terminal["type"], stream.terminal["by"]) == ("cancelled", "user")
        async with asyncio.timeout(10):  # The owner tells its own listeners first, and then the log.
            while (await canceller.command("cancel", generation_id=stream.generation_id))["status"] != "finished":
                pass


@pytest.mark.parametrize("second", ["none", "same replica", "other replica"])
@pytest.mark.parametrize("policy", ["continue", "cancel", "cancel_after:0.5"])
async def test_the_last_listener_decides_over_all_replicas(
    valkey: ValkeyServer, prefix: str, policy: str, second: str
) -> None:
    async with (
        scripted(endless) as upstream,
        two_replicas(shared(upstream.url, valkey, prefix)) as (a, b),
    ):
        async with connected(b if second == "other replica" else a) as other:
            async with connected(a) as asker:
                stream = await asker.generate(on_last_disconnect=policy)
                await asker.until(stream, lambda s: s.offset >= 3)
                watched = Stream(stream.generation_id)
                if second != "none":
                    watched = await other.subscribe(stream.generation_id)
                asker.cut()
            call = upstream.calls[0]
            if second != "none":
                # With one listener left the stream goes on, for longer than any policy here waits.
                until = asyncio.get_running_loop().time() + 1.2
                while asyncio.get_running_loop().time() < until:
                    await other.receive()
                assert not call.closed.is_set()
                other.cut()
        if policy == "continue":
            async with connected(b) as late:
                watched = await late.subscribe(stream.generation_id)
                await late.until(watched, lambda s: s.offset > stream.offset + 20)
                assert not call.closed.is_set()
        else:
            async with asyncio.timeout(1.0 + (0.5 if policy != "cancel" else 0)):
                await call.closed.wait()
            async with connected(b) as late:
                ended = await late.finish(await late.subscribe(stream.generation_id))
            assert ended.terminal is not None
            assert (ended.terminal["type"], ended.terminal["by"]) == ("cancelled", "disconnect")


async def test_redis_may_go_away_for_a_while(valkey: ValkeyServer, prefix: str) -> None:
    go_on = asyncio.Event()
    script = in_parts(TOKENS[:20], go_on, TOKENS[20:])
    async with (
        scripted(script) as upstream,
        two_replicas(shared(upstream.url, valkey, prefix)) as (a, b),
        connected(a) as here,
        connected(b) as there,
    ):
        stream = await here.generate()
        watched = await there.subscribe(stream.generation_id)
        await there.until(watched, lambda s: s.text == "".join(TOKENS[:20]))
        valkey.pause()
        try:
            go_on.set()
            await here.finish(stream)  # Its own listeners notice nothing.
        finally:
            valkey.resume()
        await there.finish(watched)
    assert stream.text == watched.text == "".join(TOKENS)


async def test_what_a_killed_replica_told_its_own_listeners_alone_is_taken_back(
    killed: tuple[Process, Gateway, Client], valkey: ValkeyServer, prefix: str
) -> None:
    """Its listener is ahead of the log for good: he must not be told that he has everything."""
    process, survivor, client = killed
    async with connected(process) as owner:
        stream = await owner.generate()
        await owner.until(stream, lambda s: s.offset >= 5)
        watched = await client.subscribe(stream.generation_id)
        async with redis.asyncio.Redis.from_url(valkey.url) as admin:
            before = (await admin.config_get("maxclients"))["maxclients"]
            await admin.config_set("maxclients", 1)  # Who is cut off now can't come back.
            await admin.client_kill_filter(_type="normal", skipme=True)
            try:
                top = await admin.hget(Layout(prefix).meta(f"gen:{stream.generation_id}"), "top")
                assert top is not None
                ahead = int(top) + 3  # The listener may be behind the log when the line is cut.
                await owner.until(stream, lambda s: s.offset >= ahead)
                process.kill()
                with contextlib.suppress(ConnectionClosed):  # What it had written before is on its way.
                    while True:
                        await owner.receive()
            finally:
                await admin.config_set("maxclients", before)
    await client.finish(watched)
    assert watched.offset <= stream.offset
    for offset in (watched.offset, stream.offset):  # At the terminal's offset he may hold another message.
        async with connected(survivor) as back:
            again = back.streams[stream.generation_id] = Stream(stream.generation_id, stream.epoch)
            position = {"epoch": stream.epoch, "offset": offset}
            reply = await back.command("subscribe_generation", generation_id=stream.generation_id, **position)
            assert (reply["recovered"], reply["offset"]) == (False, 0)
            await back.finish(again)
            resumed = await back.command("resume", streams={stream.generation_id: position})
            answer = resumed["streams"][stream.generation_id]
            assert (answer["status"], answer["recovered"], answer["offset"]) == ("finished", False, 0)
        assert again.text == watched.text
    assert stream.text.startswith(watched.text)
