"""Heads of answers that are put together once: only for the same route, configuration and scheme."""

from __future__ import annotations

import pytest

from app.http.edge.dressed import Dressed, remember
from app.http.known_answers import KnownAnswer

ANSWER = KnownAnswer(200, [(b"content-length", b"5")], 5)
HEADERS = [(b"content-length", b"5"), (b"a", b"1"), (b"x-request-id", b"r1"), (b"x-process-time", b"0.5"), (b"b", b"2")]
ROUTE, EDITION = object(), object()


def dressed(headers: list[tuple[bytes, bytes]]) -> Dressed | None:
    return Dressed.of(ANSWER, headers, ROUTE, EDITION, "http")


def test_the_lines_are_those_of_the_first_answer_but_for_its_id_and_time() -> None:
    it = dressed(HEADERS)
    assert it is not None
    assert it.lines(b"r2", 0.25) == (
        b"content-length: 5\r\na: 1\r\nx-request-id: r2\r\nx-process-time: 0.250000\r\nb: 2\r\n\r\n"
    )


def test_they_are_for_the_same_route_configuration_and_scheme() -> None:
    it = dressed(HEADERS)
    assert it is not None
    assert it.fits(ROUTE, EDITION, "http")
    assert not it.fits(object(), EDITION, "http")
    assert not it.fits(ROUTE, object(), "http")
    assert not it.fits(ROUTE, EDITION, "https")


@pytest.mark.parametrize(
    "headers",
    [
        HEADERS[1:], [*HEADERS, (b"content-length", b"5")], [(b"content-length", b"6"), *HEADERS[1:]],
        [*HEADERS, (b"connection", b"close")], [*HEADERS, (b"transfer-encoding", b"chunked")],
        [*HEADERS, (b"x-request-id", b"r1")], HEADERS[:3], [*HEADERS[:2], HEADERS[3], HEADERS[2]],
    ],
)  # fmt: skip
def test_a_head_that_frames_otherwise_is_not_remembered(headers: list[tuple[bytes, bytes]]) -> None:
    assert dressed(headers) is None


def test_a_few_are_remembered() -> None:
    some: dict[KnownAnswer, Dressed] = {}
    it = dressed(HEADERS)
    assert it is not None
    for _ in range(100):
        answer = KnownAnswer(200, [], 5)
        remember(some, answer, it)
        assert answer in some
    assert len(some) <= 8
