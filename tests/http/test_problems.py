"""Problem documents: RFC 9457's members, and the headers that go with each status."""

from __future__ import annotations

import inspect

import orjson
import pytest

import app.errors
from app.errors import (
    InsufficientScope,
    InvalidServiceKey,
    InvalidToken,
    MethodNotAllowed,
    TidegateError,
    TokenExpired,
    TooManyRequests,
    Unauthenticated,
    UpstreamTimeout,
)
from app.http.problems import problem

ERRORS = [
    kind for _, kind in inspect.getmembers(app.errors, inspect.isclass) if issubclass(kind, TidegateError)
]  # fmt: skip


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_is_a_problem_with_its_own_type(kind):
    status, headers, body = problem(kind(), instance="urn:x:1")
    document = orjson.loads(body)
    assert document == {
        "type": f"https://tidegate.dev/errors/{kind.code}",
        "title": document["title"],
        "status": kind.status,
        "detail": kind.default_message,
        "code": kind.code,
        "instance": "urn:x:1",
    }
    assert status == kind.status
    fields = dict(headers)
    assert fields[b"content-type"] == b"application/problem+json"
    assert fields[b"content-length"] == b"%d" % len(body)
    assert fields[b"x-gateway-error"] == kind.code.encode()
    assert (b"www-authenticate" in fields) == (status == 401 or kind is InsufficientScope)
    assert (b"retry-after" in fields) == (status in (429, 503))
    assert len(fields) == len(headers)


def test_types_are_different():
    codes = [kind.code for kind in ERRORS]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("error", "challenge"),
    [
        (Unauthenticated(), b'Bearer realm="tidegate"'),
        (
            InvalidToken('Not "good"\n\\ here, é.'),
            b'Bearer realm="tidegate", error="invalid_token", error_description="Not good here, ."',
        ),
        (
            TokenExpired(),
            b'Bearer realm="tidegate", error="invalid_token", '
            b'error_description="The token has expired. Get a fresh one and come back."',
        ),
        (InvalidServiceKey(), b'ServiceKey realm="tidegate"'),
        (
            InsufficientScope("Too little.", scopes=("read", "write")),
            b'Bearer realm="tidegate", error="insufficient_scope", error_description="Too little.", scope="read write"',
        ),
    ],
)
def test_the_challenge_says_invalid_token_only_where_there_was_one(error, challenge):
    assert dict(problem(error)[1])[b"www-authenticate"] == challenge


def test_a_wait_is_rounded_up_and_methods_are_listed():
    assert dict(problem(TooManyRequests(), retry_after=1.2)[1])[b"retry-after"] == b"2"
    assert dict(problem(MethodNotAllowed(), allow=("GET", "POST"))[1])[b"allow"] == b"GET, POST"


def test_without_an_instance_there_is_none():
    assert "instance" not in orjson.loads(problem(UpstreamTimeout("late"))[2])
    assert orjson.loads(problem(UpstreamTimeout("late"))[2])["detail"] == "late"
