"""Every stream decoder against every split, every cut, one broken event, one unknown event, and arbitrary bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UpstreamTruncated
from app.generations.event_json import encode
from app.generations.events import TERMINALS, Completed, Delta, Event, Failed
from app.generations.formats.decoders import StreamDecoder
from tests.support.recordings import RECORDINGS, Recording

TRUNCATED = Failed("upstream_truncated", UpstreamTruncated.default_message, True)
each_family = pytest.mark.parametrize("name", RECORDINGS)


def read(decoder: StreamDecoder, *chunks: bytes) -> list[Event]:
    """Feed and end; assert what holds for every decoder, whatever it was fed."""
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    events += decoder.end()
    assert decoder.answer.ended
    assert decoder.end() == []
    assert decoder.feed(b'data: {"late":1}\n\n{"late":1}\n') == []
    assert [isinstance(event, TERMINALS) for event in events] == [False] * (len(events) - 1) + [True]
    for event in events:
        json.loads(encode(event))
    return events


def said(events: list[Event]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for event in events:
        if isinstance(event, Delta):
            texts[event.part] = texts.get(event.part, "") + event.text
    return texts


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


@each_family
def test_a_recording_means_what_is_written_beside_it_at_every_split(name: str) -> None:
    recording = RECORDINGS[name]
    data = b"".join(recording.events)
    assert read(recording.decoder(), data) == recording.means
    assert read(recording.decoder(), *recording.events) == recording.means
    assert read(recording.decoder(), *(bytes([byte]) for byte in data)) == recording.means
    for cut in range(len(data)):
        assert read(recording.decoder(), data[:cut], data[cut:]) == recording.means


@each_family
def test_a_recording_with_other_line_ends_means_the_same(name: str) -> None:
    recording = RECORDINGS[name]
    data = b"".join(recording.events).replace(b"\n", b"\r\n")
    assert read(recording.decoder(), *pieces(data, list(range(0, len(data), 7)))) == recording.means


@each_family
def test_a_cut_after_any_event_is_a_truncation_and_keeps_what_came(name: str) -> None:
    recording = RECORDINGS[name]
    for count in range(len(recording.events)):
        *before, last = read(recording.decoder(), *recording.events[:count])
        assert last == TRUNCATED
        told = [event for event in before if event in recording.means]
        assert len(told) == len(before), "what was told of a part is no part of what is told of the whole"


@each_family
def test_a_cut_at_any_byte_is_never_taken_for_the_end(name: str) -> None:
    recording = RECORDINGS[name]
    data = b"".join(recording.events)
    whole = len(data.rstrip(b"\n"))
    texts = said(recording.means)
    for cut in range(len(data)):
        events = read(recording.decoder(), data[:cut])
        if cut < whole:
            assert events[-1] == TRUNCATED
        assert all(texts[part].startswith(text) for part, text in said(events).items())


# Replicate's events are plain text, of which none can be broken but the terminal.
@pytest.mark.parametrize("name", [name for name in RECORDINGS if name != "replicate"])
def test_one_broken_event_costs_no_more_than_itself(name: str) -> None:
    recording = RECORDINGS[name]
    for index in range(len(recording.events) - 1):
        broken, without = list(recording.events), list(recording.events)
        broken[index] = (
            recording.events[index].replace(b"}", b"", 1).replace(b":", b":\xff", 2).replace(b":\xff", b":", 1)
        )
        del without[index]
        decoder = recording.decoder()
        assert read(decoder, *broken) == read(recording.decoder(), *without)
        assert decoder.answer.malformed == 1


@each_family
def test_a_broken_terminal_is_a_failure(name: str) -> None:
    recording = RECORDINGS[name]
    *before, last = recording.events
    for broken in (last.replace(b"{", b"{{", 1).replace(b"[DONE]", b"[DON"), last[: len(last) // 2] + b"\n\n"):
        terminal = read(recording.decoder(), *before, broken)[-1]
        assert isinstance(terminal, Failed)
        by_name = broken.startswith(b"event: ") and b"data: " in broken
        assert terminal.code == ("upstream_invalid" if by_name else "upstream_truncated")


@each_family
def test_events_of_a_later_version_are_passed_over_and_counted(name: str) -> None:
    recording = RECORDINGS[name]
    later = b"event: later\ndata: x\n\n" if name == "replicate" else recording.frame({"type": "later.thing", "x": [1]})
    for index in range(len(recording.events)):
        decoder = recording.decoder()
        events = [*recording.events[:index], later, *recording.events[index:]]
        assert read(decoder, *events) == recording.means
        assert decoder.answer.unknown == (0 if name == "openai-chat" else 1)  # Its chunks have no type.
        assert decoder.answer.malformed == 0


@each_family
@pytest.mark.parametrize("error", [{"message": "Overloaded", "type": "overloaded_error"}, "Overloaded"], ids=repr)
def test_an_error_in_the_middle_is_a_failure_in_its_words(name: str, error: Any) -> None:
    recording = RECORDINGS[name]
    if name == "vercel-ai":
        frame = recording.frame({"type": "error", "errorText": "Overloaded"})
    elif name == "replicate":
        frame = b'event: error\ndata: {"detail":"Overloaded"}\n\n'
    else:
        frame = recording.frame({"type": "error", "error": error})
    for index in range(len(recording.events)):
        *before, last = read(recording.decoder(), *recording.events[:index], frame, *recording.events[index:])
        assert last == Failed("upstream_error", "Overloaded", True)
        assert all(event in recording.means for event in before)


@pytest.mark.parametrize("name", [name for name, recording in RECORDINGS.items() if recording.halves])
def test_a_character_whose_halves_come_in_two_events_is_kept(name: str) -> None:
    recording = RECORDINGS[name]
    *before, last = recording.events

    def escaped(value: Any) -> bytes:
        text = recording.frame(json.loads(json.dumps(value).replace("\\ud", "HALF")))
        return text.replace(b"HALF", b"\\ud")

    first, second, more = map(escaped, recording.halves)
    told = said(recording.means).get("text", "")
    decoder = recording.decoder()
    assert said(read(decoder, *before[:-1], first, second, more, *before[-1:], last))["text"] in {
        told + "😀x",
        told[:-2] + "😀x" + told[-2:],
    }
    assert decoder.answer.malformed == 0
    *_, terminal = read(recording.decoder(), first)
    assert terminal == TRUNCATED
    alone = said(read(recording.decoder(), first, more, second, last))["text"]
    assert alone == "\ufffdx\ufffd"


def replaced(value: Any, wrong: Any) -> Iterator[Any]:
    """Yield ``value`` with each thing in it replaced by ``wrong``."""
    yield wrong
    if isinstance(value, dict):
        for name, item in value.items():
            yield {key: field for key, field in value.items() if key != name}
            for other in replaced(item, wrong):
                yield {**value, name: other}
    elif isinstance(value, list):
        for index, item in enumerate(value):
            for other in replaced(item, wrong):
                yield [*value[:index], other, *value[index + 1 :]]


WRONG: list[Any] = [
    None,
    True,
    0,
    -1,
    2**62,
    1.5,
    "x",
    "",
    [],
    [None],
    [[]],
    {},
    {"type": []},
    [{}],
    "\ud83d",
    "y" * 2000,
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:20])
@each_family
def test_values_of_a_wrong_type_anywhere_never_raise(name: str, wrong: Any) -> None:
    recording = RECORDINGS[name]
    for index, event in enumerate(recording.events):
        start, brace, rest = event.partition(b"{")
        if not brace:
            continue
        for other in replaced(json.loads(brace + rest), wrong):
            changed = start + json.dumps(other).encode() + b"\n\n"
            read(recording.decoder(), *recording.events[:index], changed, *recording.events[index + 1 :])


NAMES = [
    "type",
    "message",
    "content",
    "delta",
    "text",
    "index",
    "error",
    "done",
    "response",
    "usage",
    "data",
    "model",
    "output",
    "item",
    "value",
    "status",
    "code",
    "input_tokens",
    "output_tokens",
    "function",
    "arguments",
    "tool_calls",
    "content_block",
    "partial_json",
    "part",
    "id",
    "choices",
    "finish",
    "event",
    "progress",
    "percent",
    "toolCallId",
    "b64_json",
]
TYPES = [
    "error",
    "message_start",
    "content_block_start",
    "content_block_delta",
    "message_delta",
    "message_stop",
    "response.created",
    "response.completed",
    "response.failed",
    "response.output_text.delta",
    "response.output_item.added",
    "text-delta",
    "finish",
    "tool-input-delta",
    "tool-input-available",
    "file",
    "image_generation.completed",
    "response.function_call_arguments.delta",
]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None), max_size=8)
    | st.sampled_from(TYPES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=15,
)
cuts = st.lists(st.integers(0, 10_000), max_size=4)


@each_family
@given(values=st.lists(json_values, max_size=4), cuts=cuts)
def test_arbitrary_json_never_raises_and_ends_once(name: str, values: list[Any], cuts: list[int]) -> None:
    recording: Recording = RECORDINGS[name]
    newline = b"\n" if recording.frame is RECORDINGS["ollama"].frame else b"\n\n"
    prefix = b"" if newline == b"\n" else b"data: "
    data = b"".join(prefix + json.dumps(value).encode() + newline for value in values)
    events = read(recording.decoder(), data)
    assert read(recording.decoder(), *pieces(data, cuts)) == events


@each_family
@given(noise=st.binary(max_size=200), at=st.integers(0, 10_000), cuts=cuts)
def test_arbitrary_bytes_anywhere_never_raise_and_end_once(name: str, noise: bytes, at: int, cuts: list[int]) -> None:
    recording = RECORDINGS[name]
    data = b"".join(recording.events)
    at %= len(data) + 1
    data = data[:at] + noise + data[at:]
    events = read(recording.decoder(), data)
    assert read(recording.decoder(), *pieces(data, cuts)) == events


@each_family
def test_json_nested_past_every_parser_never_raises(name: str) -> None:
    recording = RECORDINGS[name]
    for depth in (500, 900, 1200, 100_000):
        deep = b'{"a":' * depth + b"1" + b"}" * depth
        half = b'{"\\ud83d":' * depth + b"1" + b"}" * depth
        for value in (deep, half):
            frame = recording.frame({"type": "x", "choices": "DEEP"}).replace(b'"DEEP"', value)
            assert isinstance(read(recording.decoder(), frame, *recording.events)[-1], Completed | Failed)
