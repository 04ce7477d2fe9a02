"""What only OpenAI's Responses have; and the events' shapes checked against OpenAI's own Python library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from openai import AsyncOpenAI
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from openai.types.responses import ResponseStreamEvent

from app.errors import UpstreamTruncated
from app.generations.events import Artifact, Cancelled, Completed, Delta, Event, Failed, Preview, Usage
from app.generations.formats import STREAM_DECODERS
from app.generations.formats.openai_responses import openai_responses
from tests.support.recordings import OPENAI_IMAGES, OPENAI_RESPONSES, named
from tests.support.upstream import Call, scripted

TRUNCATED = Failed("upstream_truncated", UpstreamTruncated.default_message, True)


def read(*values: dict[str, Any]) -> list[Event]:
    decoder = openai_responses()
    events = [event for value in values for event in decoder.feed(named(value))]
    return events + decoder.end()


def models(union: Any) -> Iterator[Any]:
    for argument in get_args(union):
        if hasattr(argument, "model_fields"):
            yield argument
        else:
            yield from models(argument)


def test_every_event_type_of_the_library_is_known() -> None:
    types = [get_args(model.model_fields["type"].annotation)[0] for model in models(ResponseStreamEvent)]
    assert len(types) > 50
    for type_ in types:
        decoder = openai_responses()
        decoder.feed(named({"type": type_}))
        assert decoder.answer.unknown == 0, type_


async def test_the_library_reads_the_recording_as_the_decoder_does() -> None:
    async def script(call: Call) -> None:
        await call.head()
        for event in OPENAI_RESPONSES.events:
            await call.send(event)
        await call.end()

    texts: dict[str, str] = {}
    async with scripted(script) as upstream, AsyncOpenAI(base_url=upstream.url + "/v1", api_key="x") as client:
        async for event in await client.responses.create(model="m", input="Hello", stream=True):
            if event.type.endswith(".delta"):
                texts[event.type] = texts.get(event.type, "") + event.delta  # type: ignore[union-attr]
        usage = event.response.usage  # type: ignore[union-attr]
    assert usage is not None
    told = "".join(event.text for event in OPENAI_RESPONSES.means if isinstance(event, Delta) and event.part == "text")
    assert texts["response.output_text.delta"] == told
    assert texts["response.function_call_arguments.delta"] == '{"city":"Ulm"}'
    assert Usage(usage.input_tokens, usage.output_tokens) in OPENAI_RESPONSES.means


def test_the_recording_of_images_has_the_fields_that_the_library_names() -> None:
    for event, model in zip(
        OPENAI_IMAGES.events,
        [ImageGenPartialImageEvent, ImageGenPartialImageEvent, ImageGenCompletedEvent],
        strict=True,
    ):
        value = json.loads(event.partition(b"data: ")[2])
        missing = {name for name, field in model.model_fields.items() if field.is_required()} - set(value)
        assert missing <= {"background", "quality"}  # Which tell a decoder nothing.


@pytest.mark.parametrize(
    ("last", "terminal"),
    [
        (
            {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max_output_tokens"}}},
            Completed("length"),
        ),
        (
            {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "content_filter"}}},
            Completed("content_filter"),
        ),
        ({"type": "response.incomplete"}, Completed("length")),
        ({"type": "response.completed", "response": {}}, Completed("stop")),
        (
            {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "Try later"}}},
            Failed("upstream_error", "Try later", True),
        ),
        (
            {"type": "response.failed", "response": {"error": {"code": "invalid_prompt", "message": "No"}}},
            Failed("upstream_error", "No", False),
        ),
        ({"type": "response.cancelled", "response": {}}, Cancelled("upstream")),
        (
            {"type": "error", "code": "rate_limit_exceeded", "message": "Slow down", "param": None},
            Failed("upstream_error", "Slow down", True),
        ),
        (
            {"type": "error", "status": 401, "error": {"code": "invalid_api_key", "message": "sk-1234567"}},
            Failed("upstream_error", "The service behind the gateway refused the gateway's request.", False),
        ),
    ],
)
def test_each_end_is_told_by_its_meaning(last: dict[str, Any], terminal: Event) -> None:
    text = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "so far"}
    assert read(text, last) == [Delta("so far"), terminal]


def test_done_is_no_terminal_of_this_family() -> None:
    decoder = openai_responses()
    assert decoder.feed(OPENAI_RESPONSES.events[0] + b"data: [DONE]\n\n") == [TRUNCATED]


def test_a_text_that_comes_only_whole_is_taken_once() -> None:
    whole = {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "all"}
    call = {"type": "response.function_call_arguments.done", "output_index": 1, "arguments": "{}"}
    end = {"type": "response.completed", "response": {}}
    line = '{"index":1,"function":{"arguments":"{}"}}\n'
    assert read(whole, whole, call, call, end) == [Delta("all"), Delta(line, "tool"), Completed("stop")]


def test_an_image_in_a_response_is_previewed_and_handed_over() -> None:
    assert read(
        {"type": "response.image_generation_call.partial_image", "output_index": 1, "partial_image_b64": "QQ=="},
        {
            "type": "response.output_item.done",
            "output_index": 1,
            "item": {"type": "image_generation_call", "result": "Qg=="},
        },
        {"type": "response.completed", "response": {}},
    ) == [Preview(1, "image/png", data="QQ=="), Artifact(1, "image/png", data="Qg=="), Completed("stop")]


def test_a_custom_tools_input_is_lines_of_its_own_kind() -> None:
    events = read(
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"type": "custom_tool_call", "call_id": "c", "name": "sql"},
        },
        {"type": "response.custom_tool_call_input.delta", "output_index": 0, "delta": "SELECT"},
        {"type": "response.completed", "response": {}},
    )
    assert events == [
        Delta('{"index":0,"id":"c","type":"custom","custom":{"name":"sql","input":""}}\n', "tool"),
        Delta('{"index":0,"custom":{"input":"SELECT"}}\n', "tool"),
        Completed("tool_calls"),
    ]


def test_the_model_is_named_by_the_first_event() -> None:
    decoder = STREAM_DECODERS["openai-responses"]()
    decoder.feed(OPENAI_RESPONSES.events[0])
    assert decoder.answer.model == "gpt-y-2026"
