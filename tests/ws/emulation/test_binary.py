"""The protobuf flavour over streamed answers, against the messages of an SDK's generated code."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from centrifuge.protocol import client_pb2
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequest, MessageTooBig
from app.ws.emulation.framing import HTTP_STREAM, SSE
from app.ws.emulation.requests import Post, check_commands, is_binary, read_binary_post
from app.ws.protocols.protobuf import count_delimited, delimited, varint_at
from tests.support.gateway import Gateway, token
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually, serving
from tests.ws.emulation.support import Answer, asking, connected, post, send
from tests.ws.emulation.test_endpoint import configured, shared, subscribe
from tests.ws.test_protobuf import replies, written

BINARY = {"content_type": "application/octet-stream"}


def emulated(node: str, session: str, data: bytes) -> bytes:
    return client_pb2.EmulationRequest(node=node, session=session, data=data).SerializeToString()


class Replies:
    """What comes in a binary answer, message by message, however it is cut."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._rest = b""

    async def next(self) -> Any:
        """Return the next message; None at the end."""
        while True:
            if self._rest:
                size, at = varint_at(self._rest, 0, len(self._rest))
                if len(self._rest) >= at + size:
                    message, self._rest = self._rest[: at + size], self._rest[at + size :]
                    return replies(message)[0]
            chunk = await self.answer.chunk()
            if not chunk:
                assert not self._rest, "it ended in the middle of a message"
                return None
            self._rest += chunk

    async def end(self) -> tuple[int, str]:
        last = None
        while (message := await self.next()) is not None:
            last = message
        return last.push.disconnect.code, last.push.disconnect.reason


@contextlib.asynccontextmanager
async def binary(gateway: Gateway, commands: bytes | None = None) -> AsyncIterator[Replies]:
    """Ask for a session; the connect reply is the first that comes."""
    if commands is None:
        commands = written({"id": 1, "connect": {"token": token()}})
    async with asking(gateway, "POST", "/connection/http_stream", commands, **BINARY) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/octet-stream"
        yield Replies(answer)


async def tell(gateway: Gateway, place: Any, *commands: Any) -> int:
    data = b"".join(each if isinstance(each, bytes) else written(each) for each in commands)
    body = emulated(place.node, place.session, data)
    return (await send(gateway, "POST", "/emulation", body, **BINARY))[0]


async def test_commands_reach_the_session_from_any_replica_and_are_answered_in_order(
    valkey: ValkeyServer, prefix: str
) -> None:
    config = shared(valkey, prefix)
    async with serving(config) as a, serving(config) as b, binary(a) as answer, connected(b) as (text, place):
        told = (await answer.next()).connect
        assert told.session
        assert told.node
        assert await post(b, place, subscribe(2, "room:1")) == 204
        assert "subscribe" in (await text.message() or {})
        assert await tell(b, told, {"id": 2, "subscribe": {"channel": "room:1"}}) == 204
        assert (await answer.next()).HasField("subscribe")
        for number in range(3, 33):
            data = {"channel": "room:1", "data": b'{ "n":%d}' % number}
            assert await tell((a, b)[number % 2], told, {"id": number, "publish": data}) == 204
        got, answered = [], []
        while len(got) < 30 or len(answered) < 30:
            message = await answer.next()
            if message.HasField("push"):
                got.append(message.push.pub.data)
            else:
                answered.append(message.id)
        assert got == [b'{ "n":%d}' % number for number in range(3, 33)]
        assert answered == list(range(3, 33))
        seen = [await text.message() for _ in range(30)]
        assert [each["push"]["pub"]["data"]["n"] for each in seen if each] == list(range(3, 33))


async def test_both_flavours_listen_to_one_channel_and_one_that_speaks_the_other_is_ended() -> None:
    async with serving(configured()) as gateway, binary(gateway) as answer, connected(gateway) as (text, place):
        told = (await answer.next()).connect
        assert await post(gateway, {"session": told.session, "node": told.node}, subscribe(2, "room:1")) == 204
        assert await answer.end() == (3506, "inappropriate protocol")
        body = emulated(place["node"], place["session"], written({"id": 2, "subscribe": {"channel": "room:1"}}))
        assert (await send(gateway, "POST", "/emulation", body, **BINARY))[0] == 204
        assert await text.disconnect() == (3506, "inappropriate protocol")
        await eventually(lambda: not gateway.sessions)


