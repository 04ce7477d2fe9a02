"""Sessions over real sockets: commands, deadlines, and readers that are slow or gone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import time
import weakref
from typing import Any

import httpx
import pytest

from tests.support.client import Client, Stream, connected
from tests.support.gateway import bearer, settings, token
from tests.support.upstream import DONE, Call, chunk, scripted
from tests.support.ws import TEXT, Raw, Served, command, eventually, frame, raw, serving

NOWHERE = "http://127.0.0.1:1"
TEXTS = ["Light", " is", " not", " similar", " or", " homogeneal", ".", " ∂éñ", " 😀", " end"]
KIB = 1024


async def answer_texts(call: Call) -> None:
    await call.answer(TEXTS)


async def never_answer(call: Call) -> None:
    await call.head()
    await call.send(chunk("first"))
    await asyncio.Event().wait()


async def take(client: Raw, stream: Stream) -> list[dict[str, Any]]:
    """Book the events of ``stream`` up to its end; return the other messages."""
    others = []
    while stream.terminal is None:
        message = await client.message()
        if message["type"] == "event" and message["generation_id"] == stream.generation_id:
            stream.take(message)
        else:
            others.append(message)
    return others


# Commands.


async def test_commands_that_are_wrong_are_told_and_the_socket_lives():
    async with serving(settings(NOWHERE)) as served, connected(served) as client:
        for type_, fields, code in [
            ("nothing", {}, "unknown_command"),
            ("subscribe_generation", {"generation_id": 5}, "bad_request"),
            ("subscribe_generation", {"generation_id": "x"}, "not_found"),
            ("unsubscribe", {"channel": "lobby"}, "not_found"),
            ("subscribe", {"channel": "lobby"}, "permission_denied"),
            ("subscribe", {"channel": "nowhere:1"}, "not_found"),
            ("subscribe", {"channel": "user:bob"}, "permission_denied"),
            ("subscribe", {"channel": "user:alice", "offset": 3}, "bad_request"),
            ("generate", {"kind": "poem", "input": {}}, "bad_request"),
            ("generate", {"kind": "chat", "input": {}}, "bad_request"),
            ("generate", {"kind": "chat", "input": {"message": "x", "tools": [[[{}]]] * 3}}, "bad_request"),
            ("generate", {"kind": "chat", "input": {"message": "x"}, "upstream": "other"}, "bad_request"),
            ("cancel", {"generation_id": "gen_\x00😀"}, "not_found"),
        ]:
            answer = await client.command(type_, **fields)
            assert (answer["type"], answer["code"]) == ("error", code), (type_, fields, answer)
        assert (await client.command("ping"))["type"] == "pong"
        assert served.session.subscriptions == {}
        assert served.hub.channels() == 0


async def test_a_command_nested_without_measure_is_a_bad_request_and_no_fault():
    async with serving(settings(NOWHERE)) as served, raw(served) as client:
        for depth in (100, 300, 900, 5000, 20_000):
            nested = "[" * depth + "]" * depth
            text = f'{{"type":"generate","kind":"chat","idempotency_key":"k","input":{{"messages":{nested}}}}}'
            client.send(frame(TEXT, text.encode()))
            assert (await client.message())["code"] == "bad_request"


async def test_replies_come_in_the_order_of_the_commands():
    async with scripted(answer_texts) as upstream, serving(settings(upstream.url)) as served, raw(served) as client:
        kinds = ["cancel", "subscribe_generation"]
        client.send(*[command(kinds[number % 2], id=number, generation_id="none") for number in range(200)])
        assert [(await client.message())["id"] for _ in range(200)] == list(range(200))


async def test_somebody_elses_generation_is_refused_and_the_socket_lives():
    async with (
        scripted(never_answer) as upstream,
        serving(settings(upstream.url)) as served,
        connected(served) as client,
        connected(served, "bob") as other,
    ):
        stream = await client.generate()
        for type_ in ("subscribe_generation", "cancel"):
            answer = await other.command(type_, generation_id=stream.generation_id)
            assert (answer["code"], answer["status"]) == ("permission_denied", 403)
        assert (await other.command("ping"))["type"] == "pong"
        assert (await client.command("cancel", generation_id=stream.generation_id))["status"] == "cancelled"


async def test_cancelling_twice_changes_nothing():
    async with scripted(never_answer) as upstream, serving(settings(upstream.url)) as served:
        async with connected(served) as client:
            stream = await client.generate()
            await client.until(stream, lambda s: s.text == "first")
            first = await client.command("cancel", generation_id=stream.generation_id)
            second = await client.command("cancel", generation_id=stream.generation_id)
            assert (first["status"], second["status"]) == ("cancelled", "finished")
            await client.finish(stream)
            assert (stream.terminal["type"], stream.terminal["by"]) == ("cancelled", "user")
        await asyncio.wait_for(upstream.calls[0].closed.wait(), 1)


async def test_subscribing_twice_says_where_it_stands_and_sends_nothing_twice():
    async with (
        scripted(never_answer) as upstream,
        serving(settings(upstream.url)) as served,
        connected(served) as client,
    ):
        stream = await client.generate(idempotency_key="k")
        await client.until(stream, lambda s: s.text == "first")
        at = {"epoch": stream.epoch, "offset": stream.offset, "recovered": True, "already": True}
        again = await client.command("subscribe_generation", generation_id=stream.generation_id)
        assert again.items() >= at.items()
        resumed = await client.command("resume", streams={stream.generation_id: {"offset": 0}})
        assert resumed["streams"][stream.generation_id] == {"status": "resumed", **at}
        asked = await client.command("generate", kind="chat", input={"message": "Hello"}, idempotency_key="k")
        assert asked.items() >= {**at, "channel": "gen:" + stream.generation_id}.items()
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(stream)
        assert served.session.subscriptions == {}


async def test_after_unsubscribing_nothing_comes():
    async with (
        scripted(never_answer) as upstream,
        serving(settings(upstream.url)) as served,
        connected(served) as client,
    ):
        stream = await client.generate()
        await client.until(stream, lambda s: s.text == "first")
        reply = await client.command("unsubscribe_generation", generation_id=stream.generation_id)
        assert reply["ok"]
        assert served.hub.channels() == 0
        await upstream.calls[0].send(chunk("second"))
        await client.command("cancel", generation_id=stream.generation_id)
        assert (await client.command("ping"))["type"] == "pong"
        assert stream.text == "first"
        late = await client.subscribe(stream.generation_id, stream)
        await client.finish(late)


async def test_resume_has_four_answers():
    async def script(call: Call) -> None:
        content = call.body["messages"][0]["content"]
        await {"fast": answer_texts, "slow": never_answer}[content](call) if content != "silent" else await wait()

    wait = asyncio.Event().wait
    async with scripted(script) as upstream, serving(settings(upstream.url)) as served:
        async with connected(served) as client:
            fast, slow, silent = [await client.generate(text) for text in ("fast", "slow", "silent")]
            await client.finish(fast)
            await client.until(slow, lambda s: s.text == "first")
            client.cut()
        late = Stream(fast.generation_id, fast.epoch)
        lost = Stream(slow.generation_id, "otherepo", 77)
        async with connected(served) as client:
            answers = await client.resume(late, silent, Stream("gen_never", "e", 1))
            assert {name: answer["status"] for name, answer in answers.items()} == {
                fast.generation_id: "finished",
                silent.generation_id: "pending",
                "gen_never": "gone",
            }
            await client.finish(late)
            assert late.text == fast.text
            reply = await client.command("resume", streams={lost.generation_id: {"epoch": "otherepo", "offset": 77}})
            anew_from = {"status": "resumed", "epoch": slow.epoch, "offset": 0, "recovered": False}
            assert reply["streams"][lost.generation_id].items() >= anew_from.items()
            anew = client.streams[slow.generation_id] = Stream(slow.generation_id, slow.epoch)
            await client.until(anew, lambda s: s.text == "first")


async def test_a_gap_is_announced_and_subscribing_again_gets_all():
    async with (
        scripted(never_answer) as upstream,
        serving(settings(upstream.url)) as served,
        connected(served) as client,
    ):
        stream = await client.generate()
        await client.until(stream, lambda s: s.text == "first")
        served.hub.reset("gen:" + stream.generation_id)
        gap = await client.receive()
        assert (gap["type"], gap["generation_id"], gap["subscribed"]) == ("gap", stream.generation_id, False)
        assert served.session.subscriptions == {}
        anew = await client.subscribe(stream.generation_id)
        assert anew.offset == 0
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(anew)


async def test_a_user_listens_to_his_own_channel_and_what_it_says_is_never_merged():
    async with serving(settings(NOWHERE)) as served, connected(served) as client:
        reply = await client.command("subscribe", channel="user:alice")
        assert (reply["channel"], reply["ok"]) == ("user:alice", True)
        await client.command("options", rollup_ms=100)
        forged = b'{"type":"delta","text":"?","more":[1]}'
        for number in range(1000):
            assert (
                await served.parts._backend.broker.publish("user:alice", forged, size=2000, ttl=60)
            ).offset == number + 1
        for number in range(1000):
            message = await client.receive()
            assert (message["type"], message["offset"], message["data"]) == (
                "publication",
                number + 1,
                json.loads(forged),
            )


async def test_a_socket_has_so_many_subscriptions_and_no_generation_is_started_in_vain():
    async with (
        scripted(never_answer) as upstream,
        serving(settings(upstream.url, realtime={"max_subscriptions": 2})) as served,
        connected(served) as client,
        connected(served) as other,
    ):
        first, second = await client.generate("1"), await client.generate("2")
        third = await other.generate("3")
        for type_, fields in [
            ("subscribe_generation", {"generation_id": third.generation_id}),
            ("subscribe", {"channel": "user:alice"}),
            ("resume", {"streams": {third.generation_id: {}}}),
            ("generate", {"kind": "chat", "input": {"message": "4"}}),
        ]:
            answer = await client.command(type_, **fields)
            assert (answer.get("code"), answer.get("status")) == ("too_many_requests", 429), answer
        await upstream.call(3)
        assert len(upstream.calls) == 3
        await client.command("cancel", generation_id=first.generation_id)
        await client.finish(first)
        assert (await client.command("subscribe", channel="user:alice"))["ok"]
        for stream in (second, third):
            await client.command("cancel", generation_id=stream.generation_id)


# Deadlines (G6).


async def test_a_token_that_ends_closes_its_socket_within_a_second_after_a_warning():
    async with serving(settings(NOWHERE, realtime={"expiry_warning": 0.5})) as served:
        end = time.time() + 1
        async with raw(served, None, headers=(("Authorization", bearer(ttl=1)["Authorization"]),)) as client:
            assert (await client.message())["type"] == "connected"
            warning = await client.message()
            assert (warning["type"], warning["expires_in"]) in {("token_expiring", 0), ("token_expiring", 1)}
            assert 0.3 < end - time.time() < 0.6
            code, reason, messages = await client.close_frame()
            assert (code, reason, messages[0]["code"]) == (4401, "token_expired", "token_expired")
            assert -0.01 < time.time() - end < 1  # The loop's clock and this one differ by microseconds.
            assert not served.sessions


async def test_a_socket_that_is_refreshed_lives_on():
    async with (
        serving(settings(NOWHERE, realtime={"expiry_warning": 0.5})) as served,
        raw(served, None, headers=(("Authorization", bearer(ttl=0.8)["Authorization"]),)) as client,
    ):
        assert (await client.message())["type"] == "connected"
        assert (await client.message())["type"] == "token_expiring"
        client.send(command("refresh", id=1, token=token("bob")))
        assert (await client.message())["code"] == "permission_denied"
        client.send(command("refresh", id=2, token=token(ttl=-5)))
        assert (await client.message())["code"] == "token_expired"
        client.send(command("refresh", id=3, token=token(ttl=1.8)))
        assert (await client.message()).items() >= {"type": "reply", "id": 3, "ok": True}.items()
        assert (await client.message())["type"] == "token_expiring"
        client.send(command("ping"))
        assert (await client.message())["type"] == "pong"
        assert (await client.close_frame())[:2] == (4401, "token_expired")


async def test_refreshing_all_the_time_costs_no_memory():
    async with serving(settings(NOWHERE)) as served, raw(served) as client:
        client.send(*[command("refresh", id=number, token=token(ttl=3600)) for number in range(300)])
        for _ in range(300):
            assert (await client.message())["ok"]
        assert len(served.parts.sockets.ticker._heap) == 1


# Rolling up.


async def test_a_hidden_page_gets_fewer_frames_and_the_same_text():
    async def script(call: Call) -> None:
        await call.head()
        for number in range(200):
            await call.send(chunk(f"{number} "))
            await asyncio.sleep(0.002)
        await call.send(chunk(finish="stop") + DONE)
        await call.end()

    async with scripted(script) as upstream, serving(settings(upstream.url)) as served, connected(served) as client:
        assert (await client.command("options", rollup_ms=100))["ok"]
        stream = await client.generate()
        await client.finish(stream)
        assert stream.text == "".join(f"{number} " for number in range(200))
        assert len(stream.events) < 60
        assert (await client.command("options", rollup_ms=0))["ok"]
        assert served.session._outbox is None


async def test_a_page_that_says_it_is_hidden_gets_fewer_frames_until_it_is_seen_again():
    async def script(call: Call) -> None:
        await call.answer([f"{number} " for number in range(100)], pause=0.005)

    async with scripted(script) as upstream, serving(settings(upstream.url)) as served, connected(served) as client:
        frames = {}
        for name, options in (("seen", {}), ("hidden", {"visible": False}), ("seen again", {"visible": True})):
            assert (await client.command("options", **options))["ok"]
            stream = await client.generate()
            await client.finish(stream)
            assert stream.text == "".join(f"{number} " for number in range(100))
            frames[name] = len(stream.events)
        assert frames["hidden"] < 30
        assert min(frames["seen"], frames["seen again"]) > 2 * frames["hidden"]


@pytest.mark.parametrize("value", [-1, 501, 1.5, "100", True, None])
async def test_a_rollup_out_of_range_is_refused_and_changes_nothing(value):
    async with serving(settings(NOWHERE)) as served, connected(served) as client:
        assert (await client.command("options", rollup_ms=500))["ok"]
        outbox = served.session._outbox
        answer = await client.command("options", rollup_ms=value)
        assert (answer["type"], answer["code"]) == ("error", "bad_request")
        assert served.session._outbox is outbox
        assert (await client.command("options", rollup_ms=0))["ok"]
        assert served.session._outbox is None


async def test_the_first_message_never_waits_and_the_last_no_longer_than_the_rollup():
    steps = asyncio.Semaphore(0)

    async def script(call: Call) -> None:
        await call.head()
        for text in ("a", "b"):
            await steps.acquire()
            await call.send(chunk(text))
        await call.send(chunk(finish="stop") + DONE)
        await call.end()

    async with scripted(script) as upstream, serving(settings(upstream.url)) as served, connected(served) as client:
        await client.command("options", rollup_ms=300)
        stream = await client.generate()
        start = time.monotonic()
        steps.release()
        await client.until(stream, lambda s: s.offset >= 1)
        assert time.monotonic() - start < 0.25
        steps.release()
        await client.finish(stream)
        assert time.monotonic() - start < 0.8
        assert stream.text == "ab"


async def test_a_reply_does_not_overtake_what_waits():
    async with (
        scripted(never_answer) as upstream,
        serving(settings(upstream.url)) as served,
        connected(served) as client,
    ):
        await client.command("options", visible=False)
        stream = await client.generate()
        await client.until(stream, lambda s: s.offset >= 1)
        await upstream.calls[0].send(chunk("second") + chunk("third"))
        await eventually(lambda: served.hub.position("gen:" + stream.generation_id).offset == 4)
        await client.command("cancel", generation_id=stream.generation_id)
        await client.finish(stream)
        assert stream.text == "firstsecondthird"


async def test_rolling_up_more_than_the_queue_holds_is_no_reason_to_close():
    text = "x" * 3000

    async def script(call: Call) -> None:
        await call.head()
        for _ in range(100):
            await call.send(chunk(text))
        await call.send(chunk(finish="stop") + DONE)
        await call.end()

    async with (
        scripted(script) as upstream,
        serving(settings(upstream.url, realtime={"send_queue": 16 * KIB})) as served,
        connected(served) as client,
    ):
        await client.command("options", rollup_ms=500)
        stream = await client.finish(await client.generate())
        assert stream.text == text * 100


# Many commands.


async def test_of_many_commands_few_wait_and_none_is_lost(valkey, prefix):
    config = settings(
        NOWHERE, broker={"redis_url": valkey.url, "key_prefix": prefix}, realtime={"max_pending_commands": 8}
    )
    async with serving(config) as served, raw(served) as client:
        (inside,) = served.server.server_state.connections
        valkey.pause()
        count, room = 4000, 256 * KIB // 500  # what one read from a socket may hold
        padding = "x" * 500
        client.send(*[command("cancel", id=number, generation_id="none", x=padding) for number in range(count)])
        await eventually(lambda: inside.reading_paused)
        waiting = served.session._waiting
        assert 8 <= waiting <= 8 + room
        valkey.resume()
        for number in range(count):
            message = await client.message()
            assert (message["id"], message["code"]) == (number, "not_found")
            waiting = served.session._waiting
            assert waiting <= 8 + room
            assert inside.reading_paused or waiting < 8
        await eventually(lambda: served.session._queue is None)
        assert not inside.reading_paused


async def test_a_client_that_asks_and_never_reads_is_not_read_any_more():
    config = settings(NOWHERE, realtime={"send_queue": 16 * KIB})
    async with serving(config, send_buffer=8192) as served, raw(served, small=True) as client:
        (inside,) = served.server.server_state.connections
        count = 40_000
        sending = asyncio.ensure_future(flood(client, count))
        await eventually(lambda: inside.reading_paused)
        assert served.session._outbox._queue.size < 2 * 1024 * KIB
        for number in range(count):
            assert (await client.message())["id"] == number
        await sending
        await eventually(lambda: served.session._outbox is None)
        assert not inside.reading_paused


async def flood(client: Raw, count: int) -> None:
    for first in range(0, count, 100):
        client.send(*[command("ping", id=number) for number in range(first, first + 100)])
        await client.writer.drain()


async def test_long_answers_wait_for_a_client_that_does_not_read():
    async def script(call: Call) -> None:
        await call.answer(["y" * 1000] * 300)

    realtime = {"send_queue": 64 * KIB}
    async with scripted(script) as upstream, serving(settings(upstream.url, realtime=realtime), send_buffer=8192) as s:
        async with httpx.AsyncClient(base_url=s.http, headers=bearer()) as http:
            body = {"kind": "chat", "input": {"message": "x"}}
            made = [(await http.post("/api/v1/generations?wait=true", json=body)).json() for _ in range(8)]
        streams = [Stream(each["id"], each["epoch"]) for each in made]
        async with raw(s, small=True) as client:
            wanted = {stream.generation_id: {"epoch": stream.epoch, "offset": 0} for stream in streams}
            client.send(command("resume", id=1, streams=wanted), command("ping", id=2))
            session = s.session
            await eventually(lambda: session._queue is not None and session._queue._room is not None)
            (inside,) = s.server.server_state.connections
            held = session._outbox._queue.size + inside.transport.get_write_buffer_size()
            assert held < 3 * 320 * KIB, "no more than two answers are made in advance"
            others = []
            for stream in streams:
                others += await take(client, stream)
                stream.check_receipt()
            assert sorted(other["type"] for other in others) == ["pong", "reply"]


# Slow readers (G5).


def flooding(pieces: list[str], pause: float = 0.0):
    async def script(call: Call) -> None:
        await call.answer(pieces, pause)

    return script


async def test_a_slow_reader_gets_the_same_text_in_fewer_events():
    pieces = [f"{number} " for number in range(3000)]
    go_on = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await go_on.wait()
        for number in range(0, len(pieces), 10):
            await call.send(b"".join(chunk(text) for text in pieces[number : number + 10]))
            await asyncio.sleep(0.0005)
        await call.send(chunk(finish="stop") + DONE)
        await call.end()

    realtime = {"send_queue": 64 * KIB}
    async with (
        scripted(script) as upstream,
        serving(settings(upstream.url, realtime=realtime), send_buffer=8192) as s,
        connected(s) as fast,
        raw(s, small=True) as slow,
    ):
        stream = await fast.generate()
        slow.send(command("subscribe_generation", id=1, generation_id=stream.generation_id))
        assert (await slow.message())["ok"]
        go_on.set()
        reading = asyncio.ensure_future(fast.finish(stream))
        most = 0
        while not reading.done():
            most = max([most, *[held(session) for session in s.sessions]])
            await asyncio.sleep(0.001)
        await reading
        assert stream.text == "".join(pieces)
        assert most < 64 * KIB
        late = Stream(stream.generation_id, stream.epoch)
        await take(slow, late)
        late.check_receipt()
        assert len(late.events) < len(stream.events)
        assert len(s.sessions) == 2


def held(session: Any) -> int:
    return 0 if session._outbox is None else session._outbox._queue.size


async def test_a_reader_who_is_too_slow_is_closed_and_resumes_and_others_notice_nothing():
    pieces = [letter * 4000 for letter in "abcdefghijklmnopqrst"] * 25  # 2 MB
    realtime = {"send_queue": 128 * KIB}
    config = {"realtime": realtime, "generations": {"max_bytes": 16 * 1024 * KIB}}
    async with (
        scripted(flooding(pieces, 0.0005)) as upstream,
        serving(settings(upstream.url, **config), send_buffer=64 * KIB) as s,
    ):
        async with connected(s) as a, connected(s) as b, raw(s, small=True) as slow:
            sessions = set(s.sessions)
            stream = await a.generate()
            other = await b.subscribe(stream.generation_id)
            slow.send(command("subscribe_generation", id=1, generation_id=stream.generation_id))
            finishing = asyncio.gather(a.finish(stream), b.finish(other))
            most = 0
            while len(s.sessions) == 3 and not finishing.done():
                most = max([most, *[held(session) for session in sessions]])
                await asyncio.sleep(0.0005)
            assert len(s.sessions) == 2, "the slow one was closed"
            assert most < 140 * KIB
            late = Stream(stream.generation_id, stream.epoch)
            code, reason, messages = await slow.close_frame()
            assert (code, reason) == (4413, "slow_consumer")
            assert messages[-1].items() >= {"code": "slow_consumer", "retryable": True}.items()
            for message in messages:
                if message["type"] == "event":
                    late.take(message)
            assert late.terminal is None
            await finishing
            assert stream.text == other.text == "".join(pieces)
        async with connected(s) as again:
            await again.resume(late)
            await again.finish(late)
            assert late.text == stream.text


async def test_a_frozen_reader_costs_the_others_no_time():
    async def timed(call: Call) -> None:
        await call.head()
        for _ in range(300):
            await call.send(chunk(f"{time.monotonic():.6f} ".ljust(1000, "x")))
            await asyncio.sleep(0.002)
        await call.send(chunk(finish="stop") + DONE)
        await call.end()

    async with (
        scripted(timed) as upstream,
        serving(settings(upstream.url, realtime={"send_queue": 64 * KIB}), send_buffer=64 * KIB) as s,
        connected(s) as client,
        raw(s, small=True) as frozen,
    ):
        stream = await client.generate()
        frozen.send(command("subscribe_generation", generation_id=stream.generation_id))
        delays = []
        while stream.terminal is None:
            message = await client.receive()
            if message["type"] == "event" and message["event"]["type"] == "delta":
                delays.append(time.monotonic() - float(message["event"]["text"].split()[0]))
        delays.sort()
        assert delays[len(delays) * 95 // 100] < 0.1


# Coming and going.


async def test_a_command_at_work_is_finished_though_its_asker_is_gone(valkey, prefix):
    async def script(call: Call) -> None:
        await call.answer(TEXTS)

    broker = {"redis_url": valkey.url, "key_prefix": prefix}
    async with scripted(script) as upstream, serving(settings(upstream.url, broker=broker)) as served:
        async with raw(served) as client:
            valkey.pause()
            session = served.session
            client.send(command("generate", kind="chat", input={"message": "x"}, idempotency_key="k1"))
            client.send(command("generate", kind="chat", input={"message": "y"}, idempotency_key="k2"))
            await eventually(lambda: session._waiting == 2)
            client.abort()
        await eventually(lambda: not served.sessions)
        valkey.resume()
        await eventually(lambda: session._queue is None)
        async with connected(served) as client:
            stream = await client.generate("x", idempotency_key="k1")
            await client.finish(stream)
            assert stream.text == "".join(TEXTS)
            assert len(upstream.calls) == 1
        await eventually(lambda: served.hub.channels() == 0)
        assert session.subscriptions == {}


@pytest.mark.parametrize("backend", ["memory", "redis"])
async def test_nothing_is_left_of_sockets_that_went_at_any_moment(backend, valkey, prefix):
    dice = random.Random(7)
    broker = {} if backend == "memory" else {"redis_url": valkey.url, "key_prefix": prefix}
    count = 200

    async def script(call: Call) -> None:
        await call.answer(TEXTS, pause=0.001)

    async def come_and_go(served: Served, known: list[str]) -> None:
        async with raw(served, dice.choice(["alice", "alice", None])) as client:
            commands = [
                command("generate", kind="chat", input={"message": "x"}),
                command("subscribe_generation", generation_id=dice.choice(known)),
                command("resume", streams={name: {"offset": 0} for name in known}),
                command("unsubscribe_generation", generation_id=dice.choice(known)),
                command("subscribe", channel="user:alice"),
                command("options", visible=False),
                command("auth", token=token()),
                frame(TEXT, b"\xff"),
            ]
            client.send(*dice.sample(commands, dice.randint(0, 6)))
            for _ in range(dice.randint(0, 6)):
                await asyncio.sleep(0)
            with contextlib.suppress(TimeoutError):
                await client.receive(timeout=dice.random() / 50)
            if dice.random() < 0.9:
                client.abort()

    async with scripted(script) as upstream:
        limits = {"max_running": 5000, "max_running_per_user": 5000}
        config = settings(upstream.url, broker=broker, generations=limits)
        async with serving(config) as served:
            async with connected(served) as client:
                known = [(await client.generate()).generation_id for _ in range(3)]
            for _ in range(0, count, 20):
                await asyncio.gather(*[come_and_go(served, known) for _ in range(20)])
            await eventually(lambda: not served.sessions)
            await eventually(lambda: not served.server.server_state.connections)
            await eventually(lambda: served.hub.channels() == 0, timeout=10)
            await eventually(lambda: served.parts._generations.running == 0, timeout=10)
            assert all(entry[2] is None for entry in served.parts.sockets.ticker._heap)
            assert not served.server.server_state.tasks
            async with connected(served) as client:
                await client.finish(await client.generate())


async def test_a_client_library_reconnects_in_the_middle_of_a_word_again_and_again():
    async def script(call: Call) -> None:
        await call.head()
        for number in range(400):
            await call.send(chunk(f"{number} "))
            await asyncio.sleep(0.001)
        await call.send(chunk(finish="stop") + DONE)
        await call.end()

    async with scripted(script) as upstream, serving(settings(upstream.url)) as served:
        async with connected(served) as client:
            stream = await client.generate()
            client.cut()
        for _ in range(10):
            async with connected(served) as client:
                await client.resume(stream)
                await receive_some(client, stream, 20)
                client.cut()
        async with connected(served) as client:
            if stream.terminal is None:
                await client.resume(stream)
                await client.finish(stream)
        stream.check_receipt()


async def receive_some(client: Client, stream: Stream, count: int) -> None:
    offset = stream.offset
    await client.until(stream, lambda s: s.offset >= offset + count or s.terminal is not None)


@pytest.mark.parametrize("path", ["/api/v1/ws", "/connection/websocket"])
async def test_a_socket_that_is_gone_leaves_nothing_to_the_garbage_collector(path):
    """Cycles would stay until it looks, which with many sockets is seldom."""
    hello = {
        "/api/v1/ws": [frame(TEXT, b'{"type":"subscribe","id":2,"channel":"room"}')],
        "/connection/websocket": [
            frame(TEXT, b'{"id":1,"connect":{}}'),
            frame(TEXT, b'{"id":2,"subscribe":{"channel":"room"}}'),
        ],
    }
    config = settings(NOWHERE, realtime={"channel": {"allow_subscribe": True, "history_size": 5, "history_ttl": 60}})
    async with serving(config) as served:
        gc.collect()
        gc.disable()
        try:
            async with raw(served, None, headers=tuple(bearer().items()), path=path) as client:
                client.send(*hello[path])
                while (await client.message()).get("id") != 2:
                    pass
                (session,) = served.sessions
                (connection,) = served.server.server_state.connections
                gone = [weakref.ref(connection), weakref.ref(connection.socket)]
                kinds = (type(session), type(session.protocol))
                del session, connection
                client.writer.transport.abort()
                await eventually(lambda: not served.server.server_state.connections)
                await eventually(lambda: not any(each() for each in gone))
                await eventually(lambda: not any(isinstance(each, kinds) for each in gc.get_objects()))
        finally:
            gc.enable()
