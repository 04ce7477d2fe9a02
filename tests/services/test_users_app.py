"""The users service over HTTP, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from services.users.app import create_app
from services.users.settings import UsersSettings
from tests.support.postgres import PostgresServer

SECRET = "a-secret-of-this-test-that-is-long-enough"
ANN = {"username": "Ann", "email": "ann@example.com", "password": "securepass123"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/deep/users.db"
    return str(request.getfixturevalue("postgres_url"))


@asynccontextmanager
async def users(serve_app: Any, url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(UsersSettings(**{"database_url": url, "jwt_secret": SECRET, "hash_memory": 1024, **settings}))
    async with serve_app(app) as address, httpx.AsyncClient(base_url=address, timeout=30) as client:
        yield client


def bearer(answer: httpx.Response) -> dict[str, str]:
    return {"authorization": f"Bearer {answer.json()['accessToken']}"}


async def test_who_registers_is_signed_in_and_finds_himself(serve_app: Any, database_url: str) -> None:
    async with users(serve_app, database_url) as client:
        made = await client.post("/auth/register", json=ANN)
        assert made.status_code == 201
        told = made.json()
        assert told["accessToken"] == told["access_token"]
        assert told["refreshToken"] == told["refresh_token"]
        assert (told["tokenType"], told["expiresIn"], told["expires_in"]) == ("Bearer", 900, 900)
        assert (told["user"]["email"], told["user"]["username"]) == ("ann@example.com", "Ann")
        assert made.headers["cache-control"] == "no-store"
        claims = jwt.decode(told["accessToken"], SECRET, ["HS256"])
        assert claims["sub"] == told["user"]["id"]
        assert claims["exp"] - claims["iat"] == 900
        refresh = json.loads(base64.urlsafe_b64decode(told["refreshToken"].split(".")[1] + "=="))
        assert refresh["exp"] - time.time() == pytest.approx(30 * 86_400, abs=60)
        for path in ("/users/me", "/auth/profile"):
            assert (await client.get(path, headers=bearer(made))).json() == told["user"]
        for login in ({"email": "ANN@example.com "}, {"username": "ann"}):
            signed_in = await client.post("/auth/login", json=login | {"password": ANN["password"]})
            assert signed_in.status_code == 200
            assert signed_in.json()["user"] == told["user"]
        assert "securepass123" not in made.text


async def test_accounts_outlive_the_service(serve_app: Any, database_url: str) -> None:
    async with users(serve_app, database_url) as client:
        made = await client.post("/auth/register", json=ANN)
    async with users(serve_app, database_url) as client:
        assert (await client.get("/users/me", headers=bearer(made))).status_code == 200
        renewed = await client.post("/auth/refresh", json={"refreshToken": made.json()["refreshToken"]})
        assert renewed.status_code == 200


async def test_an_address_or_name_is_taken_once_even_at_the_same_moment(serve_app: Any, database_url: str) -> None:
    async with users(serve_app, database_url) as client:
        others = [ANN | {"email": "Ann@Example.com"}, ANN | {"email": "b@example.com", "username": "aNN"}]
        answers = await asyncio.gather(*(client.post("/auth/register", json=each) for each in [ANN, *others]))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses[0] == 201
        assert 409 in statuses
        again = [(await client.post("/auth/register", json=each)).status_code for each in [ANN, *others]]
        assert again.count(409) >= 2


async def test_a_refresh_token_is_exchanged_once_and_ends_its_session_when_it_comes_again(
    serve_app: Any, database_url: str
) -> None:
    async with users(serve_app, database_url) as client:
        first = await client.post("/auth/register", json=ANN)
        other = await client.post("/auth/login", json={"email": ANN["email"], "password": ANN["password"]})
        second = await client.post("/auth/refresh", json={"refreshToken": first.json()["refreshToken"]})
        third = await client.post("/auth/refresh", json={"refresh_token": second.json()["refresh_token"]})
        assert (second.status_code, third.status_code) == (200, 200)
        assert len({answer.json()["refreshToken"] for answer in (first, second, third)}) == 3
        stolen = await client.post("/auth/refresh", json={"refreshToken": first.json()["refreshToken"]})
        assert stolen.status_code == 401
        newest = await client.post("/auth/refresh", json={"refreshToken": third.json()["refreshToken"]})
        assert newest.status_code == 401, "the whole family has ended"
        assert (await client.get("/users/me", headers=bearer(third))).status_code == 401
        assert (await client.get("/users/me", headers=bearer(other))).status_code == 200, "another login has not"


async def test_of_many_exchanges_at_once_one_alone_succeeds(serve_app: Any, database_url: str) -> None:
    async with users(serve_app, database_url) as client:
        token = {"refreshToken": (await client.post("/auth/register", json=ANN)).json()["refreshToken"]}
        answers = await asyncio.gather(*(client.post("/auth/refresh", json=token) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7


async def test_a_logout_ends_the_session_and_can_be_repeated(serve_app: Any, database_url: str) -> None:
    async with users(serve_app, database_url) as client:
        made = await client.post("/auth/register", json=ANN)
        token = {"refreshToken": made.json()["refreshToken"]}
        for _ in range(2):
            answer = await client.post("/auth/logout", json=token)
            assert (answer.status_code, answer.json()) == (200, {"success": True})
        assert (await client.post("/auth/refresh", json=token)).status_code == 401
        assert (await client.get("/users/me", headers=bearer(made))).status_code == 401
        login = await client.post("/auth/login", json={"email": ANN["email"], "password": ANN["password"]})
        assert (await client.post("/auth/logout", headers=bearer(login))).status_code == 200
        assert (await client.get("/users/me", headers=bearer(login))).status_code == 401
        assert (await client.post("/auth/logout")).status_code == 401


async def test_sessions_are_listed_ended_and_bounded(serve_app: Any, database_url: str) -> None:
    async with users(serve_app, database_url, sessions_per_user=3) as client:
        await client.post("/auth/register", json=ANN)
        login = {"email": ANN["email"], "password": ANN["password"]}
        signed_in = [await client.post("/auth/login", json=login) for _ in range(3)]
        listed = (await client.get("/auth/sessions", headers=bearer(signed_in[-1]))).json()["sessions"]
        assert [session["current"] for session in listed] == [True, False, False]
        other = listed[1]["id"]
        ended = await client.delete(f"/auth/sessions/{other}", headers=bearer(signed_in[-1]))
        assert ended.status_code == 200
        assert (await client.get("/users/me", headers=bearer(signed_in[1]))).status_code == 401
        bob = await client.post("/auth/register", json=ANN | {"email": "bob@example.com", "username": "bob"})
        foreign = await client.delete(f"/auth/sessions/{listed[0]['id']}", headers=bearer(bob))
        assert foreign.status_code == 404
        assert (await client.get("/users/me", headers=bearer(signed_in[-1]))).status_code == 200


async def test_a_new_password_counts_at_once_and_ends_all_other_sessions(serve_app: Any, database_url: str) -> None:
    async with users(serve_app, database_url) as client:
        old = await client.post("/auth/register", json=ANN)
        here = await client.post("/auth/login", json={"email": ANN["email"], "password": ANN["password"]})
        change = {"currentPassword": "wrong-password", "newPassword": "another-password"}
        assert (await client.post("/auth/password", json=change, headers=bearer(here))).status_code == 401
        change["currentPassword"] = ANN["password"]
        assert (await client.post("/auth/password", json=change, headers=bearer(here))).status_code == 200
        assert (await client.get("/users/me", headers=bearer(old))).status_code == 401
        assert (await client.get("/users/me", headers=bearer(here))).status_code == 200
        for password, status in ((ANN["password"], 401), ("another-password", 200)):
            login = await client.post("/auth/login", json={"email": ANN["email"], "password": password})
            assert login.status_code == status


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/auth/register", {"email": "no-address", "password": "securepass123"}, "email"),
        ("/auth/register", {"email": "a@b.c", "password": "short"}, "password"),
        ("/auth/register", {"email": "a@b.c", "password": "x" * 257}, "password"),
        ("/auth/register", {"email": "a@b.c", "password": "securepass123", "username": "no spaces"}, "username"),
        ("/auth/register", {"email": "a\0@b.c", "password": "securepass123"}, "email"),
        ("/auth/register", {"password": "securepass123"}, "email"),
        ("/auth/login", {"password": "securepass123"}, None),
        ("/auth/login", {"email": "a\0", "password": "securepass123"}, None),
        ("/auth/login", {"email": 7, "password": "securepass123"}, "email"),
        ("/auth/refresh", {}, "refreshToken"),
        ("/auth/logout", {"refreshToken": 7}, "refreshToken"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_of_it_repeated(
    serve_app: Any, tmp_path: Path, path: str, body: dict[str, Any], param: str | None
) -> None:
    async with users(serve_app, f"sqlite:///{tmp_path}/users.db") as client:
        answer = await client.post(path, json=body)
        assert answer.status_code == 422
        assert answer.json()["error"]["param"] == param
        assert "securepass123" not in answer.text


async def test_no_token_but_an_own_live_one_is_taken(serve_app: Any, tmp_path: Path) -> None:
    async with users(serve_app, f"sqlite:///{tmp_path}/users.db") as client:
        made = (await client.post("/auth/register", json=ANN)).json()
        claims = jwt.decode(made["accessToken"], SECRET, ["HS256"])
        no_session = jwt.encode(claims | {"sid": "another"}, SECRET, "HS256")
        bad = [
            made["refreshToken"],
            jwt.encode(claims, "another secret that is as long as it has to be", "HS256"),
            jwt.encode(claims | {"exp": 1}, SECRET, "HS256"),
            jwt.encode({name: value for name, value in claims.items() if name != "exp"}, SECRET, "HS256"),
            jwt.encode(claims, "", "none"),
            no_session,
            "x",
        ]
        for token in bad:
            answer = await client.get("/users/me", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == 401, token
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for token in (made["accessToken"], "x", bad[1]):
            assert (await client.post("/auth/refresh", json={"refreshToken": token})).status_code == 401
        # A refresh token is no token for the gateway, which has the same secret.
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(made["refreshToken"], SECRET, ["HS256"])
        assert (await client.get("/users/me", headers=bearer_of(made))).status_code == 200


def bearer_of(told: dict[str, Any]) -> dict[str, str]:
    return {"authorization": f"Bearer {told['accessToken']}"}


async def test_unknown_users_look_like_wrong_passwords(serve_app: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/users.db"
    async with users(serve_app, url, login_failures=1000, hash_memory=65_536) as client:
        await client.post("/auth/register", json=ANN)

        async def timed(email: str) -> tuple[float, httpx.Response]:
            start = time.perf_counter()
            answer = await client.post("/auth/login", json={"email": email, "password": "wrong-password"})
            return time.perf_counter() - start, answer

        await timed("warm@example.com")
        known = [await timed(ANN["email"]) for _ in range(5)]
        unknown = [await timed("nobody@example.com") for _ in range(5)]
        assert {answer.status_code for _, answer in known + unknown} == {401}
        assert len({answer.text for _, answer in known + unknown}) == 1
        # The fastest of each: a hash takes tens of milliseconds, the absence of one would take one or two.
        assert min(unknown)[0] > min(known)[0] / 3


async def test_wrong_passwords_are_bounded_for_accounts_that_are_there_and_those_that_are_not(
    serve_app: Any, tmp_path: Path
) -> None:
    async with users(serve_app, f"sqlite:///{tmp_path}/users.db", login_failures=3, login_window=600) as client:
        await client.post("/auth/register", json=ANN)
        for email in (ANN["email"], "nobody@example.com"):
            wrong = {"email": email, "password": "wrong-password"}
            tries = [await client.post("/auth/login", json=wrong) for _ in range(5)]
            assert [answer.status_code for answer in tries] == [401, 401, 401, 429, 429]
            assert 0 < int(tries[-1].headers["retry-after"]) <= 600
        right = {"email": ANN["email"], "password": ANN["password"]}
        assert (await client.post("/auth/login", json=right)).status_code == 429
        elsewhere = {"x-forwarded-for": "203.0.113.7"}
        assert (await client.post("/auth/login", json=right, headers=elsewhere)).status_code == 200


async def test_more_passwords_at_once_than_may_wait_are_refused_and_cost_nobody_a_try(
    serve_app: Any, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/users.db"
    async with users(serve_app, url, hash_workers=1, hash_queue=1, login_failures=4) as client:
        await client.post("/auth/register", json=ANN)
        right = {"email": ANN["email"], "password": ANN["password"]}
        answers = await asyncio.gather(*(client.post("/auth/login", json=right) for _ in range(4)))
        statuses = {answer.status_code for answer in answers}
        assert 503 in statuses
        assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 503)
        assert (await client.post("/auth/login", json=right)).status_code == 200


async def test_a_database_that_is_gone_is_503_and_what_was_acknowledged_is_there_when_it_is_back(
    serve_app: Any, postgres_server: PostgresServer, postgres_url: str
) -> None:
    async with users(serve_app, postgres_url) as client:
        made = await client.post("/auth/register", json=ANN)
        assert (await client.get("/health")).json()["checks"] == {"database": "ok"}
        acknowledged: list[str] = []

        async def register_on() -> None:
            for number in range(200):
                body = ANN | {"email": f"u{number}@example.com", "username": f"user{number}"}
                answer = await client.post("/auth/register", json=body)
                if answer.status_code == 503:
                    assert answer.headers["retry-after"]
                    return
                acknowledged.append(answer.json()["user"]["email"])

        busy = asyncio.create_task(register_on())
        while len(acknowledged) < 3:
            await asyncio.sleep(0.01)
        postgres_server.kill()
        await busy
        for path in ("/health", "/healthz", "/"):
            down = await client.get(path)
            assert (down.status_code, down.json()["checks"]) == (503, {"database": "unavailable"})
        down = await client.post("/auth/refresh", json={"refreshToken": made.json()["refreshToken"]})
        assert (down.status_code, down.headers["retry-after"]) == (503, "1")
        postgres_server.heal()
        renewed = await client.post("/auth/refresh", json={"refreshToken": made.json()["refreshToken"]})
        assert renewed.status_code == 200, "the refused exchange has not used the token up"
        for email in acknowledged:
            login = await client.post("/auth/login", json={"email": email, "password": ANN["password"]})
            assert login.status_code == 200
        assert (await client.get("/health")).status_code == 200


async def test_it_starts_without_its_database_and_makes_the_tables_when_it_comes(
    serve_app: Any, postgres_server: PostgresServer, postgres_url: str
) -> None:
    postgres_server.kill()
    async with users(serve_app, postgres_url) as client:
        assert (await client.post("/auth/register", json=ANN)).status_code == 503
        postgres_server.heal()
        assert (await client.post("/auth/register", json=ANN)).status_code == 201


async def test_a_password_of_weaker_parameters_is_hashed_anew_when_its_user_signs_in(
    serve_app: Any, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/users.db"
    login = {"email": ANN["email"], "password": ANN["password"]}
    async with users(serve_app, url) as client:
        await client.post("/auth/register", json=ANN)
    async with users(serve_app, url, hash_memory=2048) as client:
        assert (await client.post("/auth/login", json=login)).status_code == 200
        assert (await client.post("/auth/login", json=login)).status_code == 200
    assert b"m=2048" in b"".join(path.read_bytes() for path in tmp_path.iterdir())


async def test_several_that_start_at_once_make_the_tables_once(serve_app: Any, database_url: str) -> None:
    async with users(serve_app, database_url) as one, users(serve_app, database_url) as two:
        bodies = [ANN, ANN | {"email": "b@example.com", "username": "bob"}]
        answers = await asyncio.gather(
            *(client.post("/auth/register", json=body) for client, body in zip((one, two), bodies, strict=True))
        )
        assert [answer.status_code for answer in answers] == [201, 201]
        login = await two.post("/auth/login", json={"email": ANN["email"], "password": ANN["password"]})
        assert login.status_code == 200


async def test_nothing_that_is_secret_is_logged_or_stored(
    serve_app: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with users(serve_app, f"sqlite:///{tmp_path}/users.db") as client:
        made = (await client.post("/auth/register", json=ANN)).json()
        await client.post("/auth/login", json={"email": ANN["email"], "password": "wrong-password"})
        await client.post("/auth/refresh", json={"refreshToken": made["refreshToken"]})
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (ANN["password"], "wrong-password", made["refreshToken"], made["accessToken"]):
        assert secret.encode() not in stored
        assert secret not in caplog.text
    assert b"$argon2id$" in stored
