"""The chat UI service over HTTP, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from services.chat.model import LanguageModel
from services.chatui.app import create_app
from services.chatui.settings import ChatUiSettings
from tests.support.applications import serving
from tests.support.postgres import PostgresServer

SECRET = "a-secret-that-is-long-enough-for-everybody"
THINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conversations": ({"topic": "Light"}, {"topic": "Colours"}),
    "prompts": ({"title": "short", "prompt": "Be short."}, {"title": "long", "prompt": "Be long."}),
    "embedding_document": ({"title": "a", "content": "b"}, {"title": "c", "content": "d"}),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/chat.db"
    return str(request.getfixturevalue("postgres_url"))


@asynccontextmanager
async def chat_ui(url: str, model: LanguageModel, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    told = {"database_url": url, "jwt_secret": SECRET, "tokens_per_second": 0, "max_tokens": 20, **settings}
    app = create_app(ChatUiSettings(**told), model)
    async with serving(app) as address, httpx.AsyncClient(base_url=f"{address}/api", timeout=30) as client:
        yield client


def of(user: str, **more: str) -> dict[str, str]:
    now = int(time.time())
    claims = {"sub": user, "sid": "s", "email": f"{user}@example.com", "iat": now, "exp": now + 3600, "type": "access"}
    return {"Authorization": "Bearer " + jwt.encode(claims, SECRET, "HS256"), **more}


ANNA, EVE = of("anna"), of("eve")


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    parts = [part.split("\ndata: ") for part in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data)) for name, data in parts]


@pytest.mark.parametrize("name", THINGS)
async def test_things_are_made_read_changed_and_deleted_by_their_owner_alone(
    url: str, language: LanguageModel, name: str
) -> None:
    first, second = THINGS[name]
    path = f"/chat/{name}/"
    async with chat_ui(url, language) as client:
        made = await client.post(path, json=first, headers=ANNA)
        assert made.status_code == 201
        assert "user_id" not in made.json()
        one = f"{path}{made.json()['id']}/"
        assert (await client.get(one, headers=ANNA)).json() == made.json()
        for method in ("GET", "PUT", "DELETE"):
            told = {"json": second} if method == "PUT" else {}
            assert (await client.request(method, one, headers=EVE, **told)).status_code == 404
            assert (await client.request(method, one, **told)).status_code == 401
        assert (await client.get(path, headers=EVE)).json() == []
        changed = (await client.put(one, json=second, headers=ANNA)).json()
        assert changed.items() >= second.items()
        assert changed["updated_at"] > made.json()["updated_at"]
        assert (await client.post(path, json=first, headers=EVE)).status_code == 201
        assert (await client.delete(f"{path}delete_all/", headers=ANNA)).status_code == 204
        assert (await client.get(path, headers=ANNA)).json() == []
        assert len((await client.get(path, headers=EVE)).json()) == 1


async def test_messages_belong_to_a_conversation_of_the_same_user_and_go_with_it(
    url: str, language: LanguageModel
) -> None:
    async with chat_ui(url, language) as client:
        talks = [(await client.post("/chat/conversations/", json={}, headers=ANNA)).json()["id"] for _ in range(2)]
        for talk in talks:
            message = {"conversationId": talk, "message": f"of {talk}"}
            assert (await client.post("/chat/messages/", json=message, headers=ANNA)).status_code == 201
            assert (await client.post("/chat/messages/", json=message, headers=EVE)).status_code == 404
        found = (await client.get(f"/chat/messages/?conversationId={talks[0]}", headers=ANNA)).json()
        assert [each["message"] for each in found] == [f"of {talks[0]}"]
        assert (await client.get(f"/chat/messages/?conversationId={talks[0]}", headers=EVE)).json() == []
        assert (await client.delete(f"/chat/conversations/{talks[0]}/", headers=ANNA)).status_code == 204
        left = (await client.get("/chat/messages/", headers=ANNA)).json()
        assert [each["message"] for each in left] == [f"of {talks[1]}"]


async def test_a_request_that_comes_again_makes_one_thing_and_anothers_is_never_shown(
    url: str, language: LanguageModel
) -> None:
    async with chat_ui(url, language) as client:
        prompt, same = THINGS["prompts"][0], {"X-Correlation-ID": "7f0c"}
        again = [client.post("/chat/prompts/", json=prompt, headers=ANNA | same) for _ in range(5)]
        made = {answer.json()["id"] for answer in await asyncio.gather(*again)}
        assert len(made) == 1
        eves = await client.post("/chat/prompts/", json=THINGS["prompts"][1], headers=EVE | same)
        assert eves.json()["id"] not in made
        assert eves.json()["prompt"] == "Be long."


async def test_an_answer_streams_and_is_kept_before_it_is_said_to_be(url: str, language: LanguageModel) -> None:
    async with chat_ui(url, language) as client:
        asked = {"message": "What is light, and why has it colours?"}
        answer = await client.post("/conversation/", json=asked, headers=ANNA | {"X-Correlation-ID": "one"})
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = events(answer.text)
        assert [name for name, _ in told] == ["userMessageId", *["message"] * (len(told) - 2), "done"]
        said = "".join(data["content"] for name, data in told if name == "message")
        talk = told[0][1]["conversationId"]
        kept = (await client.get(f"/chat/messages/{told[-1][1]['messageId']}/", headers=ANNA)).json()
        assert (kept["message"], kept["is_bot"], kept["conversation_id"]) == (said, True, talk)
        more = {"message": "And then?", "conversationId": talk}
        await client.post("/conversation/", json=more, headers=ANNA)
        messages = (await client.get(f"/chat/messages/?conversationId={talk}", headers=ANNA)).json()
        assert [each["is_bot"] for each in reversed(messages)] == [False, True, False, True]
        assert (await client.post("/conversation/", json=more, headers=EVE)).status_code == 404
        named = await client.post("/gen_title/", json={"conversationId": talk}, headers=ANNA)
        assert named.json() == {"title": "What is light, and why has …"}
        talks = (await client.get("/chat/conversations/", headers=ANNA)).json()
        assert talks[0]["topic"] == named.json()["title"]
        assert (await client.post("/gen_title/", json={"conversationId": talk}, headers=EVE)).status_code == 404


async def test_conversations_of_another_place_are_taken_in_their_order(url: str, language: LanguageModel) -> None:
    pieces = [{"role": role, "content": str(number)} for number, role in enumerate(["user", "assistant"] * 3)]
    async with chat_ui(url, language) as client:
        asked = {"imports": [{"conversation_topic": f"t{number}", "messages": pieces} for number in range(2)]}
        made = await client.post("/upload_conversations/", json=asked, headers=ANNA)
        assert (made.status_code, len(set(made.json()))) == (201, 2)
        for number, talk in enumerate(made.json()):
            assert (await client.get(f"/chat/conversations/{talk}/", headers=ANNA)).json()["topic"] == f"t{number}"
            messages = (await client.get(f"/chat/messages/?conversationId={talk}", headers=ANNA)).json()
            assert [(each["message"], each["is_bot"]) for each in reversed(messages)] == [
                (str(number), bool(number % 2)) for number in range(6)
            ]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/chat/prompts/", {}), ("/chat/prompts/", {"prompt": "a\0b"}), ("/chat/prompts/", {"prompt": ""}),
        ("/chat/conversations/", {"topic": "x" * 256}), ("/chat/embedding_document/", {"title": "x"}),
        ("/conversation/", {"message": ""}), ("/conversation/", {"message": "x", "conversationId": "y" * 65}),
        ("/gen_title/", {}), ("/upload_conversations/", {"imports": [{"messages": [{"role": "user"}]}]}),
        ("/upload_conversations/", {"imports": [{"topic": "a\0b", "messages": []}]}),
        ("/upload_conversations/", {"imports": [{"topic": "x" * 256, "messages": []}]}),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_422_and_repeats_nothing(
    url: str, language: LanguageModel, path: str, asked: dict[str, Any]
) -> None:
    async with chat_ui(url, language) as client:
        answer = await client.post(path, json=asked, headers=ANNA)
        assert answer.status_code == 422, answer.text
        assert "xxx" not in answer.text


async def test_who_asks_is_told_by_a_token_that_counts(tmp_path: Path, language: LanguageModel) -> None:
    async with chat_ui(f"sqlite:///{tmp_path}/chat.db", language) as client:
        forged = {"Authorization": "Bearer " + jwt.encode({"sub": "anna", "exp": 2**40}, "x" * 32, "HS256")}
        for headers in ({}, {"Authorization": "Basic x"}, {"Authorization": "Bearer x"}, forged):
            answer = await client.get("/chat/prompts/", headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert (await client.get("/chat/settings/")).json()["model"] == "opticks"


async def test_a_database_that_was_killed_is_503_and_has_all_that_was_acknowledged_when_it_is_back(
    postgres_server: PostgresServer, postgres_url: str, language: LanguageModel
) -> None:
    async with chat_ui(postgres_url, language) as client:
        acknowledged = set()

        async def make() -> None:
            for number in range(10_000):
                answer = await client.post("/chat/prompts/", json={"prompt": str(number)}, headers=ANNA)
                if answer.status_code != 201:
                    assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), answer.text
                    return
                acknowledged.add(answer.json()["id"])

        making = asyncio.ensure_future(make())
        async with asyncio.timeout(30):
            while len(acknowledged) < 10:
                await asyncio.sleep(0.01)
        postgres_server.kill()
        await making
        health = await client.get(str(client.base_url.copy_with(path="/health")))
        assert (health.status_code, health.json()["checks"]) == (503, {"database": "unavailable"})
        postgres_server.heal()
        kept = {each["id"] for each in (await client.get("/chat/prompts/", headers=ANNA)).json()}
        assert kept >= acknowledged
