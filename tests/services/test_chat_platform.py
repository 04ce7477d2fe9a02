"""Chat in a platform's words: messages, sessions, models."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

ANN, BOB = {"x-user-id": "ann"}, {"x-user-id": "bob"}


async def test_a_message_is_answered_and_remembered_for_who_signs_in(serve: Any) -> None:
    async with serve() as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        ask = {"message": "What is light?", "model": "gpt-4o-mini", "session_id": "optional-session-id"}
        told = (await client.post("/chat", json=ask | {"max_tokens": 20}, headers=ANN)).json()
        assert told["response"]
        assert told["message"] == {"role": "assistant", "content": told["response"]}
        assert (told["session_id"], told["model"]) == ("optional-session-id", "opticks-4gram")
        assert told["usage"]["total_tokens"] > 0
        again = {"message": "And colours?", "session_id": told["session_id"], "max_tokens": 20}
        await client.post("/chat/generate", json=again, headers=ANN)
        listed = (await client.get("/chat/sessions", headers=ANN)).json()
        assert listed["total"] == 1
        (session,) = listed["sessions"]
        assert (session["session_id"], session["title"], session["message_count"]) == (
            "optional-session-id", "What is light?", 4,
        )  # fmt: skip
        whole = (await client.get("/chat/sessions/optional-session-id", headers=ANN)).json()
        assert [message["role"] for message in whole["messages"]] == ["user", "assistant"] * 2
        assert (await client.get("/chat/sessions", headers=BOB)).json() == {"sessions": [], "total": 0}
        assert (await client.get("/chat/sessions/optional-session-id", headers=BOB)).status_code == 404
        for path in ("/chat/sessions", "/chat/sessions/optional-session-id"):
            assert (await client.get(path)).status_code == 401
        assert (await client.delete("/chat/sessions/optional-session-id", headers=ANN)).status_code == 200
        assert (await client.get("/chat/sessions", headers=ANN)).json()["total"] == 0
        assert (await client.get("/chat/models")).json()["data"][0]["id"] == "opticks-4gram"
        assert (await client.get("/healthz")).status_code == 200


async def test_an_anonymous_caller_goes_on_with_the_session_he_was_given_and_with_no_other(serve: Any) -> None:
    async with serve() as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        short = {"max_tokens": 5}
        first = (await client.post("/chat", json={"message": "Hello", "session_id": "guess", **short})).json()
        assert first["session_id"] != "guess"
        other = (await client.post("/chat", json={"message": "Hello", "session_id": "guess", **short})).json()
        assert other["session_id"] not in ("guess", first["session_id"])
        on = {"message": "And?", "session_id": first["session_id"], **short}
        second = (await client.post("/chat", json=on)).json()
        assert second["session_id"] == first["session_id"]
        assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]


async def test_an_answer_can_be_streamed_and_is_remembered_too(serve: Any) -> None:
    async with serve() as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        ask = {"message": "What is light?", "stream": True, "session_id": "s", "max_tokens": 10}
        async with client.stream("POST", "/chat", json=ask, headers=ANN) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line[6:] async for line in answer.aiter_lines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]"
        text = "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines[:-1])
        whole = (await client.get("/chat/sessions/s", headers=ANN)).json()
        assert whole["messages"][1]["content"] == text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "message"), ({"message": " "}, "message"), ({"message": 7}, "message"),
        ({"message": "x", "session_id": "../x"}, "session_id"), ({"message": "x", "temperature": 9}, "temperature"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_422_and_named(serve: Any, body: dict[str, Any], param: str) -> None:
    async with serve() as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        answer = await client.post("/chat", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
        assert (await client.post("/chat", content=b"{")).status_code == 400
