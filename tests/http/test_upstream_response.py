"""An answer is the same however its bytes are cut."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import UpstreamError
from app.http.known_answers import KnownAnswers
from app.http.upstream_connection import UpstreamConnection
from app.observe.tasks import TaskSet


class Pool:
    """A pool of one connection that only notes what becomes of it."""

    keepalive = 30.0

    def __init__(self):
        self.fate = ""
        self.known_answers = KnownAnswers()

    def released(self, connection):
        self.fate += "released "

    def broke(self, connection):
        self.fate += "broke "

    def lost(self, connection):
        self.fate += "lost "

    def attached(self, connection):
        pass

    def detached(self, connection):
        pass


class Socket(asyncio.Transport):
    def write(self, data):
        pass

    def abort(self):
        pass


async def feed(pieces: list[bytes]):
    pool = Pool()
    connection = UpstreamConnection(pool, asyncio.get_running_loop(), TaskSet())
    connection.connection_made(Socket())
    response = connection.send(b"", b"", head_only=False, response_timeout=60.0, idle_timeout=60.0)
    for piece in pieces:
        if not connection.closed:
            connection.data_received(piece)
    connection.eof_received()
    body = b""
    with contextlib.suppress(UpstreamError):
        while piece := await response.read():
            body += piece
    return response.status, list(response.headers), body, response.complete, pool.fate


ANSWER = (
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n10;ext=1\r\n0123456789abcdef\r\n0\r\nTrailer: x\r\n\r\n"
)


@given(st.lists(st.integers(1, len(ANSWER) - 1), max_size=20))
def test_an_answer_is_the_same_however_it_is_cut(cuts):
    edges = [0, *sorted(set(cuts)), len(ANSWER)]
    pieces = [ANSWER[start:end] for start, end in itertools.pairwise(edges)]
    status, headers, body, complete, fate = asyncio.run(feed(pieces))
    assert (status, body, complete) == (200, b"data0123456789abcdef", True)
    assert headers == [(b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"transfer-encoding", b"chunked")]
    assert fate == "released lost "


@settings(max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([ANSWER, ANSWER[:90], ANSWER[90:]])), max_size=5))
def test_no_bytes_make_the_parser_stumble_and_the_connection_is_lost_once(pieces):
    *_, fate = asyncio.run(feed(pieces))
    assert fate.count("lost") == 1
