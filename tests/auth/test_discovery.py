"""An issuer of which no more is known than its address is asked where its keys are (OpenID Connect Discovery 1.0)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.auth.discovery import discovery_url, read_discovery
from app.auth.jwks import InvalidKeySet
from app.auth.key_source import KeySource
from app.auth.tokens import TokenVerifier
from app.config import AuthConfig, Config
from app.errors import InvalidToken, KeysUnavailable
from tests.auth.support import KEYS, KeyServer, jwk, key_server, signed
from tests.http.support import answers, ok, raw_server
from tests.support.gateway import running, settings

PAGE = "/.well-known/openid-configuration"
COOLDOWN = 10.0


class Provider:
    """An identity provider below a path of its own, as Keycloak's realms are."""

    def __init__(self, server: KeyServer, path: str = "") -> None:
        self.server = server
        self.base = f"http://127.0.0.1:{server.port}"
        self.issuer = f"{self.base}{path}"
        self.page = f"{path.rstrip('/')}{PAGE}"
        server.reply(b"nothing here", "404 Not Found")

    def describe(self, **members: object) -> None:
        known = {"issuer": self.issuer, "jwks_uri": f"{self.base}/certs"}
        self.server.reply(json.dumps({**known, **members}).encode(), path=self.page)

    def publish(self, *keys: dict[str, object], at: str = "/certs") -> None:
        self.server.reply(json.dumps({"keys": keys}).encode(), path=at)

    def asked(self) -> list[str]:
        return [request.split()[1].decode() for request in self.server.requests]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def discovering(path: str = "") -> AsyncIterator[tuple[Provider, TokenVerifier, Clock, KeySource]]:
    async with key_server() as server:
        provider = Provider(server, path)
        provider.describe()
        provider.publish(jwk(KEYS["rsa"], "one"))
        verifier = TokenVerifier(AuthConfig.model_validate({"issuer": [provider.issuer], "jwks_cooldown": COOLDOWN}))
        (source,) = verifier.sources
        clock = source._clock = Clock()
        try:
            yield provider, verifier, clock, source
        finally:
            await source.close()


@pytest.mark.parametrize("path", ["", "/", "/realms/staff", "/realms/staff/"])
async def test_an_issuer_of_which_only_the_address_is_known_is_asked_where_its_keys_are(path: str) -> None:
    async with discovering(path) as (provider, verifier, _, _):
        token = signed(KEYS["rsa"], "one", iss=provider.issuer)
        assert (await verifier.verified(token)).user_id == "42"
        assert provider.asked() == [provider.page, "/certs"]
        with pytest.raises(InvalidToken):
            await verifier.verified(signed(KEYS["other-rsa"], "one", iss=provider.issuer))


async def test_the_gateway_takes_tokens_of_an_issuer_that_it_found_by_itself() -> None:
    async with key_server() as server, raw_server(answers(ok(b"{}"))) as upstream:
        provider = Provider(server, "/realms/staff")
        provider.describe()
        provider.publish(jwk(KEYS["rsa"], "one"))
        other = {"name": "partners", "issuer": ["https://nobody.invalid"], "secret": "s" * 32}
        config = settings(upstream.url, auth={"issuer": [provider.issuer], "issuers": [other]})
        async with running(config) as gateway, httpx.AsyncClient(base_url=gateway.http, timeout=30) as client:
            for key, status in (("rsa", 200), ("other-rsa", 401)):
                bearer = {"Authorization": f"Bearer {signed(KEYS[key], 'one', iss=provider.issuer)}"}
                assert (await client.get("/v1/x", headers=bearer)).status_code == status


async def test_where_the_keys_are_is_not_asked_again_for_each_fetch() -> None:
    async with discovering() as (provider, verifier, clock, source):
        for count in range(5):
            clock.now += COOLDOWN
            with pytest.raises(InvalidToken):
                await verifier.verified(signed(KEYS["rsa"], f"invented-{count}", iss=provider.issuer))
        assert provider.asked() == [provider.page, *["/certs"] * 5]
        clock.now += 3600
        await source.refresh()
        assert provider.asked()[-2:] == [provider.page, "/certs"]


async def test_keys_that_have_moved_are_found_again() -> None:
    async with discovering() as (provider, verifier, clock, _):
        await verifier.verified(signed(KEYS["rsa"], "one", iss=provider.issuer))
        provider.describe(jwks_uri=f"{provider.base}/moved")
        provider.publish(jwk(KEYS["other-rsa"], "two"), at="/moved")
        del provider.server.pages["/certs"]
        moved = signed(KEYS["other-rsa"], "two", iss=provider.issuer)
        clock.now += COOLDOWN
        with pytest.raises(InvalidToken):
            await verifier.verified(moved)
        clock.now += COOLDOWN
        assert (await verifier.verified(moved)).user_id == "42"