@pytest.mark.parametrize("commands", [b"", b"\x00", b"\x7f", b"\xff" * 20, b"{}", b'{"id":1,"connect":{}}'])
async def test_what_is_no_connect_command_ends_the_session_in_words(commands: bytes) -> None:
    async with serving(configured()) as gateway:
        async with binary(gateway, commands) as answer:
            assert await answer.end() == (3501, "bad request")
        await eventually(lambda: not gateway.sessions)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff", 400),
        (b'{"session":"s","node":"n","data":""}', 400),
        (emulated("", "s", b""), 400),
        (emulated("n", "", b""), 400),
        (emulated("../*", "s", b""), 400),
        (emulated("n", "s" * 65, b""), 400),
        (b"\x0a\x02\xff\xff" + emulated("n", "s", b""), 400),
        (emulated("n", "s", b"\x00" * 1001), 413),
        (emulated("n", "s", b"\x01" + b"\x00" * 65536), 413),
        (emulated("n", "s", b"\x00"), 404),
    ],
)
async def test_a_post_that_is_none_or_too_large_or_for_nobody_is_refused(body: bytes, status: int) -> None:
    async with serving(configured()) as gateway, binary(gateway) as answer:
        told = (await answer.next()).connect
        got, headers, _ = await send(gateway, "POST", "/emulation", body, **BINARY)
        assert (got, headers["content-type"]) == (status, "application/problem+json")
        assert await tell(gateway, told, {"id": 2, "subscribe": {"channel": "room:1"}}) == 204
        assert (await answer.next()).id == 2


async def test_garbage_in_a_post_ends_its_session_and_no_other() -> None:
    async with serving(configured()) as gateway, binary(gateway) as other:
        other_place = (await other.next()).connect
        async with binary(gateway) as answer:
            place = (await answer.next()).connect
            assert await tell(gateway, place, b"\x05garbage") == 204
            assert await answer.end() == (3501, "bad request")
        assert await tell(gateway, other_place, {"id": 2, "subscribe": {"channel": "room:1"}}) == 204
        assert (await other.next()).id == 2


async def test_a_silent_client_is_pinged_and_then_gone() -> None:
    config = configured(ping_interval=0.4, centrifuge={"pong_timeout": 0.3})
    async with serving(config) as gateway, binary(gateway) as silent, binary(gateway) as lively:
        place = (await lively.next()).connect
        assert (await lively.next()) == client_pb2.Reply()
        assert await tell(gateway, place, b"\x00") == 204
        assert await silent.end() == (3012, "no pong")


async def test_where_only_text_goes_the_binary_flavour_is_refused_in_words() -> None:
    async with serving(configured()) as gateway:
        assert (await send(gateway, "POST", "/connection/sse", b"\x00", **BINARY))[0] == 415
        assert (await send(gateway, "GET", "/connection/sse?cf_connect=%7B", **BINARY))[0] == 200


def test_the_binary_flavour_is_told_by_its_content_type() -> None:
    assert not is_binary({})
    assert not is_binary({b"content-type": b"text/plain"})
    assert is_binary({b"content-type": b"Application/Octet-Stream; x=1"})
    assert SSE.binary is None
    assert HTTP_STREAM.binary is not None


@given(st.binary(), st.binary())
def test_what_a_request_carries_comes_as_it_was_and_anything_else_is_refused(data: bytes, garbage: bytes) -> None:
    assert read_binary_post(emulated("a.b", "s_", data)) == Post("a.b", "s_", data, binary=True)
    with contextlib.suppress(BadRequest):
        read_binary_post(garbage)


@given(st.lists(st.binary(max_size=300)), st.binary(max_size=3))
def test_commands_are_counted_and_what_is_cut_off_is_one(messages: list[bytes], rest: bytes) -> None:
    whole = b"".join(delimited(each) for each in messages)
    assert count_delimited(whole) == len(messages)
    cut = whole + b"\x05" + rest
    assert count_delimited(cut) == len(messages) + 1
    with pytest.raises(MessageTooBig):
        check_commands(cut, len(messages), binary=True)
    check_commands(cut, len(messages) + 1, binary=True)
