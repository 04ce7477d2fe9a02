"""Text merges without loss; nothing else merges."""

from __future__ import annotations

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.generations.events import Audio, Cancelled, Completed, Delta, Failed, Part, Started, Usage, encode, is_terminal
from app.generations.merging import EventMergeRule
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
