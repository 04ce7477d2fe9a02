"""Jobs that are polled or that post: Replicate's predictions and the Stable Diffusion web UI."""

from __future__ import annotations

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
    FileSet,
    Preview,
    Progress,
    Queued,
    Usage,
)
from app.generations.formats import POLL_DECODERS
from app.generations.formats.automatic1111 import automatic1111
from app.generations.formats.jobs import job_documents
from app.generations.formats.replicate import replicate_prediction, replicate_stream
from tests.generations.test_decoders import WRONG, json_values, replaced

TRUNCATED = Failed("upstream_truncated", UpstreamTruncated.default_message, True)
OUT = "https://replicate.delivery/xezq/out-0.png"


def read(decoder: Any, *documents: Any) -> list[Event]:
    events: list[Event] = []
    for document in documents:
        events += decoder.read(document if isinstance(document, bytes) else json.dumps(document).encode())
    events += decoder.end()
    assert decoder.answer.ended
    assert decoder.end() == decoder.read(b'{"status":"succeeded"}') == []
    assert [isinstance(event, TERMINALS) for event in events] == [False] * (len(events) - 1) + [True]
    for event in events:
        json.loads(encode(event))
    return events


def prediction(status: str, **fields: Any) -> dict[str, Any]:
    return {"id": "abc", "model": "acme/painter", "status": status, "output": None, "logs": "", "error": None, **fields}


PICTURE = [
    prediction("starting"),
    prediction("starting"),
    prediction("processing", logs="seed: 7\n"),
    prediction("processing", logs="seed: 7\n 10%|# | 2/20\n 45%|#### | 9/20"),
    prediction("processing", logs="seed: 7\n 10%|# | 2/20\n 30%|### | 6/20"),
    prediction("succeeded", output=[OUT]),
]
PICTURE_MEANS: list[Event] = [
    Progress(stage="starting"),
    Progress(stage="processing"),
    Progress(stage="processing", percent=45.0),
    Artifact(0, "image/png", OUT),
    Completed("stop"),
]


def test_a_picture_is_told_by_what_is_new_in_each_document() -> None:
    decoder = replicate_prediction()
    assert read(decoder, *PICTURE) == PICTURE_MEANS
    assert decoder.answer.model == "acme/painter"


def test_documents_that_stop_coming_are_a_truncation() -> None:
    for count in range(len(PICTURE)):
        *before, last = read(replicate_prediction(), *PICTURE[:count])
        assert last == TRUNCATED
        assert before == PICTURE_MEANS[: len(before)]


def test_a_text_is_told_once_however_often_it_is_sent() -> None:
    metrics = {"input_token_count": 5, "output_token_count": 3}
    documents = [
        prediction("processing", output=["Grü"]),
        prediction("processing", output=["Grü", "ße"]),
        prediction("processing", output=["Grü"]),
        prediction("succeeded", output=["Grü", "ße", " 👋🏽"], metrics=metrics),
    ]
    events = read(replicate_prediction(), *documents)
    assert [event for event in events if isinstance(event, Delta)] == [Delta("Grü"), Delta("ße"), Delta(" 👋🏽")]
    assert events[-2:] == [Usage(5, 3), Completed("stop")]


@pytest.mark.parametrize(
    ("document", "terminal"),
    [
        (prediction("failed", error="CUDA out of memory"), Failed("upstream_error", "CUDA out of memory", True)),
        (
            prediction("failed"),
            Failed("upstream_error", "The service behind the gateway answered with an error.", True),
        ),
        (prediction("canceled"), Cancelled("upstream")),
        (prediction("succeeded", output="data:image/png;base64,QQ=="), Completed("stop")),
    ],
)
def test_the_end_of_a_prediction_is_told_by_its_status(document: Any, terminal: Event) -> None:
    assert read(replicate_prediction(), document)[-1] == terminal


@pytest.mark.parametrize(
    ("event", "terminal"),
    [
        (b'event: done\ndata: {"reason":"canceled"}\n\n', Cancelled("upstream")),
        (b"event: done\ndata:\n\n", Completed("stop")),
        (b'event: error\ndata: {"detail":"No such version"}\n\n', Failed("upstream_error", "No such version", True)),
        (b"event: error\ndata: plain\n\n", Failed("upstream_error", "plain", True)),
        (b"event: done\ndata: {}\n", Completed("stop")),
        (b"event: done\ndata: {", TRUNCATED),
        (b"event: output\ndata: and so", TRUNCATED),
    ],
)
def test_the_end_of_a_predictions_stream_is_told_by_its_event(event: bytes, terminal: Event) -> None:
    decoder = replicate_stream()
    events = decoder.feed(b"event: output\ndata: so far\n\n" + event) + decoder.end()
    assert events == [Delta("so far"), terminal]


def a1111(progress: float, step: int, image: str | None = None, eta: float = 0.0) -> dict[str, Any]:
    state = {"job": "txt2img", "job_count": 1, "job_no": 0, "sampling_step": step, "sampling_steps": 20}
    return {"progress": progress, "eta_relative": eta, "state": state, "current_image": image, "textinfo": None}


