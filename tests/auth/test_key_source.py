"""Published keys: fetched once where many ask, kept through outages, and never asked for more often than allowed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from base64 import urlsafe_b64encode

import pytest
from structlog.testing import capture_logs

from app.auth.tokens import TokenVerifier
from app.config import AuthConfig
from app.errors import InvalidToken, KeysUnavailable
from tests.auth.support import KEYS, jwk, key_server, signed

OLD, NEW = jwk(KEYS["rsa"], "old"), jwk(KEYS["other-rsa"], "new")
COOLDOWN = 10.0


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def verifying(url: str, **settings):
    """Yields a verifier of one JWKS whose cool-down follows a clock of the test's."""
    settings = {"jwks_cooldown": COOLDOWN, "jwks_timeout": 5.0, "algorithms": ["RS256"], **settings}
    verifier = TokenVerifier(AuthConfig(jwks_url=url, **settings))
    (source,) = verifier.sources
    clock = Clock()
    source._clock = clock
    try:
        yield verifier, source, clock
    finally:
        await source.close()


@pytest.fixture
async def server():
    async with key_server() as running:
        running.publish(OLD)
        yield running


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [("rsa", "RS256"), ("rsa", "RS384"), ("rsa", "RS512"), ("rsa", "PS256"), ("ec", "ES256"), ("ec384", "ES384"),
     ("ed", "EdDSA")],
)  # fmt: skip
async def test_tokens_of_all_algorithms_are_verified_by_published_keys(server, name, algorithm):
    server.publish(jwk(KEYS[name], "k"))
    async with verifying(server.url, algorithms=[algorithm]) as (verifier, _, _):
        assert (await verifier.verified(signed(KEYS[name], "k", algorithm))).user_id == "42"
        token = signed(KEYS[name], "k", algorithm)
        with pytest.raises(InvalidToken):
            await verifier.verified(token[:-5] + ("A" if token[-5] != "A" else "B") + token[-4:])
    assert len(server.requests) == 1


async def test_many_who_ask_at_once_wait_for_one_fetch(server):
    server.gate.clear()
    async with verifying(server.url) as (verifier, _, _):
        asking = [asyncio.create_task(verifier.verified(signed(KEYS["rsa"], "old", jti=str(i)))) for i in range(100)]
        while not server.requests:
            await asyncio.sleep(0.01)
        asking.pop().cancel()  # Whoever began the fetch or waits for it may go.
        asking.pop(0).cancel()
        server.gate.set()
        assert {(await each).user_id for each in asking} == {"42"}
    assert len(server.requests) == 1


async def test_ten_thousand_invented_names_cost_one_fetch_per_cool_down(server):
    async with verifying(server.url) as (verifier, source, clock):
        await verifier.verified(signed(KEYS["rsa"], "old"))
        token = signed(KEYS["rsa"], "old")

        async def stranger(name: str) -> None:
            with pytest.raises(InvalidToken, match="not known"):
                await verifier.verified(_renamed(token, name))

        for count in range(2):
            clock.now += COOLDOWN
            await asyncio.gather(*[stranger(f"invented-{count}-{number}") for number in range(5000)])
        assert source.fetches == 3
        assert len(server.requests) == 3
        assert (await verifier.verified(signed(KEYS["rsa"], "old"))).user_id == "42"


def _renamed(token: str, kid: str) -> str:
    head = urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": kid}).encode()).rstrip(b"=").decode()
    return ".".join([head, *token.split(".")[1:]])


async def test_a_rotated_key_is_taken_within_the_cool_down_and_the_old_one_no_more(server):
    async with verifying(server.url) as (verifier, source, clock):
        first = signed(KEYS["rsa"], "old")
        assert (await verifier.verified(first)).user_id == "42"
        assert (await verifier.connection(first)).identity.user_id == "42"
        server.publish(NEW)
        with pytest.raises(InvalidToken):
            await verifier.verified(signed(KEYS["other-rsa"], "new"))
        assert source.fetches == 1
        clock.now += COOLDOWN
        assert (await verifier.verified(signed(KEYS["other-rsa"], "new"))).user_id == "42"
        with pytest.raises(InvalidToken):  # Though it was remembered: its key was withdrawn.
            await verifier.verified(first)
        with pytest.raises(InvalidToken):
            await verifier.connection(first)


async def test_rotation_works_for_issuers_that_name_no_keys(server):
    server.publish(jwk(KEYS["rsa"]))
    async with verifying(server.url) as (verifier, _, clock):
        assert (await verifier.verified(signed(KEYS["rsa"], None))).user_id == "42"
        assert (await verifier.verified(signed(KEYS["rsa"], "any"))).user_id == "42"
        server.publish(jwk(KEYS["other-rsa"]))
        clock.now += COOLDOWN
        assert (await verifier.verified(signed(KEYS["other-rsa"], None))).user_id == "42"


async def test_a_wrong_signature_by_a_known_name_asks_nobody(server):
    async with verifying(server.url) as (verifier, source, clock):
        await verifier.verified(signed(KEYS["rsa"], "old"))
        clock.now += COOLDOWN
        with pytest.raises(InvalidToken, match="signature"):
            await verifier.verified(signed(KEYS["other-rsa"], "old"))
        assert source.fetches == 1


