"""A job that is told again from its beginning is not told twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UpstreamInvalid
from app.generations.event_json import encode
from app.generations.events import (
    Artifact,
    Audio,
    Completed,
    Delta,
    Event,
    FilePatch,
    FileSet,
    Preview,
    Progress,
    Queued,
)
from app.generations.files import Files
from app.generations.receipt import fold
from app.generations.replay import Replay


def told(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def test_what_is_told_once_passes() -> None:
    events = [Queued(0), Progress(percent=10), Delta("a"), FileSet("f", 1, "x"), Artifact(0, "image/png", "/a")]
    assert Replay().fresh(events) == events


def test_sound_that_was_heard_is_not_told_again_here_or_on_another_replica() -> None:
    first: list[Event] = [Audio(0, "audio/mpeg", data="YQ=="), Audio(1, "audio/mpeg", data="Yg==")]
    more = [*first, Audio(2, "audio/mpeg", data="Yw==")]
    replay = Replay()
    assert replay.fresh(first) == first
    replay.begin_again()
    assert replay.fresh(more) == more[2:]
    assert Replay(fold(encode(event) for event in first)).fresh(more) == more[2:]


def test_the_second_time_only_what_goes_beyond_the_first_passes() -> None:
    replay = Replay()
    first = [Progress(percent=50), Delta("Hello "), Delta("wor"), Artifact(0, "image/png", "/a?sig=1")]
    replay.fresh(first)
    replay.begin_again()
    again = [Queued(2), Progress(percent=20), Delta("Hel"), Delta("lo world"), Artifact(0, "image/png", "/a?sig=2")]
    assert replay.fresh([*again, Artifact(1, "image/png", "/b"), Progress(percent=60)]) == [
        Delta("ld"),
        Artifact(1, "image/png", "/b"),
        Progress(percent=60),
    ]
    assert replay.fresh([Delta("!")]) == [Delta("!")]


def test_another_text_than_before_is_a_fault_of_the_upstream() -> None:
    replay = Replay()
    replay.fresh([Delta("Hello")])
    replay.begin_again()
    with pytest.raises(UpstreamInvalid):
        replay.fresh([Delta("Hullo")])


def test_it_goes_on_from_what_the_log_holds() -> None:
    files = Files()
    log: list[Event] = [Progress(percent=70), Delta("abc"), files.write("f", "one two"), Artifact(0, "a/b", "/0")]
    replay = Replay(fold(encode(event) for event in log))
    events: list[Event] = [
        Progress(percent=10),
        Delta("abcd"),
        FileSet("f", 1, "one"),
        FilePatch("f", 1, 2, 3, 0, " two three"),
        Artifact(0, "a/b", "/0"),
        Preview(0, "image/png", data="x"),
        Completed("stop"),
    ]
    assert replay.fresh(events) == [
        Delta("d"),
        FilePatch("f", 1, 2, 7, 0, " three"),
        Preview(0, "image/png", data="x"),
        Completed("stop"),
    ]


@given(st.text(max_size=60), st.lists(st.integers(0, 60), max_size=4), st.integers(1, 7))
def test_however_often_it_is_cut_the_text_is_told_once(text: str, cuts: list[int], size: int) -> None:
    replay, got, files = Replay(), "", Files()
    for cut in [*cuts, len(text)]:
        writer = Files()
        part = text[:cut]
        for start in range(0, len(part), size):
            change = writer.append("f", part[start : start + size])
            for event in replay.fresh([Delta(part[start : start + size]), *([change] if change else [])]):
                if isinstance(event, Delta):
                    got += event.text
                else:
                    assert isinstance(event, FileSet | FilePatch)
                    assert files.follow(event)
        replay.begin_again()
    assert got == text
    assert files.texts.get("f", "") == text
