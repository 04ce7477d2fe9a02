"""Requests byte by byte at ``tidegate serve --preset llm-platform``, with services behind it that read with another
parser: nothing that must be refused gets there, and what gets there is what was asked, once."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.gateway import ROOT, free_port
from tests.support.hostile_requests import CORPUS, SERVED
from tests.support.reading_services import Request, Services, next_request, reading_services

WITHIN = 20.0
"""Seconds after which a test gives up."""
TIMES = {"HEAD": "1.0", "BODY": "1.0"}
"""Seconds that the gateway waits for the rest of a request."""
VARIABLES = ("USERS", "LLM", "IMAGE", "SPEECH", "ANALYTICS")
LAST = b"GET /api/analytics/system HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
"""A request behind the others, so that the connection ends; and the one that would be smuggled."""


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    with reading_services() as made:
        yield made


@pytest.fixture(scope="module")
def port(services: Services) -> Iterator[int]:
    port, behind = free_port(), services.url
    known = {f"{name}_SERVICE_URL": behind for name in VARIABLES}
    known |= {f"GATEWAY_SERVER__REQUESTS__{name}_TIMEOUT": seconds for name, seconds in TIMES.items()}
    known |= {"PORT": str(port), "LOG_LEVEL": "CRITICAL", "ENABLE_ANALYTICS": "false", "NODE_ENV": "development"}
    command = [sys.executable, "-m", "app.cli", "serve", "--preset", "llm-platform"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **known})
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the gateway ended at its start"
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError):
                if b"200 OK" in told(port, LAST.replace(b"/api/analytics/system", b"/health/live")):
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def told(port: int, *pieces: bytes, before: int = 0) -> bytes:
    """Return all that comes until the gateway closes the connection, on which ``before`` requests were answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as connection:
        for _ in range(before):
            connection.sendall(b"GET /api/chat/models HTTP/1.1\r\nHost: a\r\n\r\n")
            head = connection.recv(65536)
            while not head.endswith(b"ok"):
                head += connection.recv(65536)
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


def at_the_preset(request: bytes) -> bytes:
    """Return it with the path of an endpoint that takes it."""
    request = request.replace(b"GET / ", b"GET /api/chat/models ", 1)
    return request.replace(b"POST / ", b"POST /api/chat ", 1)


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


@pytest.mark.parametrize("before", [0, 3])
def test_what_must_be_refused_is_refused_and_closed_and_no_service_hears_of_it(
    port: int, services: Services, before: int
) -> None:
    """``before``: so many requests were answered on its connection, with the same lines."""
    seen = len(services.seen)

    def refused(name: str) -> tuple[str, list[int]] | None:
        request, expected = CORPUS[name]
        found = statuses(told(port, at_the_preset(request) + LAST, before=before))
        return None if found == [expected] else (name, found)

    with ThreadPoolExecutor(16) as pool:
        wrong = [each for each in pool.map(refused, CORPUS) if each is not None]
    assert not wrong
    assert services.seen[seen:] == [(b"GET", b"/chat/models", b"")] * before * len(CORPUS)
    assert not services.broken


@pytest.mark.parametrize("name", SERVED)
def test_what_may_be_served_reaches_a_service_once_and_is_framed_anew(port: int, services: Services, name: str) -> None:
    request = at_the_preset(re.sub(rb"//a(/x)? ", b"//a/api/chat/models ", SERVED[name][0]))
    before = len(services.seen)
    answer = told(port, request, LAST)
    body = SERVED[name][1].split(b"|")[1]
    assert set(statuses(answer)) == {200}, answer
    ends = b"HTTP/1.0" in request
    assert len(statuses(answer)) == (1 if ends else 2)
    assert [seen[2] for seen in services.seen[before:]] == [body] + ([] if ends else [b""])
    for head in services.heads[before:]:
        names = [name for name, _ in head.headers]
        assert not {b"transfer-encoding", b"upgrade", b"http2-settings", b"connection"} & set(names)
        assert names.count(b"content-length") <= 1
        assert names.count(b"host") == 1
    assert not services.broken


