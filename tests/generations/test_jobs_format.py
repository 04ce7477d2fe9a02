"""Documents and events of jobs, those of liars among them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.generations.events import (
    Artifact,
    Audio,
    Cancelled,
    Completed,
    Delta,
    Event,
    Failed,
    FileSet,
    Preview,
    Progress,
    Queued,
)
from app.generations.formats.jobs import job_documents, job_events
from app.generations.formats.paths import finder


def read(*documents: dict[str, Any], **fields: str) -> list[Event]:
    decoder = job_documents(fields)
    return [event for document in documents for event in decoder.read(json.dumps(document).encode())]


def test_a_job_from_its_place_in_the_queue_to_its_end() -> None:
    artifact = {"index": 0, "mime": "image/png", "url": "/a?signature=1"}
    found = read(
        {"status": "queued", "queue_position": 3},
        {"status": "queued", "queue_position": 3},
        {"status": "queued", "queue_position": 1},
        {"status": "running", "percent": 12.5, "progress": {"stage": "paint", "step": 1, "total": 8, "eta_ms": 900}},
        {"status": "running", "percent": 12.5, "preview": {"index": 0, "mime": "image/png", "data": "aGk="}},
        {"status": "running", "percent": 12.5, "preview": {"index": 0, "mime": "image/png", "data": "aGk="}},
        {"status": "completed", "percent": 100.0, "artifacts": [artifact, {**artifact, "url": "/a?signature=2"}]},
    )
    assert found == [
        Queued(2),
        Queued(0),
        Progress("paint", 1, 8, 12.5, 900),
        Progress("running", None, None, 12.5, None),
        Preview(0, "image/png", None, "aGk="),
        Artifact(0, "image/png", "/a?signature=1"),
        Completed("stop"),
    ]


def test_pieces_of_sound_are_told_once_each_in_their_order() -> None:
    decoder = job_events()
    pieces = [
        {"index": 0, "data": "YQ=="},
        {"data": "Yg=="},
        {"index": 1, "data": "Yg=="},
        {"index": 2},
        {"data": "Yw=="},
    ]
    lines = [{"type": "audio", "mime": "audio/wav", **piece} for piece in pieces] + [{"type": "completed"}]
    found = decoder.feed(b"".join(b"data: " + json.dumps(line).encode() + b"\n\n" for line in lines))
    expected = [Audio(index, "audio/wav", data=data) for index, data in ((0, "YQ=="), (1, "Yg=="), (3, "Yw=="))]
    assert found == [*expected, Completed("stop")]
    assert decoder.answer.malformed == 1


def test_a_liar_breaks_neither_the_order_nor_the_end() -> None:
    found = read(
        {"status": "processing", "percent": 80},
        {"status": "processing", "percent": 10},
        {"status": "pending", "queue_position": 4},
        {"status": "who knows"},
        {"status": "processing", "percent": 900},
        {"status": "processing", "percent": "much"},
        {"status": 7},
        {"status": "succeeded"},
        {"status": "processing", "percent": 5},
        {"status": "failed"},
    )
    percents = [event.percent for event in found if isinstance(event, Progress) and event.percent is not None]
    assert percents == sorted(percents)
    assert sum(isinstance(event, Queued) for event in found) == 0
    assert found[-1] == Completed("stop")
    assert sum(isinstance(event, Completed | Failed | Cancelled) for event in found) == 1


@pytest.mark.parametrize(
    ("status", "end"),
    [("SUCCESS", Completed), ("in-progress", None), ("Timed out", Failed), ("canceled", Cancelled), ("error", Failed)],
)
def test_statuses_are_read_by_their_meaning(status: str, end: type | None) -> None:
    found = read({"status": status})
    assert [type(event) for event in found if not isinstance(event, Progress)] == ([end] if end else [])


def test_texts_and_files_are_told_by_what_is_new() -> None:
    found = read(
        {"status": "running", "text": "Hel", "partial": [{"index": 1, "code": "<p>"}]},
        {"status": "running", "text": "Hello", "partial": [{"index": 1, "code": "<p>hi"}]},
        {"status": "running", "text": "He"},
        {"status": "done", "text": "Hello!", "variants": [{"index": 1, "code": "<p>hi"}], "files": {"a.css": "b{}"}},
    )
    assert [event.text for event in found if isinstance(event, Delta)] == ["Hel", "lo", "!"]
    assert FileSet("variants/1/index.html", 1, "<p>") in found
    assert FileSet("a.css", 1, "b{}") in found


def test_things_stand_where_the_configuration_says() -> None:
    fields = {"status": "$.data[0].state", "share": "$.data[0].done", "artifacts": "$.data[0].out", "error": "why"}
    found = read(
        {"data": [{"state": "working", "done": 0.25}]},
        {"data": [{"state": "finished", "out": ["https://x.test/a.png"]}]},
        **fields,
    )
    assert found[0] == Progress("running", None, None, 25.0, None)
    assert found[1].url == "https://x.test/a.png"  # type: ignore[union-attr]


def test_the_same_as_server_sent_events_also_from_another_gateway() -> None:
    events = [
        {"type": "queued", "position": 1},
        {"type": "started", "model": "m", "upstream": "u"},
        {"type": "progress", "stage": "writing", "percent": 30.0},
        {"type": "chunk", "variantIndex": 0, "text": "<b>"},
        {"type": "chunk", "variantIndex": 0, "text": "</b>"},
        {"type": "delta", "text": "hm", "part": "reasoning"},
        {"type": "completed", "id": "x", "variants": [{"index": 0, "code": "<b></b>"}]},
    ]
    decoder = job_events()
    body = b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)
    found = [event for at in range(0, len(body), 7) for event in decoder.feed(body[at : at + 7])]
    kinds = [type(event).__name__ for event in found]
    assert kinds == ["Queued", "Progress", "FileSet", "FilePatch", "Delta", "Completed"]
    assert decoder.answer.model == "m"


def test_what_the_upstream_says_of_its_failure_is_told() -> None:
    (failed,) = read({"status": "failed", "error": {"message": "The prompt was refused.", "code": "x"}})
    assert isinstance(failed, Failed)
    assert failed.message.endswith("The prompt was refused.")


@pytest.mark.parametrize(
    ("path", "found"),
    [("$.a.b", [1]), ("a.b", [1]), ("$.l[0].id", ["x"]), ("$.l[*].id", ["x", "y"]), ("l.1.id", ["y"]), ("$.none", [])],
)
def test_paths_into_answers(path: str, found: list[Any]) -> None:
    value = {"a": {"b": 1}, "l": [{"id": "x"}, {"id": "y"}, {"id": None}, 3]}
    assert finder(path)(value) == found
