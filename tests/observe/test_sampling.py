from __future__ import annotations

import logging

from structlog.testing import capture_logs

from app.observe.sampling import Sampled, SampledRecords, Sampler


def test_of_a_flood_some_lines_are_written_and_the_rest_is_counted():
    now = [100.0]
    log = Sampled("test", Sampler(first=3, period=10, clock=lambda: now[0]))
    with capture_logs() as lines:
        for _ in range(1000):
            log.warning("refused", number=1)
        log.warning("something else")
        now[0] = 111.0
        log.warning("refused", number=2)
    assert [line["event"] for line in lines] == ["refused"] * 3 + ["something else", "refused"]
    assert lines[-1]["left_out"] == 997
    assert "left_out" not in lines[0]


def test_names_that_come_from_outside_fill_no_memory():
    sampler = Sampler(clock=lambda: 5.0)
    for number in range(5000):
        sampler(str(number))
    assert len(sampler._seen) <= 1001


def test_a_librarys_warnings_are_sampled_and_its_other_lines_pass():
    sampled = SampledRecords(Sampler(first=2, clock=lambda: 5.0))

    def passes(level: int) -> bool:
        return sampled.filter(logging.LogRecord("uvicorn.error", level, "", 1, "Invalid HTTP request.", (), None))

    assert [passes(logging.WARNING) for _ in range(4)] == [True, True, False, False]
    assert all(passes(logging.INFO) for _ in range(10))
