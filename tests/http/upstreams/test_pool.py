"""Which targets get requests, over real sockets: balance, ejection, panic, names with several addresses."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

import pytest

from app.errors import CircuitOpen, UpstreamUnreachable
from tests.http.support import answers, free_port, ok, raw_server, read_request
from tests.http.upstreams.support import NO_BREAKER, Upstream, get, reset, status, transport
from tests.support.waiting import eventually

NO_RETRIES = {"count": 0}


# Balance.


async def test_weights_are_followed():
    async with (
        raw_server(answers(ok(b"a"))) as a,
        raw_server(answers(ok(b"b"))) as b,
        transport(f"{a.url} weight=3", b.url, strategy="weighted_round_robin") as client,
    ):
        assert Counter([(await get(client))[1] for _ in range(40)]) == {b"a": 30, b"b": 10}


async def test_least_connections_spares_the_slow():
    async def slow(reader, writer):
        while True:
            await read_request(reader)
            await asyncio.sleep(0.2)
            writer.write(ok(b"slow"))

    async with (
        raw_server(slow) as a,
        raw_server(answers(ok(b"quick"))) as b,
        transport(a.url, b.url, strategy="least_connections", random=random.random) as client,
    ):

        async def one_by_one():
            return [(await get(client))[1] for _ in range(10)]

        bodies = await asyncio.gather(*(one_by_one() for _ in range(4)))
        assert Counter(body for several in bodies for body in several)[b"slow"] <= 15


# Health.


async def test_a_failing_target_is_ejected_and_gets_nothing_until_its_time_is_over():
    ill, well = Upstream("503", failing=range(3)), Upstream(failing=())
    health = {"consecutive_failures": 3, "ejection_time": 0.4}
    async with (
        raw_server(ill) as a,
        raw_server(well) as b,
        transport(a.url, b.url, health=health, retries=NO_RETRIES, breaker=NO_BREAKER) as client,
    ):
        assert [(await get(client))[0] for _ in range(6)] == [503, 200] * 3
        assert client.figures("u")["available"] == 1
        assert [(await get(client))[0] for _ in range(20)] == [200] * 20
        assert len(ill.seen) == 3
        await eventually(lambda: client.figures("u")["available"] == 2)
        assert [(await get(client))[0] for _ in range(4)] == [200] * 4
        assert len(ill.seen) == 5


async def test_no_more_than_the_share_is_ejected():
    upstreams = [Upstream("503") for _ in range(4)]
    health = {"consecutive_failures": 1, "max_ejected_percent": 50, "panic_percent": 0}
    async with (
        raw_server(upstreams[0]) as a,
        raw_server(upstreams[1]) as b,
        raw_server(upstreams[2]) as c,
        raw_server(upstreams[3]) as d,
        transport(a.url, b.url, c.url, d.url, health=health, retries=NO_RETRIES, breaker=NO_BREAKER) as client,
    ):
        for _ in range(40):
            await get(client)
        assert client.figures("u")["available"] == 2


async def test_in_panic_all_get_requests():
    upstreams = [Upstream("503") for _ in range(3)]
    health = {"consecutive_failures": 2, "max_ejected_percent": 100, "panic_percent": 50}
    async with (
        raw_server(upstreams[0]) as a,
        raw_server(upstreams[1]) as b,
        raw_server(upstreams[2]) as c,
        transport(a.url, b.url, c.url, health=health, retries=NO_RETRIES, breaker=NO_BREAKER) as client,
    ):
        for _ in range(40):
            await get(client)
        assert client.figures("u")["panic"]
        before = [len(upstream.seen) for upstream in upstreams]
        for _ in range(30):
            await get(client)
        assert [len(upstream.seen) - count for upstream, count in zip(upstreams, before, strict=True)] == [10, 10, 10]


async def test_without_panic_an_upstream_with_no_healthy_target_is_not_asked():
    upstreams = [Upstream("503") for _ in range(2)]
    health = {"consecutive_failures": 1, "max_ejected_percent": 100, "panic_percent": 0}
    async with (
        raw_server(upstreams[0]) as a,
        raw_server(upstreams[1]) as b,
        transport(a.url, b.url, health=health, retries=NO_RETRIES, breaker=NO_BREAKER) as client,
    ):
        for _ in range(2):
            await get(client)
        with pytest.raises(CircuitOpen) as caught:
            await get(client)
        assert 0 < caught.value.retry_after <= 1
        assert sum(len(upstream.seen) for upstream in upstreams) == 2


async def test_the_only_target_is_never_ejected():
    upstream = Upstream("503", failing=range(50))
    async with (
        raw_server(upstream) as server,
        transport(server.url, health={"consecutive_failures": 1}, retries=NO_RETRIES, breaker=NO_BREAKER) as client,
    ):
        assert Counter([(await get(client))[0] for _ in range(60)]) == {503: 50, 200: 10}


async def test_targets_that_die_and_come_back_cost_no_request():
    """One of two is restarted again and again under load."""
    port, well = free_port(), Upstream(failing=())

    async def restarts():
        for _ in range(5):
            writers = []

            async def serve(reader, writer, writers=writers):
                writers.append(writer)
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                    await Upstream(failing=())(reader, writer)
                writer.close()

            listener = await asyncio.start_server(serve, "127.0.0.1", port)
            await asyncio.sleep(0.05)
            listener.close()
            for writer in writers:
                reset(writer)
            await asyncio.sleep(0.05)

    async with raw_server(well) as server:
        targets = (server.url, f"http://127.0.0.1:{port}")
        retries = {"backoff": 0, "budget_percent": 100}
        async with transport(*targets, retries=retries, health={"ejection_time": 0.02}) as client:
            restarting = asyncio.ensure_future(restarts())
            while not restarting.done():
                answers = await asyncio.gather(*(get(client) for _ in range(10)))
                assert answers == [(200, b"well")] * 10


# Probes.


async def test_probes_take_a_target_out_and_bring_it_back():
    ill = [False]

    async def handler(reader, writer):
        while True:
            head, _ = await read_request(reader)
            writer.write(status(503) if ill[0] and b"get /health " in head else ok(b"a"))

    health = {"interval": 0.02, "healthy_after": 2, "unhealthy_after": 2}
    async with (
        raw_server(handler) as a,
        raw_server(answers(ok(b"b"))) as b,
        transport(a.url, b.url, health=health) as client,
    ):
        ill[0] = True
        await eventually(lambda: client.figures("u")["available"] == 1)
        assert {(await get(client))[1] for _ in range(10)} == {b"b"}
        ill[0] = False
        await eventually(lambda: client.figures("u")["available"] == 2)
        assert {(await get(client))[1] for _ in range(10)} == {b"a", b"b"}


async def test_a_probe_that_hangs_is_bad_and_holds_nothing():
    async def hangs(reader, writer):
        await read_request(reader)
        await reader.read()
        raise ConnectionResetError

    health = {"interval": 0.02, "timeout": 0.05, "unhealthy_after": 1, "panic_percent": 0}
    async with raw_server(hangs) as server, transport(server.url, health=health) as client:
        await eventually(lambda: client.figures("u")["available"] == 0)
        with pytest.raises(CircuitOpen):
            await get(client)
        await asyncio.wait_for(server.hung_up.wait(), 5)


# Names.


class Names:
    """A resolver that answers what a test says."""

    def __init__(self, *addresses):
        self.addresses = list(addresses)
        self.asked = 0

    async def __call__(self, host, port):
        self.asked += 1
        await asyncio.sleep(0)
        if not self.addresses:
            raise OSError("no such name")
        return self.addresses


async def test_each_address_of_a_name_is_a_target():
    async with raw_server(answers(ok(b"1"))) as one:
        second = await asyncio.start_server(Upstream(failing=()), "127.0.0.2", one.port)
        names = Names("127.0.0.1", "127.0.0.2")
        async with transport(f"http://several.test:{one.port}", resolve=names) as client:
            bodies = await asyncio.gather(*(get(client) for _ in range(10)))
            assert Counter(body for _, body in bodies) == {b"1": 5, b"well": 5}
            assert names.asked == 1
            assert client.figures("u")["targets"] == 2
        second.close()


async def test_the_name_stays_the_host_that_is_asked_for():
    upstream = Upstream(failing=())
    async with (
        raw_server(upstream) as server,
        transport(f"http://several.test:{server.port}", resolve=Names("127.0.0.1")) as client,
    ):
        await get(client)
    assert b"host: several.test:" in upstream.seen[0]


async def test_addresses_come_and_go_and_what_is_in_flight_ends_in_peace():
    go, seen = asyncio.Event(), []

    async def handler(reader, writer):
        while True:
            seen.append(await read_request(reader))
            if len(seen) > 1:
                writer.write(ok(b"old"))
                continue
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi")
            await go.wait()
            writer.write(b"ne")

    names = Names("127.0.0.1")
    async with raw_server(handler) as one:
        second = await asyncio.start_server(Upstream(failing=()), "127.0.0.2", one.port)
        async with transport(f"http://moving.test:{one.port}", resolve=names, dns_ttl=0.05) as client:
            response = await client.request("u", "GET", "/", (), b"")
            assert await response.read() == b"fi"
            assert await get(client) == (200, b"old")
            names.addresses = ["127.0.0.2"]
            async with asyncio.timeout(5):
                while await get(client) != (200, b"well"):
                    await asyncio.sleep(0.01)
            go.set()
            assert await response.read() == b"ne"
            await asyncio.wait_for(one.hung_up.wait(), 5)
        second.close()


async def test_a_name_that_cannot_be_found_any_more_keeps_its_addresses():
    names = Names("127.0.0.1")
    async with (
        raw_server(Upstream(failing=())) as server,
        transport(f"http://lost.test:{server.port}", resolve=names, dns_ttl=0.02) as client,
    ):
        assert await get(client) == (200, b"well")
        names.addresses = []
        for _ in range(5):
            await asyncio.sleep(0.02)
            assert await get(client) == (200, b"well")
        assert names.asked > 1


async def test_a_name_that_was_never_found_is_unreachable_and_asked_for_once_a_second_at_most():
    names = Names()
    async with transport("http://nowhere.test:80", resolve=names, retries=NO_RETRIES) as client:
        for _ in range(20):
            with pytest.raises(UpstreamUnreachable) as caught:
                await get(client)
            assert caught.value.code == "upstream_unreachable"
        assert names.asked <= 2


async def test_what_cannot_be_a_name_is_unreachable():
    async with transport(f"http://{'x' * 70}.test:80", retries=NO_RETRIES) as client:
        with pytest.raises(UpstreamUnreachable):
            await get(client)


async def test_the_system_knows_localhost():
    async with raw_server(answers(ok())) as server, transport(f"http://localhost:{server.port}") as client:
        for _ in range(10):
            assert await get(client, "POST", b"x") == (200, b"ok")