LINES = st.sampled_from(
    [b"Content-Length: 3", b"Content-Length: 0", b"Content-Length: 30", b"Content-length:3 ", b"Content-Length: 3, 3",
     b"Transfer-Encoding: chunked", b"transfer-encoding:\tChunked", b"Transfer-Encoding: gzip, chunked",
     b"Transfer-Encoding: identity", b"Transfer_Encoding: chunked", b"Content_Length: 30",
     b"Transfer-Encoding : chunked",
     b"X: y\r\n z", b"X: a\nContent-Length: 30", b"X: \xe9", b"Connection: close", b"Connection: keep-alive",
     b"Connection: content-length, transfer-encoding", b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket",
     b"Expect: 100-continue", b"Host: b", b"Trailer: Content-Length", b"TE: trailers", b"Content-Type: text/plain"]
)  # fmt: skip
BODIES = st.sampled_from(
    [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n", b"3;a=b\r\nabc\r\n0\r\nContent-Length: 30\r\n\r\n",
     b"3\r\nabc\r\n0\r\nX: y\r\n\r\n", b"3\nabc\n0\n\n", b"0x3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\nabc",
     b"abcGET / HTTP/1.1\r\n"]
)  # fmt: skip
STARTS = st.sampled_from(
    [b"GET /api/chat/models", b"POST /api/chat", b"POST /api/auth/login", b"GET http://a/api/chat/models",
     b"HEAD /", b"DELETE /api/chat/models", b"OPTIONS /api/chat", b"GET /api/chat/models?q=1"]
)  # fmt: skip
VERSIONS = st.sampled_from([b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/1.2", b""])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    lines = [draw(STARTS) + draw(VERSIONS), b"Host: a", *draw(st.lists(LINES, max_size=3))]
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]))
    return end.join(lines) + end + end + draw(BODIES)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(requests(), min_size=1, max_size=3), cut=st.integers(0, 200), warm=st.integers(0, 4))
def test_services_get_what_another_parser_reads_and_never_more(
    port: int, services: Services, parts: list[bytes], cut: int, warm: int
) -> None:
    sent = b"".join([*parts, LAST])
    before = len(services.seen) + warm
    answer = None
    with contextlib.suppress(ConnectionError):  # Who goes on after his last request may miss its answer.
        answer = told(port, sent[:cut], sent[cut:], before=warm)
    read = list(_as_h11_reads(sent))
    arrived = services.seen[before:]
    assert len(arrived) <= len(read)
    others = iter(read)
    for method, target, body in arrived:  # in their order; others may have been refused, or answered here
        assert any((method, _service_path(path), sent_body) == (method, target, body)
                   for name, path, sent_body in others if name == method), (arrived, read)  # fmt: skip
    if answer is not None:
        assert len(arrived) <= len([status for status in statuses(answer) if status != 100])
    assert not services.broken


def _as_h11_reads(sent: bytes) -> Iterator[Request]:
    """Return what h11 takes for requests, one parser each: empty lines between them mean nothing."""
    with contextlib.suppress(h11.ProtocolError):
        while sent:
            parser, chunks = h11.Connection(h11.SERVER), iter([sent])
            request = next_request(parser, lambda chunks=chunks: next(chunks, b""))
            if request is None:
                return
            yield request[1]
            sent = parser.trailing_data[0].lstrip(b"\r\n")


def _service_path(target: bytes) -> bytes:
    return target.removeprefix(b"http://a").replace(b"/api/auth", b"/auth").replace(b"/api/chat", b"/chat").replace(
        b"/api/analytics", b"/analytics"
    )  # fmt: skip


def test_heads_and_bodies_that_drip_are_ended_while_others_are_served(port: int, services: Services) -> None:
    begun = (
        b"GET /api/chat/models HTTP/1.1\r\nHost: a\r\nX: ",
        b"POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n",
        b"POST /api/auth/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n",
    )
    before = len(services.seen)
    drips = [socket.create_connection(("127.0.0.1", port), timeout=WITHIN) for _ in range(90)]
    try:
        for number, drip in enumerate(drips):
            drip.sendall(begun[number % 3])
        slowest, rounds, open_ = 0.0, 0, list(drips)
        deadline = time.monotonic() + WITHIN
        while open_ or rounds < 10:
            assert time.monotonic() < deadline, f"{len(open_)} are still open"
            for drip in list(open_):
                try:
                    drip.send(b"a")
                    drip.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        answer = drip.recv(65536)
                        assert answer == b"" or statuses(answer) == [408], answer
                        open_.remove(drip)
                    drip.setblocking(True)
                except OSError:
                    open_.remove(drip)
            began = time.monotonic()
            assert statuses(told(port, LAST)) == [200]
            slowest, rounds = max(slowest, time.monotonic() - began), rounds + 1
        assert slowest < 5
    finally:
        for drip in drips:
            drip.close()
    assert {seen[1] for seen in services.seen[before:]} == {b"/analytics/system"}, "half a request was passed on as one"
    assert not services.broken
