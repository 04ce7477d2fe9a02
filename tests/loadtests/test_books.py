"""The pure parts of a replay: histograms, frames, books, names, plans, verdicts."""

from __future__ import annotations

import hashlib
import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.replay.books import Stream
from loadtests.replay.correlation import Names
from loadtests.replay.histogram import Histogram
from loadtests.replay.options import duration, rate, slow
from loadtests.replay.plan import make_plan
from loadtests.replay.tally import KINDS, Tally
from loadtests.replay.verdict import BadCondition, compare, failing, read_condition
from loadtests.replay.wire import CLOSE, PING, BadFrame, Frames, accepts, frame, handshake
from loadtests.session_format import Closed, Frame, Header, Opened, Request, Response, Session, load
from tests.loadtests.broken import server_frame
from tests.loadtests.support import TOKENS, centrifuge_chat, native_chat


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200), st.sampled_from([1.0, 50.0, 90.0, 99.0, 100.0]))
def test_a_percentile_is_off_by_a_thousandth_at_the_most(values: list[int], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(1, -(-len(values) * int(share) // 100)) - 1]
    assert exact <= histogram.percentile(share) <= exact * (1 + 1 / 500) + 1
    assert (histogram.least, histogram.most, histogram.count) == (min(values), max(values), len(values))
    assert histogram.mean == pytest.approx(statistics.fmean(values))


@given(st.lists(st.integers(-50, 10**8)), st.lists(st.integers(0, 10**8)))
def test_merged_histograms_are_the_histogram_of_all(some: list[int], others: list[int]) -> None:
    one, other, whole = Histogram(), Histogram(), Histogram()
    for value in some:
        one.add(value)
        whole.add(value)
    for value in others:
        other.add(value)
        whole.add(value)
    one.merge(Histogram.from_json(other.as_json()))
    assert one.as_json() == whole.as_json()


@given(st.lists(st.tuples(st.sampled_from([1, 2, PING, CLOSE]), st.binary(max_size=70_000)), max_size=6), st.data())
def test_frames_come_out_as_they_went_in_whatever_the_cuts(
    messages: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    wire = b"".join(_server(opcode, payload) for opcode, payload in messages)
    frames, found, at = Frames(), [], 0
    while at < len(wire):
        size = data.draw(st.integers(1, 40_000))
        found += frames.feed(wire[at : at + size])
        at += size
    assert found == messages


def _server(opcode: int, payload: bytes) -> bytes:
    head = bytes((0x80 | opcode, 127)) + len(payload).to_bytes(8, "big")
    return head + payload if len(payload) > 65_535 else server_frame(opcode, payload)


def test_fragments_are_joined_and_control_frames_may_stand_between_them() -> None:
    wire = b"\x01\x02ab" + b"\x89\x01p" + b"\x80\x01c"
    assert Frames().feed(wire) == [(PING, b"p"), (1, b"abc")]


@pytest.mark.parametrize(
    "wire", [b"\x81\x81\0\0\0\0x", b"\xc1\x01x", b"\x80\x01x", b"\x01\x01a\x81\x01b", b"\x82\x7f" + b"\x7f" * 8]
)
def test_what_no_server_may_send_is_refused(wire: bytes) -> None:
    with pytest.raises(BadFrame):
        Frames().feed(wire)


def test_the_handshake_is_that_of_the_rfc() -> None:
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    request = handshake("h:80", "/ws", key, ["a", "b"], {"X": "1"}).decode()
    assert request.startswith("GET /ws HTTP/1.1\r\nHost: h:80\r\n")
    assert "Sec-WebSocket-Protocol: a, b\r\nX: 1\r\n\r\n" in request
    answer = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert accepts(answer, key)
    assert not accepts(answer.replace(b"s3p", b"S3p"), key)
    assert frame(1, b"x" * 200)[:8] == b"\x81\xfe\x00\xc8\0\0\0\0"


def booked(*messages: tuple[int, int]) -> tuple[Tally, Stream]:
    tally = Tally()
    stream = Stream(tally, "e", 0, 0)
    for offset, merged in messages:
        stream.take("e", offset, merged)
    return tally, stream


@pytest.mark.parametrize(
    ("messages", "delivered", "lost", "doubled", "reordered"),
    [
        ([(1, 1), (2, 1), (3, 1)], 3, 0, 0, 0),
        ([(1, 1), (4, 3)], 4, 0, 0, 0),
        ([(1, 1), (3, 1)], 2, 1, 0, 0),
        ([(1, 1), (1, 1), (2, 1)], 2, 0, 1, 0),
        ([(2, 1), (1, 1), (3, 1)], 3, 0, 0, 1),
        ([(2, 1), (1, 1), (1, 1)], 2, 0, 1, 1),
        ([(3, 1), (4, 3)], 3, 1, 1, 1),
        ([(3, 3), (5, 4)], 5, 0, 2, 0),
    ],
)  # fmt: skip
def test_what_is_lost_doubled_and_out_of_order_is_told_apart(
    messages: list[tuple[int, int]], delivered: int, lost: int, doubled: int, reordered: int
) -> None:
    tally, _ = booked(*messages)
    assert (tally.delivered, tally.lost, tally.doubled, tally.reordered) == (delivered, lost, doubled, reordered)


@given(st.permutations(range(1, 12)))
def test_a_shuffled_stream_loses_nothing_and_doubles_nothing(order: list[int]) -> None:
    tally, _ = booked(*((offset, 1) for offset in order))
    assert (tally.delivered, tally.lost, tally.doubled) == (11, 0, 0)
    assert (tally.reordered == 0) == (order == sorted(order))


def test_a_receipt_covers_text_and_files() -> None:
    tally, stream = booked((1, 1), (2, 1))
    stream.text("Grüße 👋")
    stream.file({"type": "set", "path": "a", "text": "👋bc"})
    stream.file({"type": "patch", "path": "a", "from": 1, "del": 1, "ins": "xy"})
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in ("Grüße 👋", "👋xyc")]
    files = {"a": {"rev": 2, "characters": 4, "sha256": digests[1]}}
    receipt = {"offset": 2, "characters": 7, "sha256": digests[0], "files": files}
    stream.end({"type": "completed", "receipt": receipt})
    assert (tally.receipts_right, tally.receipts_wrong) == (1, 0)
    assert not stream.take("e", 3, 1)
    assert tally.after_terminal == 1


def test_an_announced_gap_is_no_loss_and_a_silent_new_epoch_is_one_of_its_own() -> None:
    tally, stream = booked((1, 1))
    stream.stand("e", 5, announced=4)
    assert stream.take("e", 6, 1)
    assert stream.take("other", 1, 1)
    assert (tally.lost, tally.gap_offsets, tally.epoch_changes, tally.delivered) == (0, 4, 1, 3)


def test_names_are_learned_from_answers_and_put_in_wherever_they_stand() -> None:
    names = Names()
    recorded = {
        "type": "reply",
        "ok": True,
        "generation_id": "gen_rec",
        "epoch": "abcd",
        "status": "resumed",
        "n": [{"id": "r-1x"}],
    }
    live = {
        "type": "error",
        "ok": True,
        "generation_id": "gen_live",
        "epoch": "efgh",
        "status": "finished",
        "n": [{"id": "l-2"}],
    }
    names.learn(recorded, live)
    assert names.live == {"gen_rec": "gen_live", "abcd": "efgh", "r-1x": "l-2"}
    asked = {
        "streams": {"gen_rec": {"epoch": "abcd", "offset": 3}},
        "url": "/x/gen_rec/events?e=abcd",
        "say": "resumed",
    }
    assert names.translate(asked) == {
        "streams": {"gen_live": {"epoch": "efgh", "offset": 3}}, "url": "/x/gen_live/events?e=efgh", "say": "resumed",
    }  # fmt: skip


def test_a_recording_becomes_steps_with_what_they_wait_for(tmp_path: Path) -> None:
    for make in (native_chat, centrifuge_chat):
        plan = make_plan(load(make(tmp_path / "s.jsonl")))
        kinds = [step.kind for step in plan.steps]
        assert kinds[0] == "open"
        assert kinds[-1] == "close"
        (recorded,) = plan.streams.values()
        assert [text for _, text, _ in recorded.tokens] == TOKENS
        assert recorded.prompt == "What is light?"
        assert recorded.terminal == "completed"
        assert plan.steps[-1].ends == set(plan.streams)
    subscribe = next(step for step in plan.steps if step.name == "subscribe")
    assert subscribe.needs == {1}, "it uses the channel that the rpc has answered"
    assert plan.connect == {"name": "js"}


def test_a_call_waits_for_the_answer_that_holds_a_name_of_its_url(tmp_path: Path) -> None:
    plan = make_plan(load(native_chat(tmp_path / "s.jsonl", calls=True)))
    assert [(step.name, step.needs) for step in plan.steps if step.kind == "call"] == [
        ("GET http://recorded/api/v1/generations/gen_recorded", {1}),
        ("GET http://recorded/no/such/page", set()),
    ]


def test_reconnects_of_a_recording_are_the_pages_own_business() -> None:
    def said(t: float, socket: int, text: str) -> Frame:
        return Frame(t, "send", text, socket=socket)

    records = [
        Opened(0.0, 0),
        said(0.1, 0, '{"type":"auth","token":"${token}"}'),
        said(0.2, 0, '{"type":"subscribe","id":1,"channel":"room:1"}'),
        Request(0.3, "a", "GET", "/v1/models"),
        Response(0.4, "a", 200),
        Closed(1.0, 0, 1006),
        Opened(2.0, 1),
        said(2.1, 1, '{"type":"auth","token":"${token}"}'),
        said(2.2, 1, '{"type":"resume","id":1,"streams":{}}'),
        said(2.3, 1, '{"type":"subscribe","id":2,"channel":"room:1","epoch":"e","offset":4}'),
        said(2.4, 1, '{"type":"options","id":3,"visible":false}'),
        Opened(2.5, 2),
    ]
    plan = make_plan(Session(Header("ws://h/ws"), list(records)))
    assert [(step.kind, step.tab, step.name) for step in plan.steps] == [
        ("open", 0, ""), ("command", 0, "subscribe"), ("call", 0, "GET /v1/models"), ("drop", 0, ""),
        ("open", 0, ""), ("command", 0, "options"), ("open", 1, ""),
    ]  # fmt: skip
    assert [step.body for step in plan.steps if step.kind == "open"] == [False, True, False]
    assert plan.auth_message


def test_options_have_small_languages() -> None:
    assert [duration(text) for text in ("30s", "250ms", "2m", "1.5", "1h")] == [30, 0.25, 120, 1.5, 3600]
    assert [rate(text) for text in ("1KB/s", "500", "2 MB/s")] == [1000, 500, 2_000_000]
    assert (slow("5%@1KB/s").share, slow("5%@1KB/s").rate) == (0.05, 1000)
    for read, text in ((duration, "soon"), (rate, "0"), (rate, "fast"), (slow, "5@1KB/s"), (slow, "500%@1KB/s")):
        with pytest.raises(ValueError, match=text.split("@")[0]):
            read(text)


def test_conditions_are_read_with_their_units() -> None:
    verdict = {"lost": 1, "added_p99": 60.0, "delivered": 99, "expected": 100}
    texts = ["lost>0", "added_p99>50ms", "added_p99>0.1s", "delivered<99.9%", "delivered<90%", "lost==0"]
    assert failing(verdict, [read_condition(text) for text in texts]) == ["lost>0", "added_p99>50ms", "delivered<99.9%"]
    with pytest.raises(BadCondition, match="no condition"):
        read_condition("lost")
    with pytest.raises(BadCondition, match="no figure 'lots'"):
        failing(verdict, [read_condition("lots>0")])


def test_a_comparison_finds_what_became_worse() -> None:
    before = {"lost": 0, "added_p50": 2.0, "added_p99": 10.0, "delivered": 5}
    rows = {name: worse for name, _, _, worse in compare({**before, "lost": 1, "added_p99": 14.0}, before, 0.2)}
    assert (rows["lost"], rows["added_p50"], rows["added_p99"], rows["delivered"]) == (True, False, True, False)


def test_a_hostile_server_can_not_fill_the_books_with_words() -> None:
    tally = Tally()
    for number in range(1000):
        tally.note("errors", f"code {number} " + "x" * random.randrange(10_000))
    assert len(tally.errors) == KINDS + 1
    assert tally.errors.total() == 1000
    assert max(map(len, tally.errors)) <= 160
