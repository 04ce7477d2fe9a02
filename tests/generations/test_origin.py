"""What a generation begins from, read and looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from app.errors import BadRequest
from app.generations.event_json import encode
from app.generations.events import Completed, Event, FileSet, Started
from app.generations.origin import Origin, parse_origin, with_files
from app.generations.receipt import Snapshot, fold
from app.generations.requests import StartRequest


def snapshot(*events: Event) -> Snapshot:
    return fold(encode(event) for event in events)


DONE = snapshot(Started("m", "u"), FileSet("a.html", 1, "A"), FileSet("b.html", 1, "B"), Completed("stop"))


def test_all_files_or_those_that_are_named_are_taken() -> None:
    assert Origin("gen_1").files(DONE) == {"a.html": "A", "b.html": "B"}
    assert Origin("gen_1", ("b.html",)).files(DONE) == {"b.html": "B"}


@pytest.mark.parametrize(
    ("origin", "known"),
    [
        (Origin("gen_1", ("c.html",)), DONE),
        (Origin("gen_1"), snapshot(Started("m", "u"), FileSet("a.html", 1, "A"))),
        (Origin("gen_1"), snapshot(Completed("stop"))),
    ],
    ids=["not there", "still written", "no files"],
)
def test_what_cannot_be_begun_from_is_refused(origin: Origin, known: Snapshot) -> None:
    with pytest.raises(BadRequest, match="from"):
        origin.files(known)


@pytest.mark.parametrize(
    "value",
    ["gen_1", {}, {"generation_id": 1}, {"generation_id": "g", "paths": []}, {"generation_id": "g", "paths": [1]}],
)
def test_a_wrong_form_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match="from"):
        parse_origin(value)


@dataclass(frozen=True)
class Known:
    snapshot: Snapshot


async def test_the_files_are_put_into_the_input_and_cannot_be_given_beside() -> None:
    async def read(generation_id: str) -> Known:
        assert generation_id == "gen_1"
        return Known(DONE)

    value: dict[str, Any] = {
        "kind": "code",
        "input": {"prompt": "x"},
        "from": {"generation_id": "gen_1", "paths": ["a.html"]},
    }
    request = await with_files(StartRequest.parse(value, attended=False), read)
    assert request.input == {"prompt": "x", "files": {"a.html": "A"}}
    with pytest.raises(BadRequest, match="files"):
        await with_files(StartRequest.parse(value | {"input": {"files": {}}}, attended=False), read)
