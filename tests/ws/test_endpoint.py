"""Who gets in, and how who does not is told."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import jwt
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.config import DEVELOPMENT_SECRET
from app.ws.protocols.native import NativeProtocol
from tests.auth.support import KEYS
from tests.auth.support import signed as signed_by_an_issuer
from tests.support.gateway import bearer, settings, token
from tests.support.ws import TEXT, command, error_codes, eventually, frame, raw, serving

NOWHERE = "http://127.0.0.1:1"
AUTH = {"audience": ["tidegate"], "issuer": ["us"]}
CODES = error_codes()


def signed(secret: str = DEVELOPMENT_SECRET, algorithm: str = "HS256", **claims) -> str:
    payload = {"sub": "alice", "exp": time.time() + 3600, "aud": "tidegate", "iss": "us", **claims}
    return jwt.encode(payload, secret, algorithm=algorithm)


GOOD = signed()
BAD = {
    "expired": (signed(exp=time.time() - 1), "token_expired", 4401),
    "forged": (signed("another secret of thirty-two bytes!!"), "invalid_token", 4501),
    "cut": (GOOD[:-4], "invalid_token", 4501),
    "without signature": (
        jwt.encode({"sub": "alice", "aud": "tidegate", "iss": "us"}, None, algorithm="none"),
        "invalid_token",
        4501,
    ),
    "of another algorithm": (signed(DEVELOPMENT_SECRET * 2, "HS512"), "invalid_token", 4501),
    "for others": (signed(aud="others"), "invalid_token", 4501),
    "from others": (signed(iss="others"), "invalid_token", 4501),
    "of nobody": (signed(sub=""), "invalid_token", 4501),
    "not yet": (signed(nbf=time.time() + 3000), "invalid_token", 4501),
    "no token": ("abc", "invalid_token", 4501),
}
WAYS = ["header", "subprotocol", "query", "message"]
bad_tokens = pytest.mark.parametrize(("bad", "code", "close_code"), BAD.values(), ids=BAD)


@pytest.fixture(scope="module")
def config():
    return settings(NOWHERE, auth=AUTH, realtime={"query_token": True})


@pytest.fixture
async def gateway(config):
    async with serving(config) as served:
        yield served
        await eventually(lambda: not served.sessions)


def showing(way: str, text: str) -> dict:
    """Return how to ask with a token shown in one of the ways."""
    if way == "header":
        return {"headers": (("Authorization", f"Bearer {text}"),)}
    if way == "subprotocol":
        return {"headers": (("Sec-WebSocket-Protocol", f"tidegate.v1, bearer.{text}"),)}
    return {"path": f"/api/v1/ws?token={text}"} if way == "query" else {}


@pytest.mark.parametrize("way", WAYS)
async def test_a_good_token_gets_in_by_each_way(gateway, way):
    async with raw(gateway, None, **showing(way, GOOD)) as client:
        assert client.status == 101
        if way == "message":
            client.send(command("auth", id=1, token=GOOD))
        connected = await client.message()
        assert (connected["type"], connected["user_id"]) == ("connected", "alice")
        assert 0 < connected["expires_in"] <= 3600
        assert connected["ping_interval"] == 25


@bad_tokens
async def test_a_bad_token_in_the_header_is_refused_by_http(gateway, bad, code, close_code):
    async with httpx.AsyncClient() as http:
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        upgrade |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Authorization": f"Bearer {bad}"}
        answer = await http.get(f"{gateway.http}/api/v1/ws", headers=upgrade)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["type"].rpartition("/")[2]) == (401, code)
    assert bad not in answer.text
    assert CODES[code] == close_code


@bad_tokens
@pytest.mark.parametrize("way", ["subprotocol", "query", "message"])
async def test_a_bad_token_shown_otherwise_is_told_on_the_socket_which_closes(gateway, way, bad, code, close_code):
    async with raw(gateway, None, **showing(way, bad)) as client:
        assert client.status == 101
        if way == "message":
            client.send(command("auth", token=bad))
        closed, reason, messages = await client.close_frame()
        assert (closed, reason) == (close_code, code)
        assert [(m["type"], m["code"], m["status"]) for m in messages] == [("error", code, 401)]
        assert bad not in str(messages)


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        ("tidegate.v1", "tidegate.v1"),
        (f"tidegate.v1, bearer.{GOOD}", "tidegate.v1"),
        (f"bearer.{GOOD}, tidegate.v1", "tidegate.v1"),
        (f"bearer.{GOOD}", None),
        ("chat, superchat", None),
    ],
)
async def test_the_token_is_never_echoed_among_the_subprotocols(gateway, offered, answered):
    async with raw(gateway, None, headers=(("Sec-WebSocket-Protocol", offered),)) as client:
        assert client.status == 101
        head = {name.lower(): value for name, _, value in (line.partition(": ") for line in client.head)}
        assert head.get("sec-websocket-protocol") == answered
        assert GOOD not in "".join(client.head)


async def test_a_browser_may_offer_the_token_as_a_subprotocol(gateway):
    async with connect(gateway.ws, subprotocols=["tidegate.v1", f"bearer.{GOOD}"]) as client:
        assert client.subprotocol == "tidegate.v1"
        assert json.loads(await client.recv())["type"] == "connected"


async def test_a_header_of_another_scheme_is_no_credential(gateway):
    async with raw(gateway, None, headers=(("Authorization", "Basic YTpi"),)) as client:
        client.send(command("cancel", generation_id="x"))
        assert (await client.message())["code"] == "unauthenticated"
        client.send(command("auth", token=GOOD))
        assert (await client.message())["type"] == "connected"
    async with raw(gateway, None, headers=(("Authorization", "Bearer"),)) as client:
        assert client.status == 401


async def test_a_query_token_is_ignored_by_default():
    async with serving(settings(NOWHERE)) as served, raw(served, None, path=f"/api/v1/ws?token={token()}") as client:
        client.send(command("cancel", generation_id="x"))
        assert (await client.message())["code"] == "unauthenticated"


async def test_a_ticket_is_good_once():
    async with serving(settings(NOWHERE)) as served, httpx.AsyncClient() as http:
        answer = await http.post(f"{served.http}/api/v1/ws/tickets", headers=bearer("bob", ttl=100))
        path = f"/api/v1/ws?ticket={answer.json()['ticket']}"
        async with raw(served, None, path=path) as client:
            connected = await client.message()
            assert connected["user_id"] == "bob"
            assert 95 <= connected["expires_in"] <= 101
        async with raw(served, None, path=path) as client:
            assert client.status == 101
            code, reason, messages = await client.close_frame()
            assert (code, reason, messages[0]["code"]) == (4501, "invalid_token", "invalid_token")


async def test_of_many_who_show_one_ticket_one_gets_in():
    async with serving(settings(NOWHERE)) as served, httpx.AsyncClient() as http:
        answer = await http.post(f"{served.http}/api/v1/ws/tickets", headers=bearer())
        path = f"/api/v1/ws?ticket={answer.json()['ticket']}"

        async def show() -> str:
            async with raw(served, None, path=path) as client:
                return (await client.message())["type"]

        assert sorted(await asyncio.gather(*[show() for _ in range(8)])) == ["connected"] + ["error"] * 7


@pytest.mark.parametrize("ticket", ["", "x", "x" * 43, "%00", "../..", "x" * 5000])
async def test_what_is_no_ticket_is_told_so(gateway, ticket):
    async with raw(gateway, None, path=f"/api/v1/ws?ticket={ticket}") as client:
        if ticket:
            assert (await client.close_frame())[:2] == (4501, "invalid_token")
        else:
            assert client.status == 101


@pytest.mark.parametrize("origin", ["https://evil.test", "null", "http://[", "https://gateway.test.evil.test", ""])
async def test_a_page_of_a_foreign_origin_is_refused_before_anything_is_verified(gateway, origin):
    headers = (("Origin", origin), ("Authorization", f"Bearer {GOOD}"))
    async with raw(gateway, None, headers=headers) as client:
        assert client.status == 403
        body = await client.reader.read()
        assert json.loads(body)["type"].endswith("/permission_denied")
    assert not gateway.sessions


async def test_pages_of_allowed_origins_get_in():
    config = settings(NOWHERE, server={"allowed_origins": ["https://app.example.com"]})
    async with serving(config) as served:
        for origin in ("https://app.example.com", "https://gateway.test"):
            async with raw(served, headers=(("Origin", origin),)) as client:
                assert client.status == 101
        with pytest.raises(InvalidStatus) as refused:
            await connect(served.ws, origin="https://other.example.com").__aenter__()
        assert refused.value.response.status_code == 403


async def test_the_clients_name_comes_back_and_a_bad_one_is_replaced(gateway):
    for name, kept in (("client123", True), ("a.b:c_d-e", True), ("%22%0a", False), ("a" * 129, False)):
        path = f"/api/v1/ws?connection_id={name}"
        async with raw(gateway, None, path=path, headers=(("Authorization", f"Bearer {GOOD}"),)) as client:
            given = (await client.message())["connection_id"]
            assert given == name if kept else given.startswith("conn_")


async def test_a_query_of_too_many_fields_is_a_bad_request(gateway):
    async with raw(gateway, None, path="/api/v1/ws?" + "&".join("a=1" for _ in range(50))) as client:
        assert client.status == 400


async def test_who_does_not_sign_in_in_time_is_closed():
    async with serving(settings(NOWHERE, realtime={"auth_timeout": 0.2})) as served, raw(served, None) as client:
        start = time.monotonic()
        client.send(command("ping"))
        code, reason, messages = await client.close_frame()
        assert 0.15 < time.monotonic() - start < 1.2
        assert (code, reason) == (4408, "auth_timeout")
        assert [m.get("code", m["type"]) for m in messages] == ["pong", "auth_timeout"]


async def test_who_signs_in_in_time_stays():
    async with serving(settings(NOWHERE, realtime={"auth_timeout": 0.2})) as served, raw(served, None) as client:
        client.send(command("auth", token=token()))
        assert (await client.message())["type"] == "connected"
        await asyncio.sleep(0.4)
        client.send(command("ping"))
        assert (await client.message())["type"] == "pong"


async def test_a_stranger_is_told_off_and_then_put_out(gateway):
    async with raw(gateway, None) as client:
        client.send(*[frame(TEXT, b"{") for _ in range(20)])
        code, reason, messages = await client.close_frame()
        assert (code, reason) == (4501, "unauthenticated")
        assert len(messages) == 9


async def test_without_tokens_everybody_is_anonymous_in_the_insecure_mode():
    async with serving(settings(NOWHERE, realtime={"insecure": True})) as served:
        async with raw(served, None) as client:
            connected = await client.message()
            assert connected["type"] == "connected"
            assert "user_id" not in connected
        async with raw(served, None, headers=(("Authorization", "Bearer nonsense"),)) as client:
            assert client.status == 401


async def test_a_fault_of_ours_closes_one_socket_and_is_logged(gateway, monkeypatch):
    async with raw(gateway, None, **showing("header", GOOD)) as client, raw(gateway, None) as other:
        await client.message()

        def broken(self, data):
            raise RuntimeError("a fault of ours")

        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(NativeProtocol, "receive", broken)
            client.send(command("ping"))
            code, reason, messages = await client.close_frame()
        assert (code, reason, messages[0]["code"]) == (1011, "internal", "internal")
        assert [(entry["event"], entry["exc_info"]) for entry in logs] == [("a socket failed", True)]
        other.send(command("ping"))
        assert (await other.message())["type"] == "pong"


async def test_who_can_not_be_verified_for_want_of_keys_may_come_back():
    config = settings(NOWHERE, auth={"jwks_url": "http://127.0.0.1:1/keys"})
    async with serving(config) as served, raw(served, None) as client:
        client.send(command("auth", token=signed_by_an_issuer(KEYS["rsa"], "one")))
        code, reason, messages = await client.close_frame()
        assert (code, reason) == (4431, "keys_unavailable")
        assert [(each["code"], each["status"], each["retryable"]) for each in messages] == [
            ("keys_unavailable", 503, True)
        ]


async def test_a_store_that_is_away_does_not_answer_for_a_ticket(valkey, prefix):
    broker = {"redis_url": valkey.url, "key_prefix": prefix, "command_timeout": 0.2}
    async with serving(settings(NOWHERE, broker=broker)) as served:
        valkey.pause()
        async with raw(served, None, path="/api/v1/ws?ticket=" + "x" * 43) as client:
            assert client.status == 101
            assert (await client.message())["code"] == "broker_unavailable"
            client.send(command("auth", token=token()))
            assert (await client.message())["type"] == "connected"


async def test_there_is_no_socket_at_another_path():
    async with serving(settings(NOWHERE)) as served, raw(served, None, path="/nowhere") as client:
        assert client.status == 404
