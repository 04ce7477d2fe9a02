"""Frames on their way through: whole, in pieces, cut anywhere, and wrong."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol, State

from app.http.sockets.frames import (
    CLOSE,
    PING,
    PONG,
    WHOLE,
    FrameFault,
    Scanner,
    close_payload,
    control_frame,
    read_close,
)


def frame(opcode: int, payload: bytes, *, fin: bool = True, mask: bool = False) -> bytes:
    return Frame(Opcode(opcode), payload, fin).serialize(mask=mask)


def read(data: bytes, *, masked: bool) -> list[Frame]:
    """Read frames as an endpoint of another make does."""
    endpoint = Protocol(SERVER if masked else CLIENT, state=State.OPEN, max_size=None)
    endpoint.receive_data(data)
    assert endpoint.parser_exc is None
    return [each for each in endpoint.events_received() if isinstance(each, Frame)]


def messages(frames: list[Frame]) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    for each in frames:
        if each.opcode is Opcode.CONT:
            found[-1] = (found[-1][0], found[-1][1] + bytes(each.data))
        else:
            found.append((int(each.opcode), bytes(each.data)))
    return found


parts = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.booleans()),
    max_size=6,
)


@settings(deadline=None)
@given(parts, st.booleans(), st.lists(st.integers(1, 200), max_size=30))
def test_messages_cross_as_they_are_wherever_reads_cut_them(script, masked, cuts):
    data, sent, pings = b"", [], []
    for opcode, pieces, with_ping in script:
        sent.append((opcode, b"".join(pieces)))
        for number, piece in enumerate(pieces):
            data += frame(0 if number else opcode, piece, fin=number == len(pieces) - 1, mask=masked)
            if with_ping:
                pings.append(b"p%d" % number)
                data += frame(9, pings[-1], mask=masked)
    scanner, passed, controls = Scanner(masked=masked, limit=10_000), b"", []
    at, reader = 0, Protocol(SERVER if masked else CLIENT, state=State.OPEN, max_size=None)
    for size in [*cuts, len(data)]:
        out, found = scanner.feed(data[at : at + size])
        reader.receive_data(out)
        assert not reader.reader.buffer, "what was written does not end where a frame ends"
        passed += out
        controls += found
        at += size
    assert scanner.fault is None
    assert messages(read(passed, masked=masked)) == sent
    assert controls == [(PING, payload) for payload in pings]


@pytest.mark.parametrize("masked", [True, False])
def test_a_small_frame_crosses_byte_for_byte(masked):
    data = frame(1, b"hello", mask=masked) + frame(2, b"x" * WHOLE, mask=masked)
    assert Scanner(masked=masked, limit=10**6).feed(data) == (data, [])


@settings(max_examples=30)
@given(st.booleans(), st.binary(min_size=1, max_size=50), st.lists(st.integers(1, 50_000), max_size=20), st.booleans())
def test_a_large_frame_crosses_in_pieces_before_it_is_whole(masked, pattern, cuts, fin):
    payload = (pattern * (3 * WHOLE // len(pattern) + 1))[: 3 * WHOLE + 1]
    data = frame(1, payload, fin=fin, mask=masked)
    scanner, passed, at = Scanner(masked=masked, limit=len(payload)), b"", 0
    reader = Protocol(SERVER if masked else CLIENT, state=State.OPEN, max_size=None)
    for size in [*cuts, len(data)]:
        out, _ = scanner.feed(data[at : at + size])
        assert len(out) <= size + 14 * 2
        reader.receive_data(out)
        assert not reader.reader.buffer, "what was written does not end where a frame ends"
        passed += out
        at += size
    frames = read(passed, masked=masked)
    assert messages(frames) == [(1, payload)]
    assert frames[-1].fin is fin
    assert scanner.fault is None


@pytest.mark.parametrize("masked", [True, False])
def test_no_more_than_the_beginning_of_a_small_frame_is_kept(masked):
    data = frame(2, bytes(10 * WHOLE), mask=masked)
    scanner = Scanner(masked=masked, limit=10**6)
    for at in range(0, len(data) - 1000, 1000):
        scanner.feed(data[at : at + 1000])
        assert len(scanner._held or b"") < 1000


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xc1\x00", 1002),  # a reserved bit: compression that nobody agreed on
        (b"\x83\x00", 1002),  # an unknown opcode
        (b"\x8b\x00", 1002),
        (b"\x09\x00", 1002),  # a ping in fragments
        (b"\x89\x7e\x00\x7e", 1002),  # a ping that is too long
        (b"\x80\x00", 1002),  # a continuation of nothing
        (b"\x01\x00\x81\x00", 1002),  # a message within another
        (b"\x81\x80", 1002),  # masked
        (b"\x82\x7f" + (101).to_bytes(8, "big"), 1009),
        (b"\x82\x7f" + b"\xff" * 8, 1009),
        (b"\x01\x32" + bytes(50) + b"\x80\x33", 1009),
    ],
)
def test_what_breaks_the_protocol_or_the_limit_is_refused_at_its_head(data, code):
    scanner = Scanner(masked=False, limit=100)
    scanner.feed(data)
    assert scanner.fault is not None
    assert scanner.fault.code == code
    assert scanner.feed(frame(1, b"more")) == (b"", [])


def test_a_client_must_mask():
    scanner = Scanner(masked=True, limit=100)
    good = frame(1, b"good", mask=True)
    assert scanner.feed(good + frame(1, b"bad")) == (good, [])
    assert scanner.fault is not None
    assert scanner.fault.code == 1002


def test_a_message_of_exactly_the_limit_passes_also_in_fragments():
    scanner = Scanner(masked=False, limit=100)
    data = frame(1, b"x" * 60, fin=False) + frame(0, b"x" * 40) + frame(2, b"x" * 100)
    assert scanner.feed(data) == (data, [])
    assert scanner.fault is None


def test_nothing_passes_behind_a_close_frame():
    scanner = Scanner(masked=True, limit=100)
    before = frame(1, b"last", mask=True)
    end = frame(8, Close(4001, "bye").serialize(), mask=True)
    passed, controls = scanner.feed(before + end + frame(1, b"never", mask=True))
    assert passed == before
    assert controls == [(CLOSE, b"\x0f\xa1bye")]
    assert scanner.feed(before) == (b"", [])


@pytest.mark.parametrize(
    "payload", [b"\x03", b"\x03\xed", b"\x03\xee", b"\x03\xf7", b"\x00\x00", b"\x13\x88", b"\x07\xd0"]
)
def test_codes_that_must_not_be_sent_are_refused(payload):
    with pytest.raises(FrameFault) as refused:
        read_close(payload)
    assert refused.value.code == 1002


def test_a_close_reason_must_be_utf_8():
    with pytest.raises(FrameFault) as refused:
        read_close(b"\x03\xe8\xff")
    assert refused.value.code == 1007


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1014, 3000, 4401, 4999])
def test_close_frames_are_read_by_others(code):
    data = control_frame(CLOSE, close_payload(code, "because ü"), b"\x01\x02\x03\x04")
    (only,) = read(data, masked=True)
    assert Close.parse(only.data) == Close(code, "because ü")
    assert read_close(bytes(only.data)) == (code, "because ü")


def test_a_reason_that_is_too_long_is_cut_between_characters():
    payload = close_payload(1000, "ü" * 100)
    assert len(payload) <= 125
    assert read_close(payload) == (1000, "ü" * 61)


def test_a_close_without_code_stays_without():
    assert close_payload(None, "") == b""
    assert read_close(b"") == (None, "")


def test_pongs_are_masked_for_upstreams():
    (only,) = read(control_frame(PONG, b"1234567", b"abcd"), masked=True)
    assert (only.opcode, bytes(only.data)) == (Opcode.PONG, b"1234567")
