"""Real requests to real servers that fail at every point: what is sent again, how often, and to whom."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from app.errors import CircuitOpen, UpstreamError, UpstreamInvalid, UpstreamTimeout, UpstreamTruncated
from tests.http.support import answers, free_port, ok, raw_server, read_request, stalls
from tests.http.upstreams.support import (
    NO_BREAKER,
    NO_EJECTION,
    NO_PAUSE,
    Upstream,
    get,
    read_all,
    reset,
    status,
    transport,
)
from tests.support.waiting import eventually


class Counts:
    """A meter that writes down what it is told."""

    def __init__(self):
        self.lines = []

    def __getattr__(self, what):
        return lambda *values: self.lines.append((what, *values))

    def of(self, what):
        return [line[1:] for line in self.lines if line[0] == what]


# Exactly once.


@pytest.mark.parametrize("reused", [False, True], ids=["a new connection", "a used connection"])
@pytest.mark.parametrize("how", Upstream.WAYS)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_request_that_is_not_idempotent_is_seen_once_wherever_it_fails(method, how, reused):
    upstream = Upstream(how, failing={2} if reused else {0})
    async with (
        raw_server(upstream) as server,
        transport(server.url, server.url + "/other", retries={"count": 5, **NO_PAUSE}, response_timeout=0.1) as client,
    ):
        if reused:
            await get(client)
            await get(client)
            assert client.connections("u") == (2, 2)
        try:
            response = await client.request("u", method, "/once", (), b"x")
            await read_all(response)
        except UpstreamError:
            pass
        await asyncio.sleep(0.02)
        assert sum(b" /once " in head or b" /other/once " in head for head in upstream.seen) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("how", ["closes", "resets", "half a head", "half a head, reset", "503"])
async def test_an_idempotent_request_gets_its_answer_by_another_try(method, how):
    upstream = Upstream(how, failing={0})
    async with raw_server(upstream) as server, transport(server.url, retries=NO_PAUSE) as client:
        response = await client.request("u", method, "/", (), b"x" if method == "PUT" else b"")
        assert response.status == 200
        response.abort()
        assert len(upstream.seen) == 2


@pytest.mark.parametrize("how", ["closes", "503"])
async def test_tries_are_no_more_than_one_and_the_retries(how):
    upstream = Upstream(how)
    async with (
        raw_server(upstream) as server,
        transport(server.url, retries={**NO_PAUSE, "count": 3}, breaker=NO_BREAKER) as client,
    ):
        try:
            assert await get(client) == (503, b"")
        except UpstreamInvalid:
            assert how == "closes"
        assert len(upstream.seen) == 4
        upstream.seen.clear()
        with pytest.raises(UpstreamInvalid) if how == "closes" else pytest.MonkeyPatch.context():
            await get(client, retries=1)
        assert len(upstream.seen) == 2


@pytest.mark.parametrize(("how", "error"), [("nonsense", UpstreamInvalid), ("stalls", UpstreamTimeout)])
async def test_nonsense_and_a_whole_timeout_are_not_worth_another_try(how, error):
    upstream = Upstream(how)
    async with raw_server(upstream) as server, transport(server.url, retries=NO_PAUSE, response_timeout=0.1) as client:
        with pytest.raises(error):
            await get(client)
        assert len(upstream.seen) == 1


async def test_nothing_is_sent_again_once_the_answer_has_begun():
    upstream = Upstream("half a body")
    async with raw_server(upstream) as server, transport(server.url, retries=NO_PAUSE) as client:
        response = await client.request("u", "GET", "/", (), b"")
        with pytest.raises(UpstreamTruncated):
            await read_all(response)
        assert len(upstream.seen) == 1


async def test_a_streamed_body_is_sent_to_the_first_target_that_can_be_connected_to():
    async def pieces():
        yield b"one"

    upstream = Upstream(failing=())
    dead = f"http://127.0.0.1:{free_port()}"
    async with raw_server(upstream) as server, transport(dead, server.url) as client:
        for _ in range(4):
            response = await client.request("u", "POST", "/", (), pieces())
            assert await read_all(response) == b"well"
    assert len(upstream.seen) == 4


async def test_a_target_that_is_just_starting_is_tried_again_also_for_a_post():
    port = free_port()

    async def serve_soon():
        await asyncio.sleep(0.1)
        return await asyncio.start_server(Upstream(failing=()), "127.0.0.1", port)

    retries = {**NO_PAUSE, "count": 10, "backoff": 10, "max_backoff": 0.1}
    async with transport(f"http://127.0.0.1:{port}", retries=retries, random=lambda: 0.5) as client:
        starting = asyncio.ensure_future(serve_soon())
        assert await get(client, "POST", b"x") == (200, b"well")
        (await starting).close()


async def test_retry_after_is_waited_for_or_the_answer_passed_on():
    answer, seen = [], []

    async def handler(reader, writer):
        while True:
            await read_request(reader)
            seen.append(time.monotonic())
            writer.write(answer.pop() if answer else ok())

    async with raw_server(handler) as server, transport(server.url, retries=NO_PAUSE) as client:
        answer.append(status(503, b"Retry-After: 1\r\n"))
        assert await get(client) == (200, b"ok")
        assert seen[1] - seen[0] >= 1
        answer.append(status(503, b"Retry-After: 60\r\n"))
        assert await get(client) == (503, b"")
        assert len(seen) == 3


async def test_another_target_is_preferred():
    ill, well = Upstream("503"), Upstream(failing=())
    async with (
        raw_server(ill) as a,
        raw_server(well) as b,
        transport(a.url, a.url + "/2", b.url, retries={**NO_PAUSE, "count": 2}, health=NO_EJECTION) as client,
    ):
        assert [(await get(client))[0] for _ in range(6)] == [200] * 6


async def test_the_client_gets_the_last_answer_if_the_try_after_it_fails():
    first, second = Upstream("503"), Upstream("closes")
    async with raw_server(first) as a, raw_server(second) as b, transport(a.url, b.url, retries=NO_PAUSE) as client:
        assert await get(client) == (503, b"")
        assert (len(first.seen), len(second.seen)) == (1, 1)


async def test_in_a_total_outage_the_upstream_gets_a_fifth_more_at_most():
    upstream, requests = Upstream("closes"), 300
    async with (
        raw_server(upstream) as server,
        transport(server.url, retries={"backoff": 0, "count": 5, "budget_min": 0}, breaker=NO_BREAKER) as client,
    ):
        answers = await asyncio.gather(*(get(client) for _ in range(requests)), return_exceptions=True)
        assert all(isinstance(answer, UpstreamInvalid) for answer in answers)
        assert requests < len(upstream.seen) <= 1.2 * requests


async def test_an_answer_that_another_try_replaced_is_hung_up_on():
    half, seen = b"HTTP/1.1 503 X\r\nContent-Length: 9\r\n\r\nhalf", []

    async def handler(reader, writer):
        while True:
            seen.append(await read_request(reader))
            writer.write(half if len(seen) == 1 else ok())

    async with raw_server(handler) as server, transport(server.url, retries=NO_PAUSE) as client:
        assert await get(client) == (200, b"ok")
        await asyncio.wait_for(server.hung_up.wait(), 5)
        assert client.connections("u") == (1, 1)


async def test_a_cancelled_pause_leaves_nothing_behind():
    async with raw_server(answers(b"HTTP/1.1 503 X\r\nContent-Length: 9\r\n\r\nhalf")) as server:
        retries = {**NO_PAUSE, "backoff": 1000, "max_backoff": 1000}
        async with transport(server.url, retries=retries, random=lambda: 0.5) as client:
            task = asyncio.ensure_future(get(client))
            await eventually(lambda: server.connections == 1)
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait([task])
            assert client.connections("u") == (0, 0)


# Connections that were idle.


async def test_a_post_never_uses_a_connection_that_idled_for_long():
    upstream = Upstream(failing=())
    async with raw_server(upstream) as server, transport(server.url, keepalive_unsafe=0.05) as client:
        await get(client, "POST", b"x")
        await get(client, "POST", b"x")
        assert server.connections == 1
        await asyncio.sleep(0.1)
        await get(client, "POST", b"x")
        assert server.connections == 2
        await asyncio.sleep(0.1)
        await get(client, "GET")
        assert server.connections == 2


async def test_a_post_is_not_sent_on_a_connection_whose_end_the_loop_has_not_seen():
    listener = socket.create_server(("127.0.0.1", 0))
    go, closed, seen = threading.Event(), threading.Event(), []

    def serve():
        for _ in range(2):
            peer, _ = listener.accept()
            seen.append(peer.recv(65536))
            peer.sendall(ok())
            go.wait(10)
            peer.close()
            closed.set()

    thread = threading.Thread(target=serve)
    thread.start()
    async with transport(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
        assert await get(client) == (200, b"ok")
        go.set()
        assert closed.wait(10)  # and no turn of the loop since
        assert await get(client, "POST", b"x") == (200, b"ok")
    thread.join(10)
    listener.close()
    assert [head[:5] for head in seen] == [b"GET /", b"POST "]


async def test_an_unsafe_request_makes_room_among_old_idle_connections():
    async with (
        raw_server(Upstream(failing=())) as server,
        transport(server.url, max_connections=2, keepalive_unsafe=0) as client,
    ):
        await asyncio.gather(get(client), get(client))
        assert client.connections("u") == (2, 2)
        assert await get(client, "POST", b"x") == (200, b"well")
        assert client.connections("u") == (2, 2)


# Time.


async def test_a_try_has_its_own_time():
    slow, quick = Upstream("stalls"), Upstream(failing=())
    async with (
        raw_server(slow) as a,
        raw_server(quick) as b,
        transport(a.url, b.url, retries={**NO_PAUSE, "try_timeout": 0.05}) as client,
    ):
        assert await get(client) == (200, b"well")
        await asyncio.wait_for(a.hung_up.wait(), 5)


async def test_a_try_of_a_post_has_the_whole_time():
    async def handler(reader, writer):
        await read_request(reader)
        await asyncio.sleep(0.2)
        writer.write(ok())
        await reader.read()

    async with raw_server(handler) as server, transport(server.url, retries={"try_timeout": 0.02}) as client:
        assert await get(client, "POST", b"x") == (200, b"ok")


async def test_the_routes_time_holds_for_all_tries_and_pauses():
    meter = Counts()
    async with (
        raw_server(stalls) as server,
        transport(
            server.url, retries={**NO_PAUSE, "try_timeout": 0.1, "count": 10}, breaker=NO_BREAKER, meter=meter
        ) as client,
    ):
        began = time.monotonic()
        with pytest.raises(UpstreamTimeout):
            await get(client, timeout=0.25)
        assert 0.2 <= time.monotonic() - began < 2
        assert [line[3] for line in meter.of("failed")] == ["try_timeout", "try_timeout", "timeout"]


async def test_the_routes_time_is_over_when_it_is_over():
    took = []
    options = {"retries": {**NO_PAUSE, "try_timeout": 0.06, "count": 10}, "breaker": NO_BREAKER}
    async with raw_server(stalls) as server, transport(server.url, **options) as client:
        for _ in range(5):
            began = time.monotonic()
            with pytest.raises(UpstreamTimeout):
                await get(client, timeout=0.1)
            took.append(time.monotonic() - began)
    assert min(took) < 0.1 + 0.05, "a busy machine adds to some"


# The breaker.


BREAKER = {"min_requests": 5, "cool_down": 0.2, "probes": 2, "ramp": 0.1}


async def test_the_breaker_opens_and_comes_back_over_real_requests():
    upstream, meter = Upstream("503", failing=range(5)), Counts()
    async with (
        raw_server(upstream) as server,
        transport(server.url, breaker=BREAKER, retries={"count": 0}, meter=meter) as client,
    ):
        assert [(await get(client))[0] for _ in range(5)] == [503] * 5
        took = []
        for _ in range(20):
            began = time.monotonic()
            with pytest.raises(CircuitOpen) as caught:
                await get(client)
            took.append(time.monotonic() - began)
            assert 0 < caught.value.retry_after <= 0.2
            assert caught.value.status == 503
        assert min(took) < 0.005, "nobody waits for an open breaker; a busy machine adds to some"
        assert len(upstream.seen) == 5
        assert client.figures("u") == {"targets": 1, "available": 1, "panic": False, "breakers_open": 1}
        await asyncio.sleep(0.25)
        assert [(await get(client))[0] for _ in range(2)] == [200] * 2
        await asyncio.sleep(0.15)
        assert [(await get(client))[0] for _ in range(5)] == [200] * 5
        assert [line[3] for line in meter.of("breaker_moved")] == ["open", "half_open", "recovering", "closed"]


async def test_half_open_few_requests_pass_at_once():
    upstream = Upstream("503", failing=range(5))
    async with (
        raw_server(upstream) as server,
        transport(server.url, breaker=BREAKER, retries={"count": 0}) as client,
    ):
        for _ in range(5):
            await get(client)
        await asyncio.sleep(0.25)
        upstream.how, upstream.failing = "stalls", range(5, 99)
        tasks = [asyncio.ensure_future(get(client)) for _ in range(20)]
        await eventually(lambda: len(upstream.seen) == 7)
        await eventually(lambda: sum(task.done() for task in tasks) == 18)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        upstream.failing = ()
        assert await get(client) == (200, b"well"), "probes that were cancelled gave their places back"


async def test_neither_4xx_nor_clients_that_go_away_open_it():
    async with (
        raw_server(answers(status(404), status(429))) as server,
        transport(server.url, breaker=BREAKER) as client,
    ):
        assert {(await get(client))[0] for _ in range(30)} == {404, 429}
        assert client.figures("u")["breakers_open"] == 0
    async with raw_server(stalls) as server, transport(server.url, breaker=BREAKER) as client:
        for _ in range(30):
            before = server.connections
            task = asyncio.ensure_future(get(client))
            await eventually(lambda before=before: server.connections > before)
            task.cancel()
            await asyncio.wait([task])
        assert client.figures("u") == {"targets": 1, "available": 1, "panic": False, "breakers_open": 0}


async def test_timeouts_open_it_also_those_of_a_caller_who_said_how_long_he_waits():
    async with raw_server(stalls) as server, transport(server.url, breaker=BREAKER) as client:
        for _ in range(5):
            with pytest.raises(UpstreamTimeout):
                await client.request("u", "POST", "/", (), b"x", timeout=0.02)
        with pytest.raises(CircuitOpen):
            await client.request("u", "POST", "/", (), b"x", timeout=0.02)


async def test_answers_that_break_off_in_the_middle_open_it():
    upstream = Upstream("half a body")
    async with raw_server(upstream) as server, transport(server.url, breaker=BREAKER) as client:
        while client.figures("u")["breakers_open"] == 0:
            response = await client.request("u", "GET", "/", (), b"")
            with pytest.raises(UpstreamTruncated):
                await read_all(response)
        with pytest.raises(CircuitOpen):
            await get(client)
        assert len(upstream.seen) <= 6


async def test_each_route_has_its_own_breaker():
    upstream = Upstream("503")
    async with raw_server(upstream) as server, transport(server.url, breaker=BREAKER, retries={"count": 0}) as client:
        for _ in range(5):
            await get(client, retries=0)
        with pytest.raises(CircuitOpen):
            await get(client, retries=0)
        upstream.failing = ()
        assert await get(client) == (200, b"well")


async def test_where_one_targets_breaker_is_open_the_others_are_asked():
    ill, well = Upstream("503"), Upstream(failing=())
    async with (
        raw_server(ill) as a,
        raw_server(well) as b,
        transport(a.url, b.url, breaker=BREAKER, health=NO_EJECTION, retries={"count": 0}) as client,
    ):
        statuses = [(await get(client))[0] for _ in range(20)]
        assert statuses == [503, 200] * 5 + [200] * 10


# Hedging.


async def test_a_slow_read_is_hedged_and_the_loser_hung_up_on():
    slow, quick, meter = Upstream("stalls"), Upstream(failing=()), Counts()
    async with (
        raw_server(slow) as a,
        raw_server(quick) as b,
        transport(a.url, b.url, hedge={"enabled": True, "delay": 0.05}, meter=meter) as client,
    ):
        assert await get(client) == (200, b"well")
        await asyncio.wait_for(a.hung_up.wait(), 5)
        assert meter.of("hedged") == [("u", "generations", True)]
        assert client.connections("u") == (1, 1)
        assert client.figures("u")["breakers_open"] == 0


async def test_an_error_does_not_win_against_an_answer_to_come():
    async def late(reader, writer):
        await read_request(reader)
        await asyncio.sleep(0.3)
        writer.write(ok(b"late"))
        await reader.read()

    quick = Upstream("503")
    async with (
        raw_server(late) as a,
        raw_server(quick) as b,
        transport(a.url, b.url, hedge={"enabled": True, "delay": 0.02}, retries={"count": 0}) as client,
    ):
        assert await get(client) == (200, b"late")
        assert len(quick.seen) == 1


@pytest.mark.parametrize(
    ("method", "body", "route"), [("POST", b"x", {}), ("PUT", b"", {}), ("GET", b"", {"hedge": False})]
)
async def test_what_is_no_read_or_not_to_be_hedged_is_asked_for_once(method, body, route):
    async def late(reader, writer):
        await read_request(reader)
        await asyncio.sleep(0.2)
        writer.write(ok(b"late"))
        await reader.read()

    async with raw_server(late) as server, transport(server.url, hedge={"enabled": True, "delay": 0.01}) as client:
        assert await get(client, method, body, **route) == (200, b"late")
        assert server.connections == 1


async def test_hedges_have_a_budget():
    upstream, requests = Upstream("stalls"), 50
    async with (
        raw_server(upstream) as server,
        transport(
            server.url, hedge={"enabled": True, "delay": 0.01}, breaker=NO_BREAKER, response_timeout=0.3
        ) as client,
    ):
        answers = await asyncio.gather(*(get(client) for _ in range(requests)), return_exceptions=True)
        assert all(isinstance(answer, UpstreamTimeout) for answer in answers)
        assert requests < len(upstream.seen) <= requests * 1.1 + 2


async def test_cancelling_a_hedged_read_ends_both_tries():
    upstream = Upstream("stalls")
    async with raw_server(upstream) as server, transport(server.url, hedge={"enabled": True, "delay": 0.01}) as client:
        task = asyncio.ensure_future(get(client))
        await eventually(lambda: len(upstream.seen) == 2)
        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: client.connections("u") == (0, 0))


async def test_without_a_delay_the_percentile_of_the_last_answers_is_it():
    upstream = Upstream("stalls", failing={30})
    hedge = {"enabled": True, "budget_percent": 100}
    async with raw_server(upstream) as server, transport(server.url, hedge=hedge) as client:
        for _ in range(31):
            assert await asyncio.wait_for(get(client), 10) == (200, b"well")
        assert len(upstream.seen) >= 32


# Responses never swap.


async def test_no_two_requests_swap_their_answers_whatever_happens():
    async def echo(reader, writer):
        while True:
            head, _ = await read_request(reader)
            number = int(head.split(b" ")[1][1:])
            if number % 7 == 0:
                await asyncio.sleep(0.01)
            if number % 11 == 0:
                reset(writer)
                return
            writer.write(ok(b"%d" % number))

    async def one(client, number):
        try:
            async with asyncio.timeout(0.005 if number % 5 == 0 else 5):
                response = await client.request("u", "GET", f"/{number}", (), b"")
                return await read_all(response)
        except (UpstreamError, TimeoutError):
            return None

    async with (
        raw_server(echo) as a,
        raw_server(echo) as b,
        transport(a.url, b.url, hedge={"enabled": True, "delay": 0.005}, breaker=NO_BREAKER) as client,
    ):
        for start in range(0, 600, 50):
            bodies = await asyncio.gather(*(one(client, number) for number in range(start, start + 50)))
            for number, body in enumerate(bodies, start):
                assert body in (None, b"%d" % number)
