"""Both flavours carry the same messages, and each is encoded once for all who listen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from app.streams.envelope import joined
from app.streams.hub import Hub
from app.streams.publication import Batch
from app.ws.emulation.framing import HTTP_STREAM, SSE, Transport, json_lines, server_sent_events

values = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def unchunked(chunk: bytes) -> bytes:
    """Return what the only chunk holds."""
    size, _, rest = chunk.partition(b"\r\n")
    assert len(rest) == int(size, 16) + 2
    assert rest.endswith(b"\r\n")
    return rest[:-2]


def read_events(block: bytes) -> list[str]:
    """Read an event stream as a browser does: lines end with any of three signs."""
    events, data = [], []
    for line in block.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.startswith("data: "):
            data.append(line[6:])
        elif not line and data:
            events.append("\n".join(data))
            data = []
    assert not data, "the last event is not ended"
    return events


@given(st.lists(values, min_size=1), st.booleans())
def test_what_goes_in_comes_out(messages: list[object], spaced: bool) -> None:
    payload = "\n".join(json.dumps(each) for each in messages)
    if spaced:
        payload = payload.replace(",", ",\r\t").replace(": ", ":\r")  # in texts, too: they must stay JSON
        messages = [json.loads(line, strict=False) for line in payload.replace("\r", " ").split("\n")]
    events = read_events(unchunked(server_sent_events(payload.encode())))
    assert [json.loads(event, strict=False) for event in events] == messages
    lines = unchunked(json_lines(payload.encode())).decode().split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(messages)


def test_who_comes_and_goes_is_kept_from_quiet_listeners_in_each_flavour() -> None:
    batch = Batch("", 0, [joined(b'{"client":"c"}')])
    for transport in (SSE, HTTP_STREAM):
        codec = transport.codec
        assert b'"join"' in codec.encoder.batches("room", [batch])
        assert codec.quiet.batches("room", [batch]) == b""
        assert codec.quiet.frame(b"{}") == codec.encoder.frame(b"{}")


class Listening:
    direct = None

    def __init__(self, transport: Transport) -> None:
        self.encoder = transport.codec.encoder
        self.blocks: list[bytes] = []

    def deliver(self, channel: str, batches: Sequence[Batch], block: bytes) -> None:
        self.blocks.append(block)

    def reset(self, channel: str) -> None: ...
    def ended(self, channel: str) -> None: ...


async def test_all_listeners_of_a_flavour_are_given_the_same_bytes() -> None:
    hub = Hub(asyncio.get_running_loop().call_soon)
    listeners = [Listening(transport) for transport in (SSE, HTTP_STREAM) * 10]
    for listener in listeners:
        hub.go_live(hub.hold("room", listener))
    hub.broadcast("room", Batch("", 0, [b'{"a":1}']))
    hub.flush()
    assert len({id(listener.blocks[0]) for listener in listeners}) == 2