WEB_UI = [
    a1111(0.0, 0),
    a1111(0.25, 5, "iVBORw0KAA==", 3.5),
    a1111(0.2, 4, "iVBORw0KAA=="),
    a1111(0.5, 10, "/9j/AA=="),
    a1111(0.0, 0),
    {"images": ["iVBORw0KBB==", "iVBORw0KCC=="], "parameters": {}, "info": "{}"},
]
WEB_UI_MEANS: list[Event] = [
    Progress(stage="txt2img", step=5, total=20, percent=25.0, eta_ms=3500),
    Preview(0, "image/png", data="iVBORw0KAA=="),
    Progress(stage="txt2img", step=4, total=20, percent=25.0),
    Progress(stage="txt2img", step=10, total=20, percent=50.0),
    Preview(0, "image/jpeg", data="/9j/AA=="),
    Artifact(0, "image/png", data="iVBORw0KBB=="),
    Artifact(1, "image/png", data="iVBORw0KCC=="),
    Completed("stop"),
]


def test_progress_and_result_of_the_web_ui() -> None:
    assert read(automatic1111(), *WEB_UI) == WEB_UI_MEANS
    for count in range(len(WEB_UI)):
        assert read(automatic1111(), *WEB_UI[:count])[-1] == TRUNCATED


def test_a_task_of_the_web_ui_that_waits_then_works() -> None:
    waits = {"active": False, "queued": True, "completed": False, "progress": None, "eta": None}
    works = {"active": True, "queued": False, "completed": False, "progress": 0.5, "eta": 2, "textinfo": "Step 2"}
    works["live_preview"] = "data:image/webp;base64,QQ=="
    over = {"active": False, "queued": False, "completed": True}
    assert read(automatic1111(), waits, waits, works, works, over, {"detail": "Out of memory"}) == [
        Queued(0),
        Progress(stage="Step 2", percent=50.0, eta_ms=2000),
        Preview(0, "image/webp", data="QQ=="),
        Progress(stage="completed", percent=100.0),
        Failed("upstream_error", "Out of memory", True),
    ]


FAMILIES = {"replicate": PICTURE, "automatic1111": WEB_UI}


@pytest.mark.parametrize("name", FAMILIES)
def test_broken_and_unknown_documents_cost_nothing_else(name: str) -> None:
    means = read(POLL_DECODERS[name](), *FAMILIES[name])
    for index in range(len(FAMILIES[name])):
        decoder = POLL_DECODERS[name]()
        documents = [*FAMILIES[name][:index], b"<html>", b"[]", b"", {"later": 1}, *FAMILIES[name][index:]]
        assert read(decoder, *documents) == means
        assert (decoder.answer.malformed, decoder.answer.unknown) == (3, 1)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:20])
@pytest.mark.parametrize("name", FAMILIES)
def test_values_of_a_wrong_type_anywhere_never_raise(name: str, wrong: Any) -> None:
    for index, document in enumerate(FAMILIES[name]):
        for other in replaced(document, wrong):
            read(POLL_DECODERS[name](), *FAMILIES[name][:index], other, *FAMILIES[name][index + 1 :])


@pytest.mark.parametrize("name", POLL_DECODERS)
@given(values=st.lists(json_values | st.binary(max_size=40), max_size=5))
def test_arbitrary_documents_never_raise_and_end_once(name: str, values: list[Any]) -> None:
    read(POLL_DECODERS[name](), *values)


@pytest.mark.parametrize("decoder", [job_documents, replicate_prediction])
def test_a_text_that_is_another_one_at_the_end_is_no_success(decoder: Any) -> None:
    def said(status: str, text: str) -> dict[str, Any]:
        return {"status": status, "text": text, "output": text}

    told = said("processing", "Hello world\n")
    events = read(decoder(), told, said("processing", "Goodbye"), said("succeeded", "Goodbye moon"))
    assert [event for event in events if isinstance(event, Delta)] == [Delta("Hello world\n")]
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "upstream_invalid"
    for last in ("Hello world\n", "Hello world", "Hello world\n!"):
        assert read(decoder(), told, said("processing", "Goodbye"), said("succeeded", last))[-1] == Completed("stop")


@pytest.mark.parametrize(
    "artifact",
    [
        {"url": "javascript:alert(1)"},
        {"url": " JavaScript:alert(1)"},
        {"url": "vbscript:x"},
        {"url": "https://x/\n"},
        {"url": ""},
        {"url": 7},
        "javascript:x",
        7,
    ],
)
def test_an_address_that_a_browser_would_run_is_no_result(artifact: Any) -> None:
    decoder = job_documents()
    good = {"url": "/ok.png", "mime": 'text/html"><script>', "index": 5}
    events = read(decoder, {"status": "completed", "artifacts": [artifact, good]})
    assert events == [Artifact(5, "application/octet-stream", "/ok.png"), Completed("stop")]
    assert decoder.answer.malformed == 1


def test_a_file_whose_name_leads_out_of_its_folder_is_not_told() -> None:
    decoder = job_documents()
    wrong = ["../a", "a/../../b", "/etc/passwd", "a\0b", "", "C:/x", "..\\x", "\\\\host\\x"]
    files = {**dict.fromkeys(wrong, "x"), "src/App.tsx": "x", "a..b/[id]: 1.html": "x"}
    events = read(decoder, {"status": "completed", "files": files})
    assert [event.path for event in events if isinstance(event, FileSet)] == ["src/App.tsx", "a..b/[id]: 1.html"]
    assert decoder.answer.malformed == len(wrong)
