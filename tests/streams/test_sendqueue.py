from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.generations.event_json import encode, encode_delta
from app.generations.events import Completed, Receipt, Usage
from app.generations.merging import EventMergeRule
from app.streams.merge import NeverMerge
from app.streams.publication import Batch, Publication
from app.streams.sendqueue import SendQueue

RULE = EventMergeRule()
KIB = 1024


class Lines:
    """A wire format that a test reads back: one JSON line each."""

    def batches(self, channel, batches):
        raise AssertionError("a queue holds publications")

    def publications(self, channel: str, epoch: str, publications: list[Publication]) -> bytes:
        return b"".join(
            b"%b\n" % json.dumps([channel, epoch, p.offset, p.merged, p.data.decode()]).encode() for p in publications
        )


def drained(queue: SendQueue) -> list[Any]:
    return [json.loads(line) for line in queue.drain(Lines()).splitlines()]


def delta(text: str, part: str = "text") -> bytes:
    return encode_delta(text, part)


def test_an_empty_queue_is_false_and_drains_to_nothing():
    queue = SendQueue(64 * KIB, RULE)
    assert not queue
    assert queue.size == 0
    assert queue.drain(Lines()) == b""


def test_messages_merge_when_they_leave():
    queue = SendQueue(64 * KIB, RULE)
    assert queue.push("c", [Batch("e", 1, [delta("a"), delta("b")]), Batch("e", 3, [delta("c")])])
    assert queue
    assert drained(queue) == [["c", "e", 3, 3, '{"type":"delta","text":"abc"}']]
    assert (bool(queue), queue.size, queue.full) == (False, 0, False)


def test_frames_keep_their_place_among_messages():
    queue = SendQueue(64 * KIB, RULE)
    queue.push("c", [Batch("e", 1, [delta("a")])])
    queue.push_frame(b'"reply"\n')
    queue.push("c", [Batch("e", 2, [delta("b")])])
    queue.push_frame(b'"gap"\n')
    queue.push_frame(b'"pong"\n')
    queue.push("c", [Batch("e", 3, [delta("c")])])
    kinds = [line if isinstance(line, str) else line[2] for line in drained(queue)]
    assert kinds == [1, "reply", 2, "gap", "pong", 3]


def test_what_was_pushed_before_a_frame_does_not_merge_with_what_came_after_even_under_pressure():
    queue = SendQueue(64 * KIB, RULE)
    for offset in range(1, 2000):
        assert queue.push("c", [Batch("e", offset, [delta("x")])])
        if offset == 1000:
            queue.push_frame(b'"reply"\n')
    assert [line if isinstance(line, str) else line[2] for line in drained(queue)] == [1000, "reply", 1999]


def test_channels_and_epochs_stay_apart():
    queue = SendQueue(64 * KIB, RULE)
    queue.push("a", [Batch("e1", 8, [delta("1")])])
    queue.push("b", [Batch("e1", 1, [delta("2")])])
    queue.push("a", [Batch("e1", 9, [delta("3")]), Batch("e2", 1, [delta("4")])])
    assert [(line[0], line[1], line[2], line[3]) for line in drained(queue)] == [
        ("a", "e1", 9, 2),
        ("b", "e1", 1, 1),
        ("a", "e2", 1, 1),
    ]


def test_channels_whose_messages_are_not_ours_do_not_merge_whatever_they_look_like():
    queue = SendQueue(64 * KIB, RULE, lambda channel: channel.startswith("gen:"))
    forged = b'{"type":"delta","nothing":1}'
    for number in range(1000):
        if not queue.push("room:1", [Batch("e", number + 1, [forged])]):
            break
    assert {line[3] for line in drained(queue)} == {1}


def test_text_in_small_pieces_fits_as_long_as_the_text_itself_does():
    queue = SendQueue(64 * KIB, RULE)
    for offset in range(1, 40_000):  # 5 MB of messages that say 40 kB
        assert queue.push("c", [Batch("e", offset, [delta("x")])])
        assert queue.size <= 64 * KIB
    (line,) = drained(queue)
    assert (line[2], line[3]) == (39_999, 39_999)
    assert json.loads(line[4])["text"] == "x" * 39_999


def test_more_than_the_limit_is_refused_and_no_earlier_than_close_to_it():
    queue = SendQueue(64 * KIB, NeverMerge())
    taken, offset = 0, 0
    while queue.push("c", [Batch("e", offset + 1, [b"y" * 924])]):
        taken += KIB
        offset += 1
        assert offset < 70
    assert queue.full
    assert 59 * KIB <= taken <= 64 * KIB
    assert queue.size <= 66 * KIB


def test_one_message_beyond_the_limit_is_too_much():
    assert not SendQueue(64 * KIB, RULE).push("c", [Batch("e", 1, [delta("x" * 70 * KIB)])])


def test_a_drained_queue_takes_as_much_again():
    queue = SendQueue(16 * KIB, NeverMerge())
    for _ in range(5):
        assert not queue.push("c", [Batch("e", 1, [b"1" * 20 * KIB])])
        drained(queue)
        assert queue.push("c", [Batch("e", 1, [b"1" * 10 * KIB])])
        drained(queue)


