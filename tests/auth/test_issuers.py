"""Several issuers beside each other: each is verified by its own keys, whatever a token says."""

from __future__ import annotations

import re
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.auth.development import mint
from app.auth.tokens import TokenVerifier
from app.config import DEVELOPMENT_SECRET, AuthConfig, Config, load_config
from app.errors import ConfigError, InvalidToken
from tests.auth.support import KEYS, signed

ONE, TWO = "https://one.example", "https://two.example"
SECRETS = {name: f"the-secret-called-{name}-that-is-long-enough" for name in ("now", "before", "other", "named")}


def pem(name: str) -> str:
    return KEYS[name].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def verifier(**auth) -> TokenVerifier:
    return TokenVerifier(AuthConfig.model_validate(auth))


BOTH = {
    "issuers": [
        {"issuer": [ONE], "secret": SECRETS["now"], "company_claim": "org"},
        {"issuer": [TWO], "algorithms": ["RS256"], "public_key": pem("rsa"), "audience": ["app"], "user_claim": "uid"},
    ]
}


def shared(secret: str, **claims) -> str:
    headers = {"kid": claims.pop("kid")} if "kid" in claims else {}
    return jwt.encode({"sub": "42", "exp": time.time() + 60, **claims}, secret, "HS256", headers)


def test_each_issuer_has_its_own_keys_and_claims():
    both = verifier(**BOTH)
    assert both.verify(shared(SECRETS["now"], iss=ONE, org="acme")).company_id == "acme"
    token = signed(KEYS["rsa"], None, iss=TWO, aud="app", uid="u7", org="acme")
    assert (both.verify(token).user_id, both.verify(token).company_id) == ("u7", None)


@pytest.mark.parametrize(
    "token",
    [
        shared(SECRETS["now"], iss=TWO, aud="app", uid="u"),
        shared(pem("rsa")[:40], iss=TWO, aud="app", uid="u"),
        signed(KEYS["rsa"], None, iss=ONE),
        signed(KEYS["other-rsa"], None, iss=TWO, aud="app", uid="u"),
        signed(KEYS["rsa"], None, iss=TWO, aud="others", uid="u"),
        signed(KEYS["rsa"], None, iss=TWO, aud="app"),
        signed(KEYS["rsa"], None, "RS384", iss=TWO, aud="app", uid="u"),
        shared(SECRETS["now"]),
        shared(SECRETS["now"], iss="https://three.example"),
        shared(DEVELOPMENT_SECRET),
        shared(DEVELOPMENT_SECRET, iss=ONE),
        jwt.encode({"sub": "42", "iss": ONE, "exp": time.time() + 60}, None, "none"),
    ],
)
def test_no_issuer_speaks_for_another_and_none_for_strangers(token):
    with pytest.raises(InvalidToken):
        verifier(**BOTH).verify(token)


def test_an_issuer_of_the_top_level_takes_tokens_that_name_none_of_the_others():
    mixed = verifier(secret=SECRETS["other"], **BOTH)
    assert mixed.verify(shared(SECRETS["other"])).user_id == "42"
    assert mixed.verify(shared(SECRETS["other"], iss="https://three.example")).user_id == "42"
    with pytest.raises(InvalidToken):
        mixed.verify(shared(SECRETS["other"], iss=ONE))
    strict = verifier(secret=SECRETS["other"], issuer=["https://three.example"], **BOTH)
    assert strict.verify(shared(SECRETS["other"], iss="https://three.example")).user_id == "42"
    with pytest.raises(InvalidToken):
        strict.verify(shared(SECRETS["other"]))


def test_secrets_rotate_one_after_the_other():
    old, new = shared(SECRETS["before"]), shared(SECRETS["now"])
    assert verifier(secret=SECRETS["before"]).verify(old).user_id == "42"
    between = verifier(secret=SECRETS["now"], previous_secrets=[SECRETS["other"], SECRETS["before"]])
    assert between.verify(old).user_id == between.verify(new).user_id == "42"
    with pytest.raises(InvalidToken, match="signature"):
        verifier(secret=SECRETS["now"]).verify(old)