def _bad_answers(server) -> dict[str, bytes]:
    def made(*args, **more) -> bytes:
        server.reply(*args, **more)
        return server.answer

    document = json.dumps({"keys": [NEW]}).encode()
    elsewhere = f"location: http://127.0.0.1:{server.port}/elsewhere\r\n"
    endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b" " * 3_000_000
    return {
        "nothing": b"",
        "no http": b"hello\r\n\r\n",
        "an error": made(document, "500 Oops"),
        "no such page": made(document, "404 Not Found"),
        "a redirect": made(document, "302 Found", elsewhere),
        "a permanent redirect": made(document, "308 Permanent Redirect", elsewhere),
        "html": made(b"<html>sign in</html>"),
        "no keys": made(b'{"keys": []}'),
        "secrets": made(b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "new"}]}'),
        "huge": made(document + b" " * 300_000),
        "endless": endless,
        "cut off": made(document)[:-10],
        "compressed": made(gzip.compress(document), headers="content-encoding: gzip\r\n"),
    }


async def test_whatever_an_issuer_answers_the_keys_that_were_known_stay(server):
    async with verifying(server.url) as (verifier, source, clock):
        await verifier.verified(signed(KEYS["rsa"], "old"))
        for what, answer in _bad_answers(server).items():
            server.answer = answer
            clock.now += COOLDOWN
            before = source.fetches
            with pytest.raises(InvalidToken):
                await verifier.verified(signed(KEYS["other-rsa"], "new"))
            assert source.fetches == before + 1, what
            assert (await verifier.verified(signed(KEYS["rsa"], "old"))).user_id == "42", what
        assert not any(b"/elsewhere" in request for request in server.requests)
        server.publish(NEW)
        clock.now += COOLDOWN
        assert (await verifier.verified(signed(KEYS["other-rsa"], "new"))).user_id == "42"


async def test_a_slow_issuer_is_given_up_and_others_do_not_wait_for_it(server):
    async with verifying(server.url, jwks_timeout=0.3) as (verifier, source, clock):
        known = signed(KEYS["rsa"], "old")
        await verifier.verified(known)
        server.gate.clear()
        clock.now += COOLDOWN
        waiting = asyncio.create_task(verifier.verified(signed(KEYS["other-rsa"], "new")))
        while len(server.requests) < 2:
            await asyncio.sleep(0.01)
        assert (await verifier.verified(known)).user_id == "42"
        assert not waiting.done()
        with pytest.raises(InvalidToken):
            await asyncio.wait_for(waiting, 10)
        assert source.fetches == 2


async def test_an_answer_that_does_not_end_is_left_when_it_is_too_large(server):
    server.answer = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 300_000
    server.ends = False
    async with verifying(server.url, jwks_timeout=60) as (_, source, _), asyncio.timeout(30):
        await source.refresh()


async def test_without_any_keys_tokens_are_told_to_come_again_not_that_they_are_wrong():
    async with key_server() as gone:
        pass
    async with verifying(gone.url) as (verifier, source, _):
        for _ in range(20):
            with pytest.raises(KeysUnavailable) as caught:
                await verifier.verified(signed(KEYS["rsa"], "old"))
        assert caught.value.retryable
        assert caught.value.retry_after >= 1
        assert source.fetches == 1


async def test_keys_are_fetched_without_being_asked_for_and_again_after_an_interval(server):
    settings = {"jwks_cooldown": 0.1, "jwks_refresh": 1.0, "algorithms": ["RS256"]}
    verifier = TokenVerifier(AuthConfig(jwks_url=server.url, **settings))
    (source,) = verifier.sources
    following = asyncio.create_task(source.follow())
    try:
        async with asyncio.timeout(20):
            while not server.requests:
                await asyncio.sleep(0.01)
            server.publish(NEW)
            while True:
                with contextlib.suppress(InvalidToken):
                    assert verifier.verify(signed(KEYS["other-rsa"], "new")).user_id == "42"
                    break
                await asyncio.sleep(0.01)
    finally:
        following.cancel()
        await source.close()
    assert len(server.requests) == 2


async def test_an_issuer_that_comes_late_is_found_soon(server):
    server.reply(b"", "503 Service Unavailable")
    verifier = TokenVerifier(AuthConfig(jwks_url=server.url, algorithms=["RS256"], jwks_cooldown=60))
    (source,) = verifier.sources
    following = asyncio.create_task(source.follow())
    try:
        async with asyncio.timeout(20):
            while not server.requests or source._fetching is not None:
                await asyncio.sleep(0.01)
            server.publish(OLD)
            while True:
                with contextlib.suppress(InvalidToken, KeysUnavailable):
                    assert verifier.verify(signed(KEYS["rsa"], "old")).user_id == "42"
                    break
                await asyncio.sleep(0.01)
    finally:
        following.cancel()
        await source.close()


async def test_logs_hold_nothing_of_tokens_and_answers(server):
    with capture_logs() as logs:
        async with verifying(server.url) as (verifier, _, clock):
            token = signed(KEYS["rsa"], "old")
            await verifier.verified(token)
            server.reply(b"canary-of-the-answer")
            clock.now += COOLDOWN
            stranger = signed(KEYS["rsa"], "canary-of-the-name", sub="canary-of-the-user")
            with pytest.raises(InvalidToken) as caught:
                await verifier.verified(stranger)
    assert len(logs) == 2
    for told in (repr(logs), caught.value.message):
        assert "canary" not in told
        assert stranger[:30] not in told
        assert token[-30:] not in told
