"""Small changes of files become few, and nothing of them is lost, late, or out of its order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.generations.events import Completed, Delta, Event, FilePatch, FileSet, Preview, Progress, Usage
from app.generations.files import Files
from app.generations.gathering import Gathering

WINDOW = 0.1


def changes(events: list[Event]) -> dict[str, str]:
    follower = Files()
    for event in events:
        if isinstance(event, FileSet | FilePatch):
            assert follower.follow(event), f"{event} does not follow"
    return dict(follower.texts)


def test_the_first_change_is_told_at_once_and_the_next_ones_together() -> None:
    files, gathering = Files(), Gathering(WINDOW)
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


def test_a_file_that_was_quiet_for_the_window_is_told_at_once_again() -> None:
    files, gathering = Files(), Gathering(WINDOW)
    for number in range(5):
        step = files.append("f", "x")
        assert gathering.take([step], 2 * number * WINDOW) == [step]


def test_several_files_wait_beside_each_other() -> None:
    files, gathering = Files(), Gathering(WINDOW)
    told: list[Event] = []
    for number in range(100):
        told += gathering.take([files.append(f"variants/{number % 4}", f"{number} ")], 0.0)
    assert len(told) == 4
    told += gathering.flush(0.1)
    assert len(told) == 8
    assert changes(told) == dict(files.texts)


def test_a_change_that_has_become_long_does_not_wait() -> None:
    files, gathering = Files(), Gathering(WINDOW)
    told: list[Event] = []
    for _ in range(1000):
        told += gathering.take([files.append("f", "0123456789" * 2)], 0.0)
    assert 4 <= len(told) <= 6
    assert changes([*told, *gathering.flush(0.1)]) == dict(files.texts)


def test_a_short_change_waits_for_two_windows_and_a_longer_one_for_one() -> None:
    files, gathering = Files(), Gathering(WINDOW)
    events = [files.append(path, "x") for path in ("slow", "fast")]
    assert gathering.take(events, 0.0) == events
    assert gathering.take([files.append("slow", "y" * 20), files.append("fast", "y" * 1000)], 0.01) == []
    (fast,) = gathering.due(0.1)
    assert (fast.path, gathering.waits) == ("fast", True)
    assert gathering.take([files.append("slow", "z"), files.append("fast", "z")], 0.11) == []
    (slow,) = gathering.due(0.2)
    assert isinstance(slow, FilePatch)
    assert (slow.path, slow.inserted) == ("slow", "y" * 20 + "z")
    (fast,) = gathering.due(0.3)
    assert (fast.path, gathering.waits) == ("fast", False)
    assert changes([*events, slow]).keys() == {"slow", "fast"}


def test_a_model_that_writes_two_thousand_characters_a_second_is_told_of_in_a_thousand_at_a_time() -> None:
    files, gathering = Files(), Gathering(0.25)
    told: list[Event] = []
    for number in range(2000):  # Twenty seconds of it, a step each hundredth of a second.
        now = number / 100
        told += gathering.take([files.append("f", "0123456789" * 2)], now)
        if number % 25 == 24:
            told += gathering.due(now)
    assert changes([*told, *gathering.flush(20.0)]) == dict(files.texts)
    assert len(told) <= 1 + 40_000 / 1000


def test_texts_previews_and_reports_of_the_same_stage_pass_what_waits_and_all_else_does_not() -> None:
    files, gathering = Files(), Gathering(WINDOW)
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
    files, gathering = Files(), Gathering(0)
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
    files, gathering, now = Files(), Gathering(WINDOW), 0.0
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
