"""Text merges without loss; nothing else merges."""

from __future__ import annotations

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.generations.event_json import encode, is_terminal
from app.generations.events import (
    Audio,
    Cancelled,
    Completed,
    Delta,
    Failed,
    FilePatch,
    FileSet,
    Part,
    Started,
    Usage,
)
from app.generations.files import Files
from app.generations.merging import EventMergeRule
from app.generations.receipt import fold
from app.streams.merge import merge
from app.streams.publication import Publication

RULE = EventMergeRule()
PARTS: list[Part] = ["text", "reasoning", "tool"]


@given(st.text(), st.sampled_from(PARTS))
def test_the_key_is_the_part_whatever_the_text(text: str, part: Part) -> None:
    assert RULE.key(encode(Delta(text, part))) == part


@pytest.mark.parametrize(
    "text", [',"part":"tool"}', '","part":"reasoning', '\\",\\"part\\":\\"tool', '"part":"tool"}"']
)
def test_a_text_that_looks_like_a_part_is_not_taken_for_one(text: str) -> None:
    assert RULE.key(encode(Delta(text))) == "text"


@pytest.mark.parametrize(
    "event",
    [
        Started("m", "u"),
        Audio(0, "audio/mpeg", data="aGk="),
        Usage(1, 2),
        Completed("stop"),
        Failed("c", "m", True),
        Cancelled("user"),
    ],
)
def test_other_events_stay_alone(event: Started | Audio | Usage | Completed | Failed | Cancelled) -> None:
    assert RULE.key(encode(event)) is None
    assert is_terminal(encode(event)) is isinstance(event, Completed | Failed | Cancelled)


@given(st.lists(st.tuples(st.text(max_size=5), st.sampled_from(PARTS))))
def test_merged_events_say_the_same(deltas: list[tuple[str, Part]]) -> None:
    events = [encode(Delta(text, part)) for text, part in deltas]
    merged = merge([Publication(offset, data) for offset, data in enumerate(events, 1)], RULE)

    def texts(items: list[bytes]) -> dict[str, str]:
        parts = dict.fromkeys(PARTS, "")
        for item in items:
            event = orjson.loads(item)
            parts[event.get("part", "text")] += event["text"]
        return parts

    assert texts([publication.data for publication in merged]) == texts(events)
    assert sum(publication.merged for publication in merged) == len(events)
    keys = [RULE.key(publication.data) for publication in merged]
    assert all(a != b for a, b in itertools.pairwise(keys))


PATHS = ["a.html", 'odd "path" ü\\', "b"]
edits = st.lists(st.tuples(st.sampled_from(PATHS), st.text(st.sampled_from("ab\nü😀"), max_size=9)), max_size=25)


def told(changes: list[tuple[str, str]], *, grows: bool) -> list[bytes]:
    """Return the events of files that are written whole again and again, or that grow at their end."""
    files, events = Files(), []
    for path, text in changes:
        event = files.append(path, text) if grows else files.write(path, text)
        events += [] if event is None else [encode(event)]
    return events


@given(edits, st.booleans())
def test_merged_changes_of_files_leave_the_same_files(changes: list[tuple[str, str]], grows: bool) -> None:
    events = told(changes, grows=grows)
    merged = merge([Publication(offset, data) for offset, data in enumerate(events, 1)], RULE)
    assert fold(each.data for each in merged).files.receipts() == fold(events).files.receipts()
    covered = [offset for each in merged for offset in range(each.offset - each.merged + 1, each.offset + 1)]
    assert covered == list(range(1, len(events) + 1))
    paths = [orjson.loads(each.data)["path"] for each in merged]
    if grows:
        assert all(a != b for a, b in itertools.pairwise(paths)), "what is appended always touches"


@given(edits, st.integers(1, 24))
def test_who_goes_on_behind_a_merged_change_has_the_same_files(changes: list[tuple[str, str]], cut: int) -> None:
    events = told(changes, grows=False)
    first = merge([Publication(offset, data) for offset, data in enumerate(events[:cut], 1)], RULE)
    rest = merge([Publication(offset, data) for offset, data in enumerate(events[cut:], cut + 1)], RULE)
    whole = fold(each.data for each in (*first, *rest)).files
    assert whole.texts == fold(events).files.texts


def test_changes_of_one_file_that_do_not_touch_stay_two_and_keep_their_offsets() -> None:
    patches = [FilePatch("f", 1, 2, 0, 0, "ab"), FilePatch("f", 2, 3, 1, 0, "x"), FilePatch("f", 3, 4, 50, 2, "y")]
    merged = merge([Publication(offset, encode(each)) for offset, each in enumerate(patches, 7)], RULE)
    assert [(each.offset, each.merged) for each in merged] == [(8, 2), (9, 1)]
    assert orjson.loads(merged[0].data)["ins"] == "axb"
    assert (orjson.loads(merged[0].data)["base_rev"], orjson.loads(merged[0].data)["rev"]) == (1, 3)


def test_a_file_told_anew_makes_what_was_before_it_void() -> None:
    events = [FilePatch("f", 1, 2, 0, 9, "much"), FileSet("f", 3, "new"), FilePatch("f", 3, 4, 3, 0, "er")]
    merged = merge([Publication(offset, encode(each)) for offset, each in enumerate(events, 1)], RULE)
    assert [(each.merged, orjson.loads(each.data)) for each in merged] == [
        (3, {"type": "set", "path": "f", "rev": 4, "text": "newer"})
    ]
