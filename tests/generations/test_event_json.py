"""How each event reads on the wire, letter by letter."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.generations.event_json import encode, encode_delta
from app.generations.events import (
    TERMINALS,
    Cancelled,
    Completed,
    Delta,
    Event,
    Failed,
    Part,
    Receipt,
    Reset,
    Started,
    Switched,
    Usage,
)

RECEIPT = Receipt(12, 3, "ab" * 32)
SEAL = '"receipt":{"offset":12,"characters":3,"sha256":"' + "ab" * 32 + '"}'


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Started("gpt-x", "chat"), '{"type":"started","model":"gpt-x","upstream":"chat"}'),
        (Started(None, "chat"), '{"type":"started","model":null,"upstream":"chat"}'),
        (Delta("Grüße\n"), '{"type":"delta","text":"Grüße\\n"}'),
        (Delta("Hm", "reasoning"), '{"type":"delta","text":"Hm","part":"reasoning"}'),
        (
            Switched("a", "b", "restart", "upstream_timeout"),
            '{"type":"switched","from":"a","to":"b","mode":"restart","code":"upstream_timeout","usage":null}',
        ),
        (Reset(7), '{"type":"reset","characters":7}'),
        (Usage(9, 2), '{"type":"usage","prompt_tokens":9,"completion_tokens":2,"source":"provider"}'),
    ],
)
def test_an_event_is_its_fields_in_their_order(event: Event, text: str) -> None:
    assert encode(event).decode() == text


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Completed("stop"), '{"type":"completed","reason":"stop",'),
        (
            Failed("upstream_error", "No.", True),
            '{"type":"failed","code":"upstream_error","message":"No.","retryable":true,',
        ),
        (Cancelled("user"), '{"type":"cancelled","by":"user",'),
    ],
)
def test_a_terminal_carries_its_receipt(event: Event, text: str) -> None:
    assert isinstance(event, TERMINALS)
    assert encode(event, RECEIPT).decode() == text + SEAL + "}"
    assert encode(event).decode() == text.removesuffix(",") + "}"


@given(st.text(), st.sampled_from(["text", "reasoning", "tool"]))
def test_a_delta_is_sound_json_for_any_text(text: str, part: Part) -> None:
    value = orjson.loads(encode_delta(text, part))
    assert (value.pop("type"), value.pop("text"), value.pop("part", "text")) == ("delta", text, part)
    assert not value
    assert encode(Delta(text, part)) == encode_delta(text, part)