def test_a_named_secret_is_for_tokens_of_that_name_alone():
    named = verifier(secret=SECRETS["now"], named_secrets={"2026": SECRETS["named"]})
    assert named.verify(shared(SECRETS["named"], kid="2026")).user_id == "42"
    assert named.verify(shared(SECRETS["now"], kid="2025")).user_id == "42"
    assert named.verify(shared(SECRETS["now"])).user_id == "42"
    for wrong in (shared(SECRETS["now"], kid="2026"), shared(SECRETS["named"], kid="2025")):
        with pytest.raises(InvalidToken, match="signature"):
            named.verify(wrong)


@pytest.mark.parametrize(
    ("name", "algorithm"), [("rsa", "RS512"), ("rsa", "PS256"), ("ec", "ES256"), ("ec384", "ES384"), ("ed", "EdDSA")]
)
def test_public_keys_of_all_kinds_verify(name, algorithm):
    own = verifier(public_key=pem(name), algorithms=[algorithm.lower()])
    assert own.verify(signed(KEYS[name], None, algorithm)).user_id == "42"


def test_azure_needs_a_tenant_and_a_client_alone():
    auth = AuthConfig.model_validate({"provider": "azure", "tenant": "t-1", "client_id": "c-1"})
    base = "https://login.microsoftonline.com/t-1"
    assert auth.issuer == (f"{base}/v2.0",)
    assert auth.jwks_url == f"{base}/discovery/v2.0/keys"
    assert (auth.audience, auth.algorithms) == (("c-1",), ("RS256",))
    elsewhere = {"authority": "https://login.microsoftonline.us/", "jwks_url": "http://127.0.0.1:1/keys"}
    other = AuthConfig.model_validate({"provider": "Azure", "tenant": "t-1", "client_id": "c-1", **elsewhere})
    assert (other.issuer, other.jwks_url) == (("https://login.microsoftonline.us/t-1/v2.0",), "http://127.0.0.1:1/keys")


def test_providers_come_from_the_environment_too():
    environ = {"GATEWAY_AUTH__PROVIDER": "azure", "GATEWAY_AUTH__TENANT": "t", "GATEWAY_AUTH__CLIENT_ID": "c"}
    assert load_config(None, environ).auth.audience == ("c",)


def test_supabase_by_its_shared_secret():
    own = verifier(provider="supabase", secret=SECRETS["now"])
    claims = {"aud": "authenticated", "app_metadata": {"company_id": "acme", "roles": ["admin"]}, "session_id": "s"}
    identity = own.verify(shared(SECRETS["now"], **claims))
    assert (identity.company_id, identity.roles, identity.session_id) == ("acme", ("admin",), "s")
    with pytest.raises(InvalidToken, match="audience"):
        own.verify(shared(SECRETS["now"], **claims | {"aud": "anon"}))
    without = verifier(provider="supabase", secret=SECRETS["now"]).verify(shared(SECRETS["now"], aud="authenticated"))
    assert without.company_id is None


def test_supabase_by_its_published_keys():
    auth = AuthConfig.model_validate({"provider": "supabase", "authority": "https://ref.supabase.example"})
    assert auth.issuer == ("https://ref.supabase.example/auth/v1",)
    assert auth.jwks_url == "https://ref.supabase.example/auth/v1/.well-known/jwks.json"
    assert auth.algorithms == ("ES256", "RS256")


def test_a_development_token_is_of_an_issuer_whose_secret_is_known():
    auth = AuthConfig.model_validate(BOTH)
    _, one = auth.all_issuers()[0]
    assert TokenVerifier(auth).verify(mint(SECRETS["now"], "42", "acme", auth=one)).company_id == "acme"


