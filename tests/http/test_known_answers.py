"""Answers whose heads are known: taken without the parser only where the parser would have said the same."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UpstreamError
from app.http.known_answers import KnownAnswers
from app.http.upstream_connection import UpstreamConnection
from app.observe.tasks import TaskSet
from tests.http.test_upstream_response import Pool, Socket

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\n"
FIELDS = [(b"content-type", b"a/b"), (b"content-length", b"5")]


def known() -> KnownAnswers:
    answers = KnownAnswers()
    answers.learn(HEAD + b"first", 200, FIELDS, 5)
    return answers


def test_a_whole_answer_with_a_known_head_is_found() -> None:
    found = known().find(HEAD + b"other")
    assert found is not None
    answer, body = found
    assert (answer.status, list(answer.headers), answer.length, body) == (200, FIELDS, 5, b"other")


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"shor", HEAD + b"longer", HEAD, HEAD[:-1], b"", b"\r\n\r\n", b"\r\n\r\nother", HEAD[1:] + b"other",
        HEAD.replace(b"200", b"201") + b"other", HEAD + b"other" + HEAD + b"other", b"\r\n" + HEAD + b"other",
        HEAD.replace(b"a/b", b"a/B") + b"other", HEAD[:-2] + b"X: y\r\n\r\nother",
    ],
)  # fmt: skip
def test_anything_else_is_not(data: bytes) -> None:
    assert known().find(data) is None


@pytest.mark.parametrize(
    ("data", "fields", "size"),
    [
        (b"HTTP/1.1 103 Early\r\n\r\n" + HEAD + b"first", FIELDS, 5),
        (HEAD + b"first" + HEAD, FIELDS, 5),
        (HEAD + b"firs", FIELDS, 4),
        (HEAD + b"first", [*FIELDS, (b"set-cookie", b"a=1")], 5),
        (HEAD + b"first", FIELDS[:1], 5),
        (HEAD + b"first", [*FIELDS, (b"content-length", b"5")], 5),
        (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nfi\r\n\r\n", [(b"content-length", b"6")], 6),
        (b"HTTP/1.1 200 OK\r\nA: %b\r\nContent-Length: 5\r\n\r\nfirst" % (b"a" * 5000), FIELDS, 5),
    ],
)
def test_what_is_not_one_answer_with_one_length_is_not_remembered(data: bytes, fields: list, size: int) -> None:
    answers = KnownAnswers()
    answers.learn(data, 200, fields, size)
    assert answers.find(data) is None


def test_of_many_heads_some_are_remembered() -> None:
    answers = KnownAnswers()
    heads = [HEAD[:-2] + b"X: %d\r\n\r\n" % number for number in range(1000)]
    for head in heads:
        answers.learn(head + b"first", 200, FIELDS, 5)
    assert 0 < sum(answers.find(head + b"first") is not None for head in heads) <= 64
    assert answers.find(heads[-1] + b"first") is not None


async def answered(pool: Pool, pieces: list[bytes], *, head_only: bool = False, upgrade: bool = False) -> list:
    """What becomes of an answer that comes in ``pieces``, and of its connection."""
    pool.fate = ""
    connection = UpstreamConnection(pool, asyncio.get_running_loop(), TaskSet())
    connection.connection_made(Socket())
    response = connection.send(b"", b"", head_only=head_only, response_timeout=60.0, idle_timeout=60.0, upgrade=upgrade)
    for piece in pieces:
        if not connection.closed:
            connection.data_received(piece)
    whole, reusable = response.whole, response.reusable and response.complete
    connection.eof_received()
    body, error = b"", ""
    try:
        while piece := await response.read():
            body += piece
    except UpstreamError as failure:
        error = failure.code
    return [response.status, list(response.headers), body, error, response.complete, whole, reusable, pool.fate]


LENGTHS = [b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 05\r\n", b"content-length: 5 \r\n",
           b"Content-Length: 5\r\nContent-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 9\r\n",
           b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b""]  # fmt: skip
OTHERS = [b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"A: b\r\n c\r\n", b"A: \r\n", b"A : b\r\n"]
BODIES = [b"first", b"other", b"", b"long body", b"5\r\nhello\r\n0\r\n\r\n", b"a\r\n\r\n", HEAD + b"first", b"xfirst"]
FIRST = [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified",
         b"HTTP/1.1 500 Oh", b"HTTP/1.1 101 Up", b"HTTP/1.1 103 Hints", b"HTTP/1.1 999 Odd"]  # fmt: skip
one = st.builds(
    lambda first, length, other, body: first + b"\r\n" + length + other + b"\r\n" + body,
    *map(st.sampled_from, (FIRST, LENGTHS, OTHERS, BODIES)),
)
asked = st.tuples(one, st.integers(0, 200), st.booleans(), st.booleans())


@given(st.lists(st.tuples(asked, st.integers(1, 3)), min_size=1, max_size=4))
def test_an_answer_is_the_same_whether_or_not_its_like_came_before(answers: list) -> None:
    async def all_of_them() -> None:
        one_pool = Pool()
        for (data, cut, head_only, upgrade), times in answers:
            pieces = [data[:cut], data[cut:]] if 0 < cut < len(data) else [data]
            for _ in range(times):
                again = await answered(one_pool, pieces, head_only=head_only, upgrade=upgrade)
                anew = await answered(Pool(), pieces, head_only=head_only, upgrade=upgrade)
                assert again == anew

    asyncio.run(all_of_them())