def test_frames_count_as_waiting_but_only_messages_fill_it():
    queue = SendQueue(16 * KIB, RULE)
    queue.push_frame(b"f" * 100 * KIB)
    assert queue.size == 100 * KIB
    assert queue.push("c", [Batch("e", 1, [delta("a")])])
    assert not queue.full


def test_blocks_stay_as_they_are_in_order_and_between_frames():
    queue = SendQueue(64 * KIB, RULE)
    assert queue.push_block(b'"first"\n')
    queue.push("gen", [Batch("e", 1, [delta("a"), delta("b")])])
    assert queue.push_block(b'"second"\n')
    queue.push_frame(b'"frame"\n')
    assert queue.push_block(b'"third"\n')
    queue.push("gen", [Batch("e", 3, [delta("c")])])
    assert queue.size > 4 * 8
    got = [each if isinstance(each, str) else each[2] for each in drained(queue)]
    assert (got.index("frame"), len(got)) == (3, 6)
    assert [each for each in got if isinstance(each, str)] == ["first", "second", "frame", "third"]
    assert (bool(queue), queue.size) == (False, 0)


def test_blocks_fill_it_as_messages_do_and_do_not_merge():
    queue = SendQueue(64 * KIB, RULE)
    while queue.push_block(b"b" * KIB):
        assert queue.size <= 64 * KIB
    assert queue.full
    assert queue.size > 50 * KIB
    mixed = SendQueue(64 * KIB, NeverMerge())
    assert mixed.push_block(b"b" * 40 * KIB)
    assert not mixed.push("c", [Batch("e", 1, [b"1" * 40 * KIB])])
    mixed.drain(Lines())
    assert mixed.push_block(b"b" * 40 * KIB)


def test_merging_close_to_the_limit_is_rare():
    class Counting(EventMergeRule):
        combined = 0

        def combine(self, key, items):
            self.combined += sum(map(len, items))
            return super().combine(key, items)

    rule = Counting()
    queue = SendQueue(256 * KIB, rule)
    pushed, offset = 0, 0
    while True:
        offset += 1
        data = delta("twenty characters !!")
        pushed += len(data) + 100
        if not queue.push("c", [Batch("e", offset, [data])]):
            break
    assert rule.combined < 4 * pushed


PIECES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["text", "reasoning", "tool"]), st.text(st.characters(exclude_categories=["Cs"]))),
        st.tuples(st.just("usage"), st.integers(0, 9)),
        st.tuples(st.just("frame"), st.integers(0, 10**6)),
        st.tuples(st.just("big"), st.integers(1, 30_000)),
        st.tuples(st.just("other"), st.text("ab", max_size=3)),
    ),
    max_size=60,
)


def told(lines: list[Any]) -> tuple[dict[str, list[Any]], list[Any]]:
    """Return what a reader knows in the end, by channel, and the frames. Offsets must follow without a hole."""
    offsets: dict[str, int] = {}
    known: dict[str, list[Any]] = {}
    frames = []
    for line in lines:
        if isinstance(line, int):
            frames.append((line, dict(offsets)))
            continue
        channel, _, offset, merged, data = line
        assert offset == offsets.get(channel, 0) + merged
        offsets[channel] = offset
        event, said = json.loads(data), known.setdefault(channel, [])
        if event["type"] == "delta":
            part = event.get("part", "text")
            if said and said[-1][0] == part:
                said[-1][1] += event["text"]
            else:
                said.append([part, event["text"]])
        else:
            said.append([event["type"], event])
    return known, frames


@given(PIECES)
@settings(max_examples=150)
def test_merging_loses_nothing_doubles_nothing_and_keeps_the_order(pieces):
    queue, plain = SendQueue(10 * KIB * KIB, RULE), []
    tops = {"gen:1": 0, "gen:2": 0}

    def publish(channel: str, data: bytes) -> None:
        tops[channel] += 1
        plain.append([channel, "e", tops[channel], 1, data.decode()])
        assert queue.push(channel, [Batch("e", tops[channel], [data])])

    for kind, value in pieces:
        if kind == "frame":
            queue.push_frame(b"%d\n" % value)
            plain.append(value)
        elif kind == "usage":
            publish("gen:1", encode(Usage(value, value)))
        elif kind == "big":
            publish("gen:1", delta("x" * value))
        elif kind == "other":
            publish("gen:2", delta(value))
        else:
            publish("gen:1", delta(value, kind))
    for channel in ("gen:1", "gen:2"):
        publish(channel, encode(Completed("stop"), Receipt(tops[channel] + 1, 0, "")))
    told_merged, told_plain = told(drained(queue)), told(plain)
    assert told_merged == told_plain
    assert all(said[-1][0] == "completed" for said in told_merged[0].values())


@pytest.mark.parametrize("limit", [16 * KIB, 100 * KIB])
def test_the_last_message_is_taken_even_when_it_is_the_one_too_many(limit):
    queue = SendQueue(limit, NeverMerge())
    offset = 1
    while queue.push("c", [Batch("e", offset, [b'"%d"' % offset * 50])]):
        offset += 1
    assert drained(queue)[-1][2] == offset
