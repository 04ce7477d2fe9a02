"""Large messages to many sockets: what is small does not wait for them, and nothing changes its place."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from centrifuge import fossil

from app.streams.listener import LARGE
from app.ws.pacer import Pacer
from tests.support.centrifuge import talk
from tests.support.gateway import settings, token
from tests.support.ws import TEXT, Raw, Served, command, error_codes, eventually, frame, raw, serving

NOWHERE = "http://127.0.0.1:1"
PICTURE = json.dumps("x" * 200_000).encode()


class Ship:
    """Holds bytes, and waits again as often as it has a voyage left."""

    def __init__(self, pacer: Pacer, size: int, voyages: int = 1) -> None:
        self.pacer, self.size, self.voyages, self.released = pacer, size, voyages, 0
        pacer.wait(self)

    def release(self) -> int:
        self.released += 1
        if self.released < self.voyages:
            self.pacer.wait(self)
        return self.size


async def test_each_turn_has_room_for_some_bytes_and_those_who_wait_go_first():
    pacer = Pacer(per_turn=100, pause=0)
    assert pacer.admits(60)
    assert pacer.admits(60)  # There was room left.
    assert not pacer.admits(1)
    ships = [Ship(pacer, 60) for _ in range(3)]
    turns = []
    while len(pacer):
        await asyncio.sleep(0)
        turns.append([ship.released for ship in ships])
    assert turns[-1] == [1, 1, 1]
    assert [1, 1, 0] in turns, "two of sixty fit into a turn of a hundred that takes what it has begun"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pacer.admits(1000), "what is larger than a turn has one for itself"
    assert not pacer.admits(1)


async def test_one_that_writes_and_waits_again_does_not_keep_the_turn_from_ending():
    pacer = Pacer(per_turn=10, pause=0)
    ship, other = Ship(pacer, 10, voyages=5), Ship(pacer, 10)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (ship.released, other.released) == (1, 1), "nor from being another's"
    for _ in range(20):
        await asyncio.sleep(0)
    assert (ship.released, len(pacer)) == (5, 0)


async def test_each_waits_once_and_who_needs_no_turn_takes_none():
    pacer = Pacer(per_turn=10, pause=0)
    ships = [Ship(pacer, 10) for _ in range(4)]
    for ship in ships:
        pacer.wait(ship)
    assert len(pacer) == 4
    for ship in ships[:3]:
        pacer.forget(ship)
        pacer.forget(ship)
    await asyncio.sleep(0)
    assert [ship.released for ship in ships] == [0, 0, 0, 1]


async def test_an_empty_ship_leaves_its_turn_to_the_next():
    pacer = Pacer(per_turn=10, pause=0)
    ships = [*(Ship(pacer, 0) for _ in range(5)), Ship(pacer, 10), Ship(pacer, 10)]
    await asyncio.sleep(0)
    assert [ship.released for ship in ships] == [1] * 6 + [0]


@contextlib.asynccontextmanager
async def watching(served: Served, user: str, count: int) -> AsyncIterator[list[Raw]]:
    """Yield sockets of ``user`` that listen to his own channel."""
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(raw(served, user)) for _ in range(count)]
        for each in sockets:
            each.send(command("subscribe", channel=f"user:{user}"))
            assert (await each.message())["ok"]
        yield sockets


async def publish(served: Served, user: str, data: bytes) -> None:
    await served.parts._backend.broker.publish(f"user:{user}", data, size=100, ttl=60)


def pacer_of(served: Served) -> Any:
    return next(iter(served.sessions)).services.pacer


async def test_a_small_message_does_not_wait_until_a_large_one_is_written_to_all():
    async with (
        serving(settings(NOWHERE)) as served,
        watching(served, "alice", 40) as watchers,
        watching(served, "bob", 1) as (bob,),
    ):
        waiting = pacer_of(served)
        await publish(served, "alice", PICTURE)
        await publish(served, "bob", b'{"n":1}')
        assert (await bob.message())["data"] == {"n": 1}
        assert len(waiting) > 0, "the large one was written to all before"
        for each in watchers:
            assert len((await each.message())["data"]) == 200_000
        await eventually(lambda: not len(waiting))
        assert all(session.direct is not None for session in served.sessions), "they are written to directly again"


async def test_what_comes_behind_a_large_message_stays_behind_it():
    async with serving(settings(NOWHERE)) as served, watching(served, "alice", 20) as watchers:
        await publish(served, "alice", PICTURE)
        await asyncio.sleep(0)
        for number in range(2, 5):
            await publish(served, "alice", b"%d" % number)
            await asyncio.sleep(0)
        await publish(served, "alice", PICTURE)
        for each in watchers:
            each.send(command("ping", id=7))
        for each in watchers:
            messages = [await each.message() for _ in range(6)]
            pongs = [message for message in messages if message["type"] == "pong"]
            assert [message["offset"] for message in messages if message["type"] == "publication"] == [1, 2, 3, 4, 5]
            assert [message["id"] for message in pongs] == [7]


async def test_tokens_of_another_channel_overtake_a_large_message_on_its_own_sockets():
    config = settings(NOWHERE, realtime={"namespaces": {"talk": {"allow_subscribe": True}}})
    async with serving(config) as served, watching(served, "alice", 40) as watchers:
        for each in watchers:
            each.send(command("subscribe", channel="talk:1"))
            assert (await each.message())["ok"]
        await publish(served, "alice", PICTURE)
        await asyncio.sleep(0)
        await served.parts._backend.broker.publish("talk:1", b'"token"', size=0, ttl=0)
        orders = [[(await each.message())["channel"] for _ in range(2)] for each in watchers]
        assert orders[-1] == ["talk:1", "user:alice"], "the last one to have the picture has the token before it"
        assert all(sorted(order) == ["talk:1", "user:alice"] for order in orders)


async def test_more_than_a_socket_may_hold_goes_out_at_once():
    async with serving(settings(NOWHERE)) as served, watching(served, "alice", 20) as watchers:
        held = waiting = 0
        for _ in range(20):
            await publish(served, "alice", PICTURE)
            await asyncio.sleep(0)
            held = max([held, *[len(session._lane or ()) for session in served.sessions]])
            waiting = max(waiting, len(pacer_of(served)))
        assert LARGE < held < 2 * 1024 * 1024
        assert waiting <= 20, "a socket that was written to at once waits no more"
        for each in watchers:
            assert [(await each.message())["offset"] for _ in range(20)] == list(range(1, 21))


async def test_sockets_that_go_while_they_wait_leave_the_others_theirs():
    async with serving(settings(NOWHERE)) as served, watching(served, "alice", 30) as watchers:
        await publish(served, "alice", PICTURE)
        await asyncio.sleep(0)
        for each in watchers[::2]:
            each.abort()
        for each in watchers[1::2]:
            assert len((await each.message())["data"]) == 200_000
        await eventually(lambda: len(served.sessions) == 15 and not len(pacer_of(served)))


async def test_a_replica_that_stops_says_so_behind_what_still_waits():
    config = settings(NOWHERE, server={"drain_window": 0.2})
    async with serving(config) as served, watching(served, "alice", 30) as watchers:
        await publish(served, "alice", PICTURE)
        await asyncio.sleep(0)
        assert any(session._lane for session in served.sessions)
        stopping = served.stop()
        for each in watchers:
            code, _, messages = await each.close_frame()
            assert code == 1012
            told = [message["type"] for message in messages]
            assert told.index("publication") < told.index("goaway")
            each.abort()
        await stopping


async def test_who_reads_nothing_of_large_messages_is_closed_and_costs_the_others_nothing():
    config = settings(NOWHERE, realtime={"send_queue": 64 * 1024})
    async with (
        serving(config, send_buffer=4096) as served,
        watching(served, "alice", 10) as watchers,
        raw(served, "alice", small=True) as idle,
    ):
        idle.send(command("subscribe", channel="user:alice"))
        assert (await idle.message())["ok"]
        slow = next(each for each in served.sessions if each.subscriptions and each.account.opened == max(
            session.account.opened for session in served.sessions))  # fmt: skip
        for number in range(1, 11):
            await publish(served, "alice", PICTURE)
            for each in watchers:
                assert (await each.message())["offset"] == number
            assert len(slow._lane or ()) + waits_in(slow) < 64 * 1024 + 2 * 200_100
        await eventually(lambda: slow.closed)
        assert slow.account.code == error_codes()["slow_consumer"]
        assert len(served.sessions) == 10
        idle.abort()


def waits_in(session: Any) -> int:
    return 0 if session._outbox is None else session._outbox._queue.size


def has(offset: int) -> Any:
    return lambda message: message.get("push", {}).get("pub", {}).get("offset") == offset


async def test_deltas_behind_large_messages_are_made_of_what_the_client_has():
    config = settings(NOWHERE, realtime={"namespaces": {"doc": {"history_size": 10, "history_ttl": 60,
        "allow_subscribe": True, "delta": ["fossil"]}}})  # fmt: skip

    def document(number: int) -> bytes:
        rows = [{"row": row, "text": f"{row * 7919}", "number": number if row % 300 == 0 else 0} for row in range(900)]
        return json.dumps(rows).encode()

    async with serving(config) as served, contextlib.AsyncExitStack() as stack:
        talks = [await stack.enter_async_context(talk(served)) for _ in range(12)]
        for each in talks:
            await each.ask("subscribe", channel="doc:1", delta="fossil")
        for number in range(1, 6):
            await served.parts._backend.broker.publish("doc:1", document(number), size=10, ttl=60)
            await asyncio.sleep(0)
        assert len(document(1)) > LARGE
        for each in talks:
            base, deltas = b"", 0
            for number in range(1, 6):
                publication = (await each.message(has(number)))["push"]["pub"]
                data = publication["data"].encode()
                deltas += bool(publication.get("delta"))
                base = fossil.apply_delta(base, data) if publication.get("delta") else data
                assert (publication["offset"], base) == (number, document(number))
            assert deltas == 4


async def test_a_socket_that_is_closed_while_it_waits_gets_what_was_its_own_first():
    async with serving(settings(NOWHERE)) as served, watching(served, "alice", 30) as watchers:
        await publish(served, "alice", PICTURE)
        await asyncio.sleep(0)
        for session in served.sessions:
            session.step(session.protocol.dismissed, 3500, "away with you")
        for each in watchers:
            code, _, messages = await each.close_frame()
            assert code >= 1000
            assert [message["offset"] for message in messages if message["type"] == "publication"] == [1]


@pytest.mark.parametrize("path", ["/api/v1/ws", "/connection/websocket"])
async def test_commands_that_come_together_are_answered_together_and_in_order(path):
    native = path == "/api/v1/ws"
    async with serving(settings(NOWHERE)) as served, raw(served, path=path, user="alice" if native else None) as client:
        session, writes = served.session, []
        session._connection = Seen(session._connection, writes)
        if native:
            client.send(*[command("cancel", id=number, generation_id="none") for number in range(1, 21)])
            assert [(await client.message())["id"] for _ in range(20)] == list(range(1, 21))
        else:
            lines = [
                {"id": 1, "connect": {"token": token("alice")}},
                {"id": 2, "subscribe": {"channel": "user:alice"}},
                *[{"id": number, "unsubscribe": {"channel": "nothing"}} for number in range(3, 21)],
            ]
            client.send(frame(TEXT, "\n".join(map(json.dumps, lines)).encode()))
            answers = []
            while len(answers) < 20:
                received = await client.receive()
                assert received is not None
                answers.append(json.loads(received[1])["id"])
            assert answers == list(range(1, 21))
        assert len(writes) <= 2


class Seen:
    """A connection whose writes are noted."""

    def __init__(self, connection: Any, writes: list[bytes]) -> None:
        self._connection = connection
        self._writes = writes

    def write(self, block: bytes) -> None:
        self._writes.append(block)
        self._connection.write(block)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
