"""Small changes of files become few, and nothing of them is lost, late, or out of its order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.generations import GenerationsConfig
from app.generations.event_json import encode
from app.generations.events import Completed, Delta, Event, FilePatch, FileSet, Preview, Progress, Usage
from app.generations.files import Files
from app.generations.gathering import Gathering
from app.streams.publication import Batch
from app.ws.frames import text_frame
from app.ws.protocols.centrifuge_encoding import CentrifugeEncoder
from app.ws.protocols.native_encoding import NativeEncoder

WINDOW = 0.1
PATIENCE = 0.8


def changes(events: list[Event]) -> dict[str, str]:
    follower = Files()
    for event in events:
        if isinstance(event, FileSet | FilePatch):
            assert follower.follow(event), f"{event} does not follow"
    return dict(follower.texts)


def test_the_first_change_is_told_at_once_and_the_next_ones_together() -> None:
    files, gathering = Files(), Gathering(WINDOW, PATIENCE)
    steps = [files.append("f", f"<p>{number}</p>") for number in range(9)]
    assert gathering.take([steps[0]], 1.0) == [steps[0]]
    for number, step in enumerate(steps[1:]):
        assert gathering.take([step], 1.001 + number / 100) == []
    assert gathering.waits
    (one,) = gathering.flush(1.1)
    assert isinstance(one, FilePatch)
    assert (one.base_rev, one.rev) == (1, 9)
    assert changes([steps[0], one]) == dict(files.texts)
    assert not gathering.waits


def test_a_file_that_was_quiet_is_told_at_once_again() -> None:
    files, gathering = Files(), Gathering(WINDOW, PATIENCE)
    for number in range(4):
        step = files.append("f", "x")
        assert gathering.take([step], 2 * number * WINDOW) == [step], "as long as its credit lasts, after a window"
    for number in range(1, 5):
        step = files.append("f", "x")
        assert gathering.take([step], 2 * number * PATIENCE) == [step], "and always after as long as changes may wait"


def test_several_files_wait_beside_each_other() -> None:
    files, gathering = Files(), Gathering(WINDOW, PATIENCE)
    told: list[Event] = []
    for number in range(100):
        told += gathering.take([files.append(f"variants/{number % 4}", f"{number} ")], 0.0)
    assert len(told) == 4
    told += gathering.flush(0.1)
    assert len(told) == 8
    assert changes(told) == dict(files.texts)


def test_a_change_that_has_become_long_does_not_wait() -> None:
    files, gathering = Files(), Gathering(WINDOW, PATIENCE)
    told: list[Event] = []
    for _ in range(1000):
        told += gathering.take([files.append("f", "0123456789" * 2)], 0.0)
    assert 4 <= len(told) <= 6
    assert changes([*told, *gathering.flush(0.1)]) == dict(files.texts)


def test_a_short_change_waits_for_more_once_the_file_has_used_its_credit_though_not_for_ever() -> None:
    files, gathering = Files(), Gathering(WINDOW, PATIENCE)
    moments = []
    for number in range(40):  # Twenty characters in each window.
        now = number * WINDOW
        moments += [now] * len(gathering.take([files.append("f", "0123456789" * 2)], now))
        moments += [now] * len(gathering.due(now + WINDOW / 2))
    gaps = [round((then - now) / WINDOW) for now, then in pairwise(moments)]
    assert gaps[:3] == [1, 1, 1], "a file begins at the pace of the windows"
    assert set(gaps[5:]) <= {8, 9}, "and goes on at that of patience"


def test_a_change_that_is_worth_its_event_waits_for_one_window() -> None:
    files, gathering = Files(), Gathering(WINDOW, PATIENCE)
    assert len(gathering.take([files.append("f", "x")], 0.0)) == 1
    for number in range(20):
        now = 0.01 + number * WINDOW
        assert gathering.take([files.append("f", "y" * 900)], now) == [] or number == 0
        assert len(gathering.due(now + WINDOW)) == 1
        assert not gathering.waits


def test_what_was_void_does_not_make_a_file_wait_that_begins_anew() -> None:
    files, gathering = Files(), Gathering(WINDOW, PATIENCE)
    for number in range(30):
        gathering.take([files.append("f", "x")], number * WINDOW)
    gathering.forget()
    again = Files().write("f", "anew")
    assert gathering.take([again], 30 * WINDOW) == [again]


ENCODERS = {"native": NativeEncoder(), "centrifuge": CentrifugeEncoder(text_frame)}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("speed", [400, 700, 1_500, 3_000, 10_000, 100_000])
def test_a_file_of_200_kb_costs_at_most_half_as_much_again_at_any_speed(speed: int, encoder: str) -> None:
    """By the clock of the configuration as it is; characters a second, twenty at a time."""
    config = GenerationsConfig()
    gathering, files = Gathering(config.file_rollup, config.file_patience), Files()
    step, told, latest, longest = '<p class="x">text\n\n  ', list[bytes](), 0.0, 0.0
    size, window = 200_000, 0.0

    def tell(events: Sequence[Event], now: float) -> None:
        nonlocal latest, longest
        told.extend(encode(event) for event in events)
        if events:
            latest, longest = now, max(longest, now - latest)

    for number in range(size // len(step)):
        now = number * len(step) / speed
        while gathering.waits and window <= now:
            tell(gathering.due(window), window)
            window += config.file_rollup
        before = gathering.waits
        tell(gathering.take([files.append("variants/0/index.html", step)], now), now)
        if gathering.waits and not before:
            window = now + config.file_rollup
    tell(gathering.flush(now), now)
    channel = "gen:gen_2Xr3mYt0QpWvKj9a"
    bytes_ = sum(
        len(ENCODERS[encoder].batches(channel, [Batch("k3f9a7c2", offset, [item])]))
        for offset, item in enumerate(told, 2)
    )
    print(f"{encoder}, {speed} characters a second: {bytes_ / size:.2f}, longest silence {longest:.2f} s")
    assert bytes_ / size <= 1.5
    assert longest <= config.file_patience + config.file_rollup


def test_texts_previews_and_reports_of_the_same_stage_pass_what_waits_and_all_else_does_not() -> None:
    files, gathering = Files(), Gathering(WINDOW, PATIENCE)
    first, second = files.append("f", "a"), files.append("f", "b")
    report = Progress("drawing", percent=1)
    assert gathering.take([first, report, second], 0.0) == [first, report]
    passing: list[Event] = [Delta("thought", "reasoning"), Preview(0, "image/png", data="aGk="), Progress("drawing")]
    assert gathering.take(passing, 0.01) == passing
    done = Progress("variant 0 complete")
    assert gathering.take([done], 0.02) == [second, done]
    third = files.append("f", "c")
    assert gathering.take([third], 0.03) == []
    assert gathering.take([Usage(1, 2), Completed("stop")], 0.04) == [third, Usage(1, 2), Completed("stop")]


def test_without_a_window_nothing_waits() -> None:
    files, gathering = Files(), Gathering(0, PATIENCE)
    steps = [files.append("f", "x") for _ in range(5)]
    assert gathering.take(steps, 0.0) == steps
    assert not gathering.waits


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.text(st.sampled_from("xy\n😀"), max_size=8), st.integers(0, 4)), max_size=40
    ),
    st.booleans(),
)
def test_whatever_is_written_whenever_readers_end_with_the_same_files(
    writes: list[tuple[str, str, int]], grows: bool
) -> None:
    files, gathering, now = Files(), Gathering(WINDOW, PATIENCE), 0.0
    told: list[Event] = []
    for path, text, wait in writes:
        now += wait * WINDOW / 3
        if gathering.waits and wait == 4:
            told += gathering.due(now)
        event = files.append(path, text) if grows else files.write(path, text)
        if event is not None:
            told += gathering.take([event], now)
        written = {each for each in told if isinstance(each, FileSet | FilePatch)}
        assert len(written) == len([each for each in told if isinstance(each, FileSet | FilePatch)])
    told += gathering.flush(now)
    assert changes(told) == dict(files.texts)
