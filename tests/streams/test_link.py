"""The connection to Redis: against real sockets, whole, cut to pieces, silent and dead."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BrokerUnavailable
from app.streams.redis import link as link_module
from app.streams.redis.client import Client
from app.streams.redis.link import Link, LinkKeeper, pack
from app.streams.redis.server import Master, access_of, address_of
from tests.streams.support import eventually, standalone
from tests.support.valkey import ValkeyServer

TIMEOUT = 0.2


def server(url: str) -> Master:
    return Master(address_of(url), access_of(url, timeout=TIMEOUT))


Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(peer: Peer) -> AsyncIterator[str]:
    """Run ``peer`` for each connection; gives the URL."""
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await peer(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


class Kept:
    """A running :class:`LinkKeeper`."""

    def __init__(self, url: str, push: Callable[[Any], None] | None = None) -> None:
        self.links: list[Link] = []
        self.writable = 0
        callbacks = {"push": push, "writable": self._became_writable}
        self.keeper = LinkKeeper("test", server(url), self._ready, timeout=TIMEOUT, **callbacks)

    async def __aenter__(self) -> LinkKeeper:
        self._task = asyncio.ensure_future(self.keeper.run())
        return self.keeper

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task

    async def _ready(self, link: Link) -> None:
        self.links.append(link)

    def _became_writable(self) -> None:
        self.writable += 1


async def echo_pongs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    parser = hiredis.Reader()
    while data := await reader.read(65536):
        parser.feed(data)
        while (command := parser.gets()) is not False:
            writer.write(b"+PONG\r\n" if command == [b"PING"] else b":%d\r\n" % len(command))


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def up(keeper: LinkKeeper) -> Link:
    await eventually(lambda: keeper.link is not None)
    assert keeper.link is not None
    return keeper.link


# Replies.


@given(st.lists(st.integers(1, 200), max_size=30))
async def test_replies_and_messages_may_be_cut_anywhere(cuts: list[int]) -> None:
    stream = (
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n+OK\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nhe\r\no\r\n"
        b"-ERR no\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n:7\r\n+late\r\n"
    )
    pushes: list[Any] = []
    replies: list[Any] = []
    link = Link(lambda: None, pushes.append, lambda: None)
    link._waiting.extend([replies.append] * 4)
    position = 0
    for length in [*cuts, len(stream)]:
        link.data_received(stream[position : position + length])
        position += length
    assert pushes == [[b"subscribe", b"c", 1], [b"message", b"c", b"he\r\no"], [b"message", b"c", b""]]
    assert replies[0] == b"OK"
    assert isinstance(replies[1], hiredis.ReplyError)
    assert replies[2:] == [[b"pong", b""], 7]


@given(st.binary(max_size=200))
async def test_any_bytes_at_all_raise_nothing(data: bytes) -> None:
    link = Link(lambda: None, lambda push: None, lambda: None)
    link._waiting.extend([lambda reply: None] * 3)
    link.data_received(data)


async def test_replies_come_in_the_order_of_the_commands() -> None:
    async with serving(echo_pongs) as url, Kept(url) as keeper:
        link = await up(keeper)
        assert await asyncio.gather(*[link.call("X", *["y"] * n) for n in range(50)]) == list(range(1, 51))
        assert await link.calls([pack("A"), pack("A", "b"), pack("PING")]) == [1, 2, b"PONG"]
        assert await link.calls([]) == []


async def test_a_waiter_who_gave_up_disturbs_nobody() -> None:
    async with serving(echo_pongs) as url, Kept(url) as keeper:
        link = await up(keeper)
        waiting = asyncio.ensure_future(link.call("A"))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await link.call("A", "b") == 2


async def test_an_error_reply_is_raised_by_call_and_stands_in_its_place_in_calls(valkey: ValkeyServer) -> None:
    async with Kept(valkey.url) as keeper:
        link = await up(keeper)
        with pytest.raises(hiredis.ReplyError):
            await link.call("NONSENSE")
        replies = await link.calls([pack("PING"), pack("NONSENSE"), pack("PING")])
        assert replies[::2] == [b"PONG", b"PONG"]
        assert isinstance(replies[1], hiredis.ReplyError)


# A dead peer.


async def test_what_is_unanswered_when_the_link_is_lost_fails_once() -> None:
    async with serving(silence) as url, Kept(url) as keeper:
        link = await up(keeper)
        replies: list[Any] = []
        link.send(pack("A") * 3, [replies.append] * 3)
        waiting = asyncio.ensure_future(link.call("B"))
        await asyncio.sleep(0)
        link.abort()
        with pytest.raises(BrokerUnavailable):
            await waiting
        assert [type(reply) for reply in replies] == [BrokerUnavailable] * 3
        link.send(pack("A"), [replies.append])
        assert len(replies) == 4
        with pytest.raises(BrokerUnavailable):
            await link.call("C")


async def test_a_silent_peer_is_given_up_within_the_timeout_and_tried_again() -> None:
    loop = asyncio.get_running_loop()
    async with serving(silence) as url, Kept(url) as keeper:
        link = await up(keeper)
        begun = loop.time()
        await eventually(lambda: keeper.link is None)
        assert 0.9 * TIMEOUT < loop.time() - begun < 2 * TIMEOUT
        await eventually(lambda: keeper.link is not None and keeper.link is not link)


async def test_a_peer_that_answers_is_kept() -> None:
    async with serving(echo_pongs) as url, Kept(url) as keeper:
        link = await up(keeper)
        await asyncio.sleep(2 * TIMEOUT)
        assert keeper.link is link


async def test_a_link_is_down_as_soon_as_its_connection_is() -> None:
    async with serving(echo_pongs) as url, Kept(url) as keeper:
        link = await up(keeper)
        link.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert keeper.link is not link


async def test_a_peer_that_talks_nonsense_is_left() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await silence(reader, writer)

    async with serving(nonsense) as url:
        kept = Kept(url)
        async with kept:
            await eventually(lambda: len(kept.links) > 2)


async def test_a_link_whose_preparation_fails_never_counts_as_up() -> None:
    async with serving(echo_pongs) as url:
        links: list[Link] = []

        async def refuse(link: Link) -> None:
            links.append(link)
            raise hiredis.ReplyError("LOADING")

        keeper = LinkKeeper("test", server(url), refuse, timeout=TIMEOUT)
        running = asyncio.ensure_future(keeper.run())
        await eventually(lambda: len(links) > 1)
        assert keeper.link is None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_nobody_there_is_no_reason_to_stop_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module.random, "uniform", lambda low, high: min(high, 1.7) and 0)
    keeper = LinkKeeper("test", server("redis://127.0.0.1:1"), _nothing, timeout=TIMEOUT)
    running = asyncio.ensure_future(keeper.run())
    for _ in range(4000):  # Enough for 2**attempt to leave the floats, were it not bounded.
        await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _nothing(link: Link) -> None:
    pass


async def test_a_link_that_is_cancelled_at_any_point_leaves_no_connection_open() -> None:
    open_connections = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_connections
        open_connections += 1
        await silence(reader, writer)
        open_connections -= 1

    async with serving(count) as url:
        secret = url.replace("//", "//:secret@")  # AUTH is never answered.
        for address in (url, secret):
            for steps in range(12):
                running = asyncio.ensure_future(LinkKeeper("test", server(address), _nothing, timeout=TIMEOUT).run())
                for _ in range(steps):
                    await asyncio.sleep(0)
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        running = asyncio.ensure_future(LinkKeeper("test", server(secret), _nothing, timeout=TIMEOUT / 4).run())
        await asyncio.sleep(TIMEOUT)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await eventually(lambda: open_connections == 0)
        gc.collect()


async def test_a_link_that_can_not_be_written_to_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_HIGH_WATER", 64 * 1024)
    read_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_on.wait()
        await silence(reader, writer)

    async with serving(slow) as url:
        kept = Kept(url)
        async with kept as keeper:
            link = await up(keeper)
            assert link.writable
            while link.writable:
                link.send(b"x" * 1_000_000, [])
            read_on.set()
            await eventually(lambda: link.writable)
            assert kept.writable == 1


async def test_passwords_and_databases(valkey: ValkeyServer) -> None:
    client = Client(standalone(valkey.url), timeout=1.0, patience=1.0)
    await client.command("ACL", "SETUSER", "tester", "on", ">p@ss word", "~*", "&*", "+@all")
    try:
        url = valkey.url.replace("unix://", "unix://tester:p%40ss%20word@") + "?db=3"
        async with Kept(url) as keeper:
            link = await up(keeper)
            assert await link.call("ACL", "WHOAMI") == b"tester"
            await link.call("SET", "only-in-3", "x", "PX", 1000)
        assert await client.command("EXISTS", "only-in-3") == 0
        wrong = Kept(valkey.url.replace("unix://", "unix://tester:wrong@"))
        async with wrong as keeper:
            await asyncio.sleep(0.05)
            assert keeper.link is None
            assert not wrong.links
    finally:
        await client.command("ACL", "DELUSER", "tester")
        await client.close()
