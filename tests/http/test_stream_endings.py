"""How a stream ends that is cut off, and where it can be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.generations.formats.sse import SseParser
from app.http.stream_endings import StreamEnding, boundary


@given(st.lists(st.sampled_from([b"data: x\n\n", b"data: y\r\n\r\n", b": c\n", b"event: e\r", b"\r"]), max_size=8),
       st.data())  # fmt: skip
def test_what_is_cut_at_a_boundary_holds_whole_events_only(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cut = data.draw(st.integers(0, len(stream)))
    at = boundary(stream[max(0, cut - 3) : cut], stream[cut:])
    if at is None:
        assert b"\n\n" not in stream[cut:]
        return
    parser = SseParser()
    parser.feed(stream[: cut + at])
    assert not parser.unfinished
    assert parser.feed(b"data: end\n\n") == [("message", b"end")]


def ended(*values: dict[str, Any], usage: bool = False) -> list[Any] | None:
    ending = StreamEnding(usage=usage)
    for value in values:
        ending.take(value)
    last = ending.of(10, 20)
    if last is None:
        return None
    payloads = [payload for _, payload in SseParser().feed(last)]
    return [payload if payload == b"[DONE]" else json.loads(payload) for payload in payloads]


def part(index: int, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": {"content": "x"}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def test_each_choice_that_is_open_is_ended() -> None:
    last = ended(part(0), part(1), part(2), part(1, "stop"))
    assert last is not None
    assert [(each["index"], each["finish_reason"]) for each in last[0]["choices"]] == [(0, "length"), (2, "length")]
    assert (last[0]["id"], last[0]["model"], last[-1]) == ("c", "m", b"[DONE]")


def test_a_bill_is_told_to_who_asked_for_one() -> None:
    last = ended(part(0), usage=True)
    assert last is not None
    assert last[1]["usage"] == {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
    assert last[1]["choices"] == []
    assert len(ended(part(0)) or ()) == 2


def test_an_older_completion_ends_with_text() -> None:
    last = ended({"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": "x"}]})
    assert last is not None
    assert last[0]["choices"] == [{"index": 0, "text": "", "finish_reason": "length"}]


@pytest.mark.parametrize(
    "values",
    [
        [],
        [{"delta": "x"}],
        [part(0), part(0, "stop")],
        [{"type": "message_start"}, {"type": "message_stop"}],
        [{"type": "response.created", "response": {}}, {"type": "response.completed", "response": {}}],
        [{"type": 7}],
    ],
)
def test_what_ends_by_itself_and_what_nobody_knows_is_not_ended(values: list[dict[str, Any]]) -> None:
    assert ended(*values) is None


NUMBERS = st.integers(-(2**63), 2**64 - 1)
"""What is an integer when JSON has been read."""


@given(st.lists(st.dictionaries(
    st.sampled_from(["type", "choices", "index", "response", "sequence_number", "object", "id"]),
    st.none() | NUMBERS | st.text(max_size=5) | st.sampled_from(["message_start", "response.created", "error"])
    | st.lists(st.none() | st.dictionaries(st.sampled_from(["index", "finish_reason"]), NUMBERS | st.none()))
    | st.dictionaries(st.text(max_size=3), st.integers(-(2**31), 2**31)),
), max_size=6))  # fmt: skip
def test_nothing_that_an_upstream_sends_breaks_it(values: list[dict[str, Any]]) -> None:
    ended(*values)
