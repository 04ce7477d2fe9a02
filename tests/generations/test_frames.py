"""Frames of screenshot-to-code and of ComfyUI: what they mean, cut, broken, out of order, of other prompts."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UpstreamTruncated
from app.generations.event_json import encode
from app.generations.events import (
    TERMINALS,
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
    Queued,
)
from app.generations.formats import FRAME_DECODERS
from app.generations.formats.comfyui import comfyui
from app.generations.formats.screenshot_to_code import screenshot_to_code
from tests.generations.test_decoders import WRONG, json_values, replaced

TRUNCATED = Failed("upstream_truncated", UpstreamTruncated.default_message, True)
Frame = dict[str, Any] | bytes | str


def code(type_: str, variant: int = 0, value: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": type_, "variantIndex": variant, **({} if value is None else {"value": value}), **more}


def comfy(type_: str, prompt: str | None = "p1", **data: Any) -> dict[str, Any]:
    return {"type": type_, "data": data if prompt is None else {**data, "prompt_id": prompt}}


def read(decoder: Any, frames: list[Frame], close: int | None = 1000) -> list[Event]:
    events: list[Event] = []
    for frame in frames:
        if isinstance(frame, bytes):
            events += decoder.binary(frame)
        else:
            events += decoder.text(frame if isinstance(frame, str) else json.dumps(frame))
    events += decoder.end(close)
    assert decoder.answer.ended
    assert decoder.end(None) == decoder.text('{"type":"late"}') == decoder.binary(b"late") == []
    assert [isinstance(event, TERMINALS) for event in events] == [False] * (len(events) - 1) + [True]
    for event in events:
        json.loads(encode(event))
    return events


PAGES: list[Frame] = [
    code("variantCount", value="2"),
    code("status", 0, "Generating code..."),
    code("thinking", 1, "Two columns", eventId="thinking-1-ab"),
    code("toolStart", 0, data={"name": "create_file", "input": {"path": "index.html"}}, eventId="t1"),
    code("setCode", 0, "<html>"),
    code("setCode", 1, "<p>ü"),
    code("setCode", 0, "<html><b>😀</b>"),
    code("setCode", 0, "<html><b>😀</b>"),
    code("chunk", 1, "ber</p>"),
    code("setCode", 0, "<html><i>😀</b>"),
    code("variantComplete", 0, "Variant generation complete"),
    code("variantComplete", 1, "Variant generation complete"),
]
PAGES_MEAN: list[Event] = [
    Progress(stage="variant 0: Generating code..."),
    Delta('{"variant":1,"type":"thinking","id":"thinking-1-ab","text":"Two columns"}\n', "tool"),
    Delta(
        '{"variant":0,"type":"toolStart","id":"t1","data":{"name":"create_file","input":{"path":"index.html"}}}\n',
        "tool",
    ),
    FileSet("variants/0/index.html", 1, "<html>"),
    FileSet("variants/1/index.html", 1, "<p>ü"),
    FilePatch("variants/0/index.html", 1, 2, 6, 0, "<b>😀</b>"),
    FilePatch("variants/1/index.html", 1, 2, 4, 0, "ber</p>"),
    FilePatch("variants/0/index.html", 2, 3, 7, 1, "i"),
    Progress(stage="variant 0 complete", step=1, total=2, percent=50.0),
    Progress(stage="variant 1 complete", step=2, total=2, percent=100.0),
    Completed("stop"),
]


def test_pages_of_two_variants_are_files_told_by_what_changes() -> None:
    assert read(screenshot_to_code(), PAGES) == PAGES_MEAN


@pytest.mark.parametrize("close", [1000, 1006, None])
def test_pages_that_are_not_all_there_are_truncated_whatever_the_close(close: int | None) -> None:
    for count in range(len(PAGES)):
        *before, last = read(screenshot_to_code(), PAGES[:count], close)
        assert last == TRUNCATED
        assert before == PAGES_MEAN[: len(before)]


@pytest.mark.parametrize(
    ("frames", "close", "terminal"),
    [
        ([code("setCode", 0, "<p>")], 1000, Completed("stop")),
        ([code("setCode", 0, "<p>"), code("variantComplete")], 1000, Completed("stop")),
        ([code("setCode", 0, "<p>")], 1006, TRUNCATED),
        ([code("status", 0, "x")], 1000, TRUNCATED),
        ([code("setCode", 0, "<p>")], 4333, Cancelled("upstream")),
        ([code("error", value="No key sk-1234567890")], 4332, Failed("upstream_error", "No key …", True)),
        (
            [code("variantCount", value="2"), code("variantError", 0, "a"), code("variantComplete", 1)],
            None,
            Completed("partial"),
        ),
        (
            [code("variantCount", value="2"), code("variantError", 0, "a"), code("variantError", 1, "b")],
            None,
            Failed("upstream_error", "Every variant failed. The last one: variant 1 failed: b", True),
        ),
    ],
)
def test_the_end_of_pages_is_told_by_its_meaning(frames: list[Frame], close: int | None, terminal: Event) -> None:
    assert read(screenshot_to_code(), frames, close)[-1] == terminal


IMAGE = b"\x89PNG image"
METADATA = json.dumps({"image_type": "image/webp", "prompt_id": "p1"}).encode()
DRAWING: list[Frame] = [
    comfy("status", None, status={"exec_info": {"queue_remaining": 3}}, sid="s"),
    comfy("execution_start"),
    comfy("execution_cached", nodes=["4"]),
    comfy("executing", node="3", display_node="3"),
    comfy("progress", value=5, max=20, node="3"),
    comfy(
        "progress_state",
        nodes={
            "4": {"state": "finished", "value": 1, "max": 1, "node_id": "4"},
            "3": {"state": "running", "value": 10, "max": 20, "node_id": "3", "display_node_id": "3"},
        },
    ),
    b"\x00\x00\x00\x01\x00\x00\x00\x01" + IMAGE,
    b"\x00\x00\x00\x04" + len(METADATA).to_bytes(4) + METADATA + IMAGE,
    comfy("progress", "other", value=1, max=2, node="9"),
    comfy("execution_error", "other", exception_message="of another"),
    comfy("executed", node="9", output={"images": [{"filename": "a b.png", "subfolder": "", "type": "output"}]}),
    comfy("executed", node="8", output={"images": [{"filename": "t.png", "subfolder": "", "type": "temp"}]}),
    comfy("execution_success", timestamp=1),
]
DRAWING_MEANS: list[Event] = [
    Queued(2),
    Progress(stage="started"),
    Progress(stage="3"),
    Progress(stage="3", step=5, total=20),
    Progress(stage="3", step=10, total=20, percent=37.5),
    Preview(0, "image/jpeg", data=base64.b64encode(IMAGE).decode()),
    Preview(0, "image/webp", data=base64.b64encode(IMAGE).decode()),
    Artifact(0, "image/png", "/view?filename=a+b.png&subfolder=&type=output"),
    Completed("stop"),
]


def test_a_drawing_is_told_without_those_of_other_prompts() -> None:
    assert read(comfyui("p1", nodes=4), DRAWING) == DRAWING_MEANS
    assert read(comfyui(nodes=4), DRAWING) == DRAWING_MEANS


@pytest.mark.parametrize("close", [1000, 1006, None])
def test_a_drawing_that_is_cut_is_truncated_whatever_the_close(close: int | None) -> None:
    for count in range(len(DRAWING)):
        *before, last = read(comfyui("p1", nodes=4), DRAWING[:count], close)
        assert last == TRUNCATED
        assert before == DRAWING_MEANS[: len(before)]


@pytest.mark.parametrize(
    ("frame", "terminal"),
    [
        (comfy("executing", node=None), Completed("stop")),
        (comfy("execution_error", exception_message="Out of\nmemory"), Failed("upstream_error", "Out of memory", True)),
        (comfy("execution_interrupted", node_id="3"), Cancelled("upstream")),
    ],
)
def test_the_end_of_a_drawing_is_told_by_its_meaning(frame: Frame, terminal: Event) -> None:
    assert read(comfyui("p1"), [comfy("execution_start"), frame]) == [Progress(stage="started"), terminal]


def test_percentages_never_run_backward() -> None:
    state = {"state": "running", "node_id": "3", "max": 10}
    frames: list[Frame] = [comfy("progress_state", nodes={"3": {**state, "value": value}}) for value in (5, 2, 99, -3)]
    events = read(comfyui("p1", nodes=1), frames)
    assert [event.percent for event in events if isinstance(event, Progress)] == [50.0, 50.0, 100.0, 100.0]


def test_a_preview_of_another_prompt_or_of_none_is_not_shown() -> None:
    other = json.dumps({"image_type": "image/png", "prompt_id": "other"}).encode()
    decoder = comfyui("p1")
    before = b"\x00\x00\x00\x01\x00\x00\x00\x02" + IMAGE
    frame = b"\x00\x00\x00\x04" + len(other).to_bytes(4) + other + IMAGE
    assert read(decoder, [before, comfy("execution_start"), frame]) == [Progress(stage="started"), TRUNCATED]
    assert decoder.answer.malformed == 0


FAMILIES = {"screenshot-to-code": (screenshot_to_code, PAGES, PAGES_MEAN), "comfyui": (comfyui, DRAWING, DRAWING_MEANS)}


@pytest.mark.parametrize("name", FAMILIES)
def test_broken_and_unknown_frames_cost_nothing_else(name: str) -> None:
    make, frames, _ = FAMILIES[name]
    means = read(make(), frames)
    for index in range(len(frames)):
        for broken in ("{", "[]", "\ud83d", "null", ""):
            decoder = make()
            assert read(decoder, [*frames[:index], broken, *frames[index:]]) == means
            assert decoder.answer.malformed == 1
        decoder = make()
        assert read(decoder, [*frames[:index], {"type": "later", "data": {}}, b"\xff\xff", *frames[index:]]) == means
        assert decoder.answer.unknown == 2


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:20])
@pytest.mark.parametrize("name", FAMILIES)
def test_values_of_a_wrong_type_anywhere_never_raise(name: str, wrong: Any) -> None:
    make, frames, _ = FAMILIES[name]
    for index, frame in enumerate(frames):
        if isinstance(frame, dict):
            for other in replaced(frame, wrong):
                read(make(), [*frames[:index], json.dumps(other), *frames[index + 1 :]])


@pytest.mark.parametrize("name", FRAME_DECODERS)
@given(values=st.lists(json_values | st.binary(max_size=40), max_size=5), close=st.none() | st.integers(1000, 4999))
def test_arbitrary_frames_never_raise_and_end_once(name: str, values: list[Any], close: int | None) -> None:
    frames = [value if isinstance(value, bytes) else json.dumps(value) for value in values]
    read(FRAME_DECODERS[name](), frames, close)