async def test_what_was_found_holds_through_an_outage_of_the_description() -> None:
    async with discovering() as (provider, verifier, clock, source):
        await source.refresh()
        clock.now += 3600
        provider.server.reply(b"", "500 Oops", path=provider.page)
        provider.publish(jwk(KEYS["ec"], "three"))
        with capture_logs() as logs:
            token = signed(KEYS["ec"], "three", "ES256", iss=provider.issuer)
            assert (await verifier.verified(token)).user_id == "42"
        assert [log["cause"] for log in logs if "description" in log["event"]] == ["answered 500"]


async def test_a_description_that_sends_us_elsewhere_is_refused_and_known_keys_stay() -> None:
    async with key_server() as private:
        private.publish(jwk(KEYS["other-rsa"], "evil"))
        async with discovering() as (provider, verifier, clock, _):
            redirect = f"location: http://127.0.0.1:{private.port}/latest/meta-data\r\n"
            bad = {
                "another issuer": json.dumps({"issuer": "https://evil.example", "jwks_uri": private.url}).encode(),
                "no issuer": json.dumps({"jwks_uri": private.url}).encode(),
                "a slash more": json.dumps({"issuer": f"{provider.issuer}/", "jwks_uri": private.url}).encode(),
                "no address": json.dumps({"issuer": provider.issuer}).encode(),
                "a file": json.dumps({"issuer": provider.issuer, "jwks_uri": "file:///etc/passwd"}).encode(),
                "with a password": json.dumps({"issuer": provider.issuer, "jwks_uri": "http://u:p@a/"}).encode(),
                "a list": b"[]",
                "nonsense": b"<html>",
                "a huge one": b"{" + b" " * 300_000 + b"}",
            }
            for name, document in bad.items():
                provider.server.reply(document, path=provider.page)
                with pytest.raises(KeysUnavailable):
                    await verifier.verified(signed(KEYS["other-rsa"], "evil", iss=provider.issuer))
                clock.now += COOLDOWN
                assert "/certs" not in provider.asked(), name
            provider.server.reply(b"", "302 Found", redirect, path=provider.page)
            with pytest.raises(KeysUnavailable):
                await verifier.verified(signed(KEYS["other-rsa"], "evil", iss=provider.issuer))
            clock.now += COOLDOWN
            provider.describe()
            provider.server.reply(b"", "307 Temporary Redirect", redirect, path="/certs")
            with pytest.raises(KeysUnavailable):
                await verifier.verified(signed(KEYS["other-rsa"], "evil", iss=provider.issuer))
            clock.now += COOLDOWN
            assert private.requests == []
            provider.publish(jwk(KEYS["rsa"], "one"))
            assert (await verifier.verified(signed(KEYS["rsa"], "one", iss=provider.issuer))).user_id == "42"


@given(st.binary(max_size=200) | st.builds(lambda value: json.dumps(value).encode(), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.dictionaries(st.sampled_from(["issuer", "jwks_uri", "x"]), inner) | st.lists(inner),
    max_leaves=8,
)))  # fmt: skip
def test_no_document_but_a_right_one_names_a_place(document: bytes) -> None:
    with pytest.raises(InvalidKeySet):
        read_discovery(document, "https://id.example")


def test_an_issuer_of_https_has_its_keys_behind_https() -> None:
    def says(url: str) -> bytes:
        return json.dumps({"issuer": "https://id.example/", "jwks_uri": url}).encode()

    assert read_discovery(says("https://keys.example/v1"), "https://id.example/") == "https://keys.example/v1"
    with pytest.raises(InvalidKeySet, match="anybody could change"):
        read_discovery(says("http://keys.example/v1"), "https://id.example/")
    assert discovery_url("https://id.example/") == f"https://id.example{PAGE}"


def test_keys_of_the_configuration_are_never_looked_for() -> None:
    for own in (
        {"secret": "s" * 32},
        {"named_secrets": {"a": "s" * 32}},
        {"algorithms": ["HS256"], "secret": "s" * 32},
    ):
        assert not AuthConfig.model_validate({"issuer": ["https://id.example"], **own}).publishes, own
    assert not AuthConfig().publishes
    assert not AuthConfig.model_validate({"issuer": ["staff"]}).publishes
    assert not AuthConfig.model_validate({"issuer": ["https://a", "https://b"]}).publishes
    jwks = AuthConfig.model_validate({"issuer": ["https://id.example"], "jwks_url": "https://id.example/k"})
    assert jwks.publishes
    assert not jwks.describes_itself
    assert AuthConfig.model_validate({"issuer": "https://id.example"}).algorithms == ("RS256", "ES256")


def test_production_asks_nobody_in_the_clear() -> None:
    with pytest.raises(ValueError, match="must begin with https://"):
        Config.model_validate({"server": {"environment": "production"}, "auth": {"issuer": ["http://id.example"]}})
    Config.model_validate({"server": {"environment": "production"}, "auth": {"issuer": ["https://id.example"]}})