FAULTS = [
    ("issuers = [{secret = 'x'}]", "auth.issuers[0].issuer is missing."),
    ("issuers = [{issuer = ['a']}]", "auth.issuers[0].secret is empty"),
    ("issuers = [{issuer = ['a'], secret = 'x'}, {issuer = ['a'], secret = 'y'}]", "auth.issuers[1].issuer names 'a'"),
    ("issuers = [{issuer = ['a'], secert = 'x'}]", "auth.issuers[0].secert is not a setting."),
    ("jwks_url = 'ftp://a'", "auth.jwks_url is not of the form"),
    ("jwks_url = 'https://user:pass@a/keys'", "auth.jwks_url is not of the form"),
    ("jwks_url = 'https://a'\nalgorithms = ['HS256']", "auth.jwks_url publishes no secrets"),
    ("jwks_url = 'https://a'\npublic_key = '-----BEGIN PUBLIC KEY-----'", "auth.public_key cannot stand beside"),
    ("provider = 'azure'", "auth.tenant is missing"),
    ("provider = 'azure'\ntenant = 't'", "auth.client_id is missing"),
    ("provider = 'azure'\ntenant = 'common'\nclient_id = 'c'", "auth.tenant stands for many tenants"),
    ("provider = 'azur'", "auth.provider must be"),
    ("provider = 'supabase'\nsecret = ''", "auth.secret is empty"),
]


@pytest.mark.parametrize(("text", "says"), FAULTS)
def test_what_cannot_work_is_named_with_its_key(tmp_path, text, says):
    path = tmp_path / "gateway.toml"
    path.write_text(f"[auth]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert says in caught.value.message
    assert "pass@" not in caught.value.message


def test_files_of_further_issuers_are_read(tmp_path):
    (tmp_path / "key.pem").write_text(pem("ec"))
    path = tmp_path / "gateway.toml"
    path.write_text("[[auth.issuers]]\nissuer = ['a']\nalgorithms = ['ES256']\npublic_key = 'key.pem'\n")
    own = TokenVerifier(load_config(path, {}).auth)
    assert own.verify(signed(KEYS["ec"], None, "ES256", iss="a")).user_id == "42"


LONG = "x" * 40


@pytest.mark.parametrize(
    ("auth", "says"),
    [
        ({"secret": LONG, "previous_secrets": ["short"]}, "is shorter than 32 bytes"),
        ({"secret": LONG, "named_secrets": {"a": DEVELOPMENT_SECRET}}, "is the development secret"),
        ({"issuers": [{"issuer": ["a"], "secret": "short"}]}, "is shorter than 32 bytes"),
        ({"jwks_url": "http://id.example/keys"}, "must begin with https://"),
        ({"issuers": [{"issuer": ["a"], "jwks_url": "http://id.example/keys"}]}, "must begin with https://"),
    ],
)
def test_production_takes_no_weak_secret_and_no_key_by_http(auth, says):
    with pytest.raises(ValueError, match=says):
        Config.model_validate({"server": {"environment": "production"}, "auth": auth})


def test_production_needs_no_secret_where_all_issuers_publish_keys():
    issuers = [{"issuer": ["a"], "jwks_url": "https://id.example/keys"}]
    config = Config.model_validate({"server": {"environment": "production"}, "auth": {"issuers": issuers}})
    assert [issuer.algorithms for _, issuer in config.auth.all_issuers()] == [("RS256", "ES256")]


PAGE = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text()


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_every_example_of_the_page_is_a_right_configuration(tmp_path, example):
    (tmp_path / "issuer.pem").write_text(pem("rsa"))
    path = tmp_path / "gateway.toml"
    path.write_text(example + '[upstreams.api]\ntargets = ["http://127.0.0.1:1"]\n')
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", example), LONG)
    assert TokenVerifier(load_config(path, environ).auth).issuers


def test_a_route_for_services_needs_a_key(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text("[[routes]]\npath = '/a'\nauth = 'service'\nanswer = {}\n")
    with pytest.raises(ConfigError, match=r"routes\[0\]\.auth is service, but nobody has a key"):
        load_config(path, {})
