"""A stream's messages in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.streams.log import StreamLog
from tests.streams.support import numbered


def test_a_new_log_is_empty() -> None:
    log = StreamLog("e")
    assert (log.first, log.top) == (1, 0)
    assert log.since(0) == log.since(7)
    assert (log.since(0).epoch, log.since(0).top, log.since(0).batches) == ("e", 0, [])


def test_what_is_appended_gets_the_next_offsets() -> None:
    log = StreamLog("e")
    assert (log.extend(numbered(1, 2)).first, log.top) == (1, 2)
    batch = log.extend(numbered(3, 3))
    assert (batch.epoch, batch.first, batch.last, batch.items) == ("e", 3, 3, numbered(3, 3))


def test_the_callers_list_stays_his_own() -> None:
    log = StreamLog("e")
    items = numbered(1, 2)
    log.extend(items)
    items.append(b"mine")
    assert log.items == numbered(1, 2)


@given(st.lists(st.tuples(st.integers(1, 4), st.none() | st.integers(0, 5)), max_size=12), st.integers(-2, 60))
def test_history_is_what_is_kept_past_the_offset(steps: list[tuple[int, int | None]], since: int) -> None:
    log = StreamLog("e")
    first = 1
    for count, kept in steps:
        log.extend(numbered(log.top + 1, log.top + count))
        if kept is not None:
            log.trim(kept)
            first = max(first, log.top - kept + 1)
    history = log.since(since)
    assert (history.epoch, history.top, log.first) == ("e", log.top, first)
    offsets = [publication for batch in history.batches for publication in batch.publications()]
    expected = list(range(max(first, since + 1), log.top + 1))
    assert [publication.offset for publication in offsets] == expected
    assert [publication.data for publication in offsets] == [b'"%d"' % offset for offset in expected]
