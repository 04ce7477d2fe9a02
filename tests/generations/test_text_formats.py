"""What only one family has: Anthropic, Ollama, the AI SDK, images, JSON lines, lines themselves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UpstreamInvalid, UpstreamTruncated
from app.generations.events import (
    Artifact,
    Cancelled,
    Completed,
    Delta,
    Event,
    Failed,
    FilePatch,
    FileSet,
    Preview,
    Progress,
    Usage,
)
from app.generations.formats import STREAM_DECODERS
from app.generations.formats.bodies import json_in_lines
from app.generations.formats.decoders import StreamDecoder
from app.generations.formats.json_lines import FIELDS, json_lines
from app.generations.formats.lines import LineSplitter
from app.generations.formats.ollama import OllamaReader, ollama
from tests.support.recordings import data, line, named

TRUNCATED = Failed("upstream_truncated", UpstreamTruncated.default_message, True)
FAILED = Failed("upstream_error", "The service behind the gateway answered with an error.", True)


def read(decoder: StreamDecoder, *events: bytes) -> list[Event]:
    return decoder.feed(b"".join(events)) + decoder.end()


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "pause_turn"),
        ("of a later version", "of a later version"),
    ],
)
def test_anthropics_reasons_are_told_in_one_vocabulary(reason: str, told: str) -> None:
    delta = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 3}}
    events = read(STREAM_DECODERS["anthropic"](), named(delta), named({"type": "message_stop"}))
    assert events == [Usage(0, 3), Completed(told)]


def test_anthropics_usage_is_the_last_word_with_the_cache_counted() -> None:
    start = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": None,
        "output_tokens": 1,
    }
    events = [
        named({"type": "message_start", "message": {"model": "claude-x", "usage": start}}),
        named({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 20}}),
        named({"type": "message_delta", "delta": {}, "usage": {"input_tokens": 12, "output_tokens": 30}}),
    ]
    assert read(STREAM_DECODERS["anthropic"](), *events) == [Usage(112, 30), TRUNCATED]
    assert read(STREAM_DECODERS["anthropic"](), *events[:1]) == [TRUNCATED]


def test_anthropics_events_are_known_by_their_names_too() -> None:
    decoder = STREAM_DECODERS["anthropic"]()
    delta = b'event: content_block_delta\ndata: {"index":0,"delta":{"type":"text_delta","text":"x"}}\n\n'
    assert read(decoder, delta, b"event: message_stop\ndata: {}\n\n") == [Delta("x"), Completed("stop")]


def test_a_call_that_anthropic_sends_whole_is_told_whole() -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "search", "input": {"query": "ü"}}
    events = read(
        STREAM_DECODERS["anthropic"](),
        named({"type": "content_block_start", "index": 1, "content_block": block}),
        named({"type": "message_stop"}),
    )
    function = (
        '{"index":1,"id":"s","type":"function","function":{"name":"search","arguments":"{\\"query\\":\\"ü\\"}"}}\n'
    )
    assert events == [Delta(function, "tool"), Completed("stop")]


@pytest.mark.parametrize(
    ("last", "events"),
    [
        ({"done": True, "done_reason": "stop"}, [Completed("stop")]),
        ({"done": True}, [Completed("stop")]),
        ({"done": True, "done_reason": "load"}, [Completed("load")]),
        ({"done": True, "done_reason": "error"}, [FAILED]),
        ({"done": "true"}, [TRUNCATED]),
        ({"error": "model 'x' not found"}, [Failed("upstream_error", "model 'x' not found", True)]),
        ({"response": "r", "thinking": "t", "done": True}, [Delta("t", "reasoning"), Delta("r"), Completed("stop")]),
    ],
)
def test_ollamas_last_line_is_told_by_its_meaning(last: dict[str, Any], events: list[Event]) -> None:
    assert read(ollama(), line(last)) == events
    assert read(ollama(), line(last).rstrip()) == events


@pytest.mark.parametrize(
    ("parts", "events"),
    [
        ([{"type": "finish"}, None], [Completed("stop")]),
        ([{"type": "finish", "finishReason": "length"}, None], [Completed("length")]),
        ([{"type": "finish", "finishReason": "content-filter"}, None], [Completed("content_filter")]),
        ([{"type": "finish", "finishReason": "error"}, None], [FAILED]),
        ([{"type": "finish"}], [TRUNCATED]),
        ([None], [TRUNCATED]),
        ([{"type": "abort", "reason": "x"}, None], [Cancelled("upstream")]),
        ([{"type": "error", "errorText": "Bad\nday"}, None], [Failed("upstream_error", "Bad day", True)]),
        ([{"type": "start-step"}, {"type": "reset-step"}, {"type": "finish"}, None], [Completed("stop")]),
        (
            [{"type": "start-step"}, {"type": "text-delta", "delta": "x"}, {"type": "reset-step"}, None],
            [
                Delta("x"),
                Failed("upstream_error", "The service behind the gateway has begun its answer anew. Ask again.", True),
            ],
        ),
        (
            [{"type": "file", "url": "data:image/png;base64,QQ==", "mediaType": "image/png"}],
            [Artifact(0, "image/png", data="QQ=="), TRUNCATED],
        ),
        (
            [{"type": "tool-input-available", "toolCallId": "c", "toolName": "f", "input": {"a": 1}}],
            [
                Delta(
                    '{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{\\"a\\":1}"}}\n', "tool"
                ),
                TRUNCATED,
            ],
        ),
    ],
)
def test_a_message_of_the_ai_sdk_ends_by_finish_and_done_together(
    parts: list[dict[str, Any] | None], events: list[Event]
) -> None:
    sent = [b"data: [DONE]\n\n" if part is None else data(part) for part in parts]
    assert read(STREAM_DECODERS["vercel-ai"](), *sent) == events


@pytest.mark.parametrize("family", ["image_generation", "image_edit"])
def test_images_and_edits_of_them_are_read_alike(family: str) -> None:
    events = read(
        STREAM_DECODERS["openai-images"](),
        named(
            {"type": f"{family}.partial_image", "partial_image_index": 2, "b64_json": "QQ==", "output_format": "jpeg"}
        ),
        named({"type": f"{family}.completed", "b64_json": "Qg==", "output_format": "jpeg"}),
    )
    assert events == [
        Progress(stage="rendering", step=3),
        Preview(0, "image/jpeg", data="QQ=="),
        Artifact(0, "image/jpeg", data="Qg=="),
        Completed("stop"),
    ]


def test_an_end_without_an_image_is_a_failure() -> None:
    events = read(STREAM_DECODERS["openai-images"](), named({"type": "image_generation.completed"}))
    assert events == [Failed("upstream_invalid", "The service behind the gateway ended without an image.", True)]


def test_json_lines_say_all_that_stands_in_them_by_default() -> None:
    decoder = json_lines({})
    events = read(
        decoder,
        line({"model": "own", "reasoning": "Hm", "text": "a", "progress": {"stage": "s", "step": 1, "total": 2}}),
        line({"preview": "https://x.example/p.png", "mime": "image/webp", "index": 1}),
        line({"artifact": "QQ=="}),
        line({"artifact": "/files/2"}),
        line({"done": False}),
        line({"done": True, "reason": "length", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
    )
    assert decoder.answer.model == "own"
    assert events == [
        Delta("Hm", "reasoning"),
        Delta("a"),
        Progress(stage="s", step=1, total=2),
        Preview(1, "image/webp", url="https://x.example/p.png"),
        Artifact(0, "image/png", data="QQ=="),
        Artifact(1, "image/png", url="/files/2"),
        Usage(1, 2),
        Completed("length"),
    ]


def test_json_lines_of_code_are_files_told_by_what_changes() -> None:
    events = read(
        json_lines({"file": "code"}),
        line({"code": "<p>"}),
        line({"code": "<p>a"}),
        line({"file": {"append": "</p>"}}),
        line({"code": 7}),
        line({"code": "b", "file": {"path": "style.css"}}),
        line({"done": True}),
    )
    assert events == [
        FileSet("index.html", 1, "<p>"),
        FilePatch("index.html", 1, 2, 3, 0, "a"),
        FilePatch("index.html", 2, 3, 4, 0, "</p>"),
        FileSet("style.css", 1, "b"),
        Completed("stop"),
    ]


@pytest.mark.parametrize("path", ["", ".", "a..b", "9", "a.99999999999999999999", "=", "a=", "=b", "²"])
def test_any_path_can_be_configured_and_finds_nothing_at_worst(path: str) -> None:
    events = read(json_lines(dict.fromkeys(FIELDS, path)), line({"a": [1, {"b": {}}], "": 1, "9": []}), line({"x": 1}))
    assert isinstance(events[-1], Failed | Completed)


def test_a_line_past_the_limit_fails_and_keeps_what_came() -> None:
    good = line({"response": "kept", "done": False})
    for chunks in ([good + b"x" * 200], [good, b"x" * 200], [good + b"x" * 60, b"x" * 60 + b"\n"]):
        decoder = json_in_lines(OllamaReader(), 100)
        events = [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.end()
        assert events[0] == Delta("kept")
        assert isinstance(events[1], Failed)
        assert events[1].code == "upstream_invalid"


@given(st.lists(st.binary(max_size=12)), st.sampled_from([b"\n", b"\r\n"]), st.lists(st.integers(0, 99), max_size=4))
def test_lines_are_the_same_at_every_split(lines: list[bytes], end: bytes, cuts: list[int]) -> None:
    lines = [line.translate(None, b"\r\n \t\x1e") for line in lines]
    whole = end.join(lines)
    at = sorted(cut % (len(whole) + 1) for cut in cuts)
    splitter = LineSplitter()
    got = [
        line
        for begin, stop in zip([0, *at], [*at, len(whole)], strict=True)
        for line in splitter.feed(whole[begin:stop])
    ]
    if left := splitter.end():
        got.append(left)
    assert got == [line for line in lines if line]


def test_a_splitter_that_has_refused_refuses_on() -> None:
    splitter = LineSplitter(3)
    for _ in range(2):
        with pytest.raises(UpstreamInvalid):
            splitter.feed(b"long line\n")
    with pytest.raises(UpstreamInvalid):
        splitter.end()


def test_record_separators_before_lines_are_passed_over() -> None:
    assert LineSplitter().feed(b'\x1e{"a":1}\n\x1e{"b":2}\n\n') == [b'{"a":1}', b'{"b":2}']
