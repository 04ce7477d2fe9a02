"""Starts are checked field by field, and a generation's record says whose it is."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.identity import ANONYMOUS, Identity
from app.errors import BadRequest
from app.generations.requests import Info, Policy, StartRequest, parse_policy

GOOD = {"kind": "chat", "input": {"message": "Hello"}}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("continue", None), ("cancel", 0), ("cancel_after:30", 30), ("cancel_after:0.5", 0.5), ("cancel_after:0", 0)],
)
def test_a_policy_is_read(text: str, seconds: float | None) -> None:
    assert parse_policy(text) == Policy(seconds)


@pytest.mark.parametrize(
    "text", ["", "Cancel", "cancel_after:", "cancel_after:-1", "cancel_after:1e9", " cancel", 7, None]
)
def test_another_policy_is_an_error_that_names_the_field(text: object) -> None:
    with pytest.raises(BadRequest, match="on_last_disconnect"):
        parse_policy(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", None),
        ("kind", 7),
        ("input", None),
        ("input", "Hello"),
        ("input", []),
        ("idempotency_key", ""),
        ("idempotency_key", "x" * 257),
        ("idempotency_key", 7),
        ("upstream", 7),
        ("on_last_disconnect", "never"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(BadRequest, match=field):
        StartRequest.parse({**GOOD, field: value}, attended=True)


@given(
    st.dictionaries(st.sampled_from(StartRequest.FIELDS), st.recursive(st.none() | st.text() | st.integers(), st.lists))
)
def test_any_fields_are_read_or_refused(fields: dict[str, object]) -> None:
    with contextlib.suppress(BadRequest):
        request = StartRequest.parse(fields, attended=False)
        assert isinstance(request.kind, str)
        assert asyncio.run(request.digest())


def test_the_digest_tells_requests_apart_and_not_their_order() -> None:
    def digest(**fields: object) -> bytes:
        return asyncio.run(StartRequest.parse({**GOOD, **fields}, attended=True).digest())

    one = digest(input={"message": "a", "model": "m"})
    assert one == digest(input={"model": "m", "message": "a"})
    assert one == digest(input={"model": "m", "message": "a"}, idempotency_key="k")
    assert len({one, digest(), digest(upstream="u"), digest(on_last_disconnect="cancel"), digest(kind="image")}) == 5


def test_a_generation_is_its_users_within_his_company() -> None:
    info = Info("gen_1", "chat", "42", "acme", "chat", 1.5)
    assert Info.decode(info.encode()) == info
    assert info.belongs_to(Identity("42", "acme"))
    for stranger in (Identity("43", "acme"), Identity("42", "other"), Identity("42"), ANONYMOUS):
        assert not info.belongs_to(stranger)
    assert Info("gen_2", "chat", None, None, "chat", 1.5).belongs_to(ANONYMOUS)
