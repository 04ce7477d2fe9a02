"""Verification of tokens: what is taken, what is refused, and that a remembered one does not outlive its end."""

import base64
import hashlib
import hmac
import json
import string
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from app.auth.development import mint
from app.auth.tokens import LARGEST_TOKEN, TokenVerifier
from app.config import AuthConfig
from app.errors import ConfigError, InvalidToken, TokenExpired, TokenRevoked

SECRET = "a-secret-of-this-test-that-is-long-enough"
NOW = 1_800_000_000.0
CLAIMS = {"sub": "42", "exp": NOW + 60}


def config(**settings) -> AuthConfig:
    return AuthConfig(**{"secret": SECRET, **settings})


def sign(claims=CLAIMS, key=SECRET, algorithm="HS256", headers=None) -> str:
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def forge(header: dict, claims: dict, key: bytes = SECRET.encode()) -> str:
    """Sign by hand what a library would not."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.new(key, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def verify(token, now=NOW, **settings):
    return TokenVerifier(config(**settings)).verify(token, now)


def refusal(token, now=NOW, **settings) -> str:
    """Return the refusal's text, which must hold nothing of the token."""
    with pytest.raises(InvalidToken) as caught:
        verify(token, now, **settings)
    assert len(token) < 3 or token[:20] not in caught.value.message
    assert caught.value.__cause__ is None
    return caught.value.message


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def ec_key():
    return ec.generate_private_key(ec.SECP256R1())


def pem(key) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_a_token_says_who_the_caller_is():
    claims = CLAIMS | {"company_id": "acme", "email": "a@b.example", "roles": ["admin"], "jti": "t1"}
    identity = verify(sign(claims))
    assert (identity.user_id, identity.company_id, identity.email) == ("42", "acme", "a@b.example")
    assert (identity.roles, identity.token_id, identity.expires_at) == (("admin",), "t1", NOW + 60)


def test_scopes_and_the_claims_that_are_asked_for_come_along():
    claims = CLAIMS | {"scope": "read write", "app": {"plan": "pro", "seats": 3, "beta": True, "list": [1]}}
    paths = ("app.plan", "app.seats", "app.beta", "app.list", "app.none")
    identity = TokenVerifier(config(), paths).verify(sign(claims), NOW)
    assert identity.scopes == ("read", "write")
    assert identity.claims == (("app.beta", "true"), ("app.plan", "pro"), ("app.seats", "3"))


def test_a_token_can_be_short_of_everything_but_its_user():
    identity = verify(sign({"sub": "42"}), required_claims=["sub"])
    assert (identity.company_id, identity.email, identity.roles, identity.expires_at) == (None, None, (), None)


def test_claims_are_found_by_path():
    claims = CLAIMS | {"app_metadata": {"company_id": 7}, "role": "a b", "https://x.example/mail": "a@b"}
    settings = {"company_claim": "app_metadata.company_id", "roles_claim": "role"}
    identity = verify(sign(claims), email_claim="https://x.example/mail", **settings)
    assert (identity.company_id, identity.roles, identity.email) == ("7", ("a", "b"), "a@b")


def test_a_path_through_what_is_no_object_finds_nothing():
    assert verify(sign(CLAIMS | {"a": "text"}), company_claim="a.b").company_id is None


def test_rs256_and_es256_are_verified_by_the_public_key(rsa_key, ec_key):
    for key, algorithm in ((rsa_key, "RS256"), (ec_key, "ES256")):
        settings = {"algorithms": [algorithm], "public_key": pem(key)}
        token = sign(key=key, algorithm=algorithm)
        assert verify(token, **settings).user_id == "42"
        # The last character holds padding bits, so another one is changed.
        broken = token[:-5] + ("A" if token[-5] != "A" else "B") + token[-4:]
        assert "signature" in refusal(broken, **settings)


def test_a_public_key_is_not_taken_for_a_shared_secret(rsa_key):
    public = pem(rsa_key)
    token = forge({"alg": "HS256", "typ": "JWT"}, CLAIMS, public.encode())
    assert "algorithm" in refusal(token, algorithms=["RS256"], public_key=public)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS512", "RS256", None, ["HS256"], 1])
def test_other_algorithms_are_refused(algorithm):
    refusal(forge({"alg": algorithm, "typ": "JWT"}, CLAIMS))


def test_an_unsigned_token_is_refused():
    assert "algorithm" in refusal(sign(key=None, algorithm="none"))
    head, body, _ = sign().split(".")
    refusal(f"{head}.{body}.")


def test_another_secret_is_refused():
    assert "signature" in refusal(sign(key="another-secret-that-is-also-long-enough"))


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 10**6), sign_=st.sampled_from(string.printable), how=st.sampled_from(["put", "in", "out"]))
def test_no_token_has_a_second_spelling(place, sign_, how):
    token = sign()
    place %= len(token) + (how == "in")
    other = token[:place] + ("" if how == "out" else sign_) + token[place + (how != "in") :]
    if other != token:
        refusal(other)
    refusal(token + "=")


def test_a_revoked_token_stays_so_with_another_signature_that_is_as_good(ec_key):
    revoked = set()
    verifier = TokenVerifier(
        config(algorithms=["ES256"], public_key=pem(ec_key)), revoked=lambda identity: identity.digest in revoked
    )
    token = sign(key=ec_key, algorithm="ES256")
    revoked.add(verifier.verify(token, NOW).digest)
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    turned = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    other = f"{signed}.{base64.urlsafe_b64encode(turned).rstrip(b'=').decode()}"
    jwt.decode(other, ec_key.public_key(), algorithms=["ES256"], options={"verify_exp": False})  # It is as good.
    for each in (token, other):
        with pytest.raises(TokenRevoked):
            verifier.verify(each, NOW)


@pytest.mark.parametrize("name", ["crit", "jwk", "jku", "x5c", "x5u"])
def test_headers_that_bring_keys_or_demands_are_refused(name):
    refusal(forge({"alg": "HS256", name: ["exp"] if name in {"crit", "x5c"} else "https://x.example"}, CLAIMS))


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b", "a.b.c.d", "é.é.é", "eyJ.eyJ.x", "\ud800", "A" * LARGEST_TOKEN, "W10.W10.W10"]
)
def test_what_is_no_token_is_refused(token):
    refusal(token)


def test_a_token_larger_than_the_limit_is_refused_before_it_is_read():
    assert str(LARGEST_TOKEN) in refusal(sign(CLAIMS | {"x": "x" * LARGEST_TOKEN}))


def test_expiry_is_exact():
    verifier, token = TokenVerifier(config()), sign()
    assert verifier.verify(token, NOW + 59.9).user_id == "42"
    with pytest.raises(TokenExpired):
        verifier.verify(token, NOW + 60)


def test_leeway_moves_both_ends():
    token = sign(CLAIMS | {"nbf": NOW + 10})
    assert "not valid yet" in refusal(token)
    assert verify(token, leeway=10).expires_at == NOW + 70
    assert verify(token, NOW + 69, leeway=10).user_id == "42"
    with pytest.raises(TokenExpired):
        verify(token, NOW + 70, leeway=10)


def test_time_is_the_clocks_when_none_is_named():
    assert TokenVerifier(config()).verify(mint(SECRET, "42", ttl=60)).user_id == "42"
    with pytest.raises(TokenExpired):
        TokenVerifier(config()).verify(mint(SECRET, "42", ttl=60, now=time.time() - 120))


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [True, "1900000000", -1, 10**13, float("nan"), float("inf"), [1], {}])
def test_times_that_are_none_are_refused(name, value):
    assert name in refusal(forge({"alg": "HS256"}, CLAIMS | {name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sub", 42),
        ("sub", True),
        ("sub", ["42"]),
        ("sub", ""),
        ("sub", " "),
        ("sub", "4\n2"),
        ("sub", "\ud800"),
        ("sub", "x" * 257),
        ("company_id", True),
        ("company_id", ["acme"]),
        ("company_id", -1),
        ("company_id", "a\r\nX-Admin: 1"),
        ("email", 1),
        ("email", "x" * 321),
        ("roles", 1),
        ("roles", [1]),
        ("roles", ["a\x00"]),
        ("roles", ["r"] * 129),
        ("jti", 1),
    ],
)
def test_claims_of_another_kind_are_refused(name, value):
    assert name in refusal(forge({"alg": "HS256"}, CLAIMS | {name: value}))


def test_the_subject_must_be_text_where_another_claim_names_the_user():
    assert "sub" in refusal(forge({"alg": "HS256"}, CLAIMS | {"sub": 1, "uid": "42"}), user_claim="uid")


def test_required_claims_must_be_there():
    assert "exp" in refusal(sign({"sub": "42"}))
    assert "org.id" in refusal(sign(), required_claims=["sub", "org.id"])
    assert "sub" in refusal(sign({"exp": NOW + 60}), required_claims=["exp"])
    assert "sub" in refusal(forge({"alg": "HS256"}, CLAIMS | {"sub": None}))


def test_audience_and_issuer_are_checked_where_they_are_set():
    token = sign(CLAIMS | {"aud": ["x", "chat"], "iss": "https://id.example"})
    settings = {"audience": ["chat", "other"], "issuer": ["https://id.example"]}
    assert verify(token).user_id == "42"
    assert verify(token, **settings).user_id == "42"
    assert "audience" in refusal(token, audience=["images"])
    assert "issuer" in refusal(token, issuer=["https://other.example"])
    assert "aud" in refusal(sign(), audience=["chat"])
    assert "iss" in refusal(sign(), issuer=["https://id.example"])
    refusal(forge({"alg": "HS256"}, CLAIMS | {"aud": 1}), audience=["chat"])


def test_a_remembered_token_does_not_outlive_its_end():
    verifier, token = TokenVerifier(config()), sign()
    assert verifier.verify(token, NOW) is verifier.verify(token, NOW + 59)
    with pytest.raises(TokenExpired):
        verifier.verify(token, NOW + 60)
    with pytest.raises(TokenExpired):
        verifier.verify(token, NOW + 61)


def test_the_least_used_tokens_are_forgotten():
    verifier = TokenVerifier(config(cache_size=2))
    tokens = [sign(CLAIMS | {"sub": name}) for name in "abc"]
    first, second = (verifier.verify(token, NOW) for token in tokens[:2])
    assert verifier.verify(tokens[0], NOW) is first
    verifier.verify(tokens[2], NOW)
    assert verifier.verify(tokens[0], NOW) is first
    assert verifier.verify(tokens[1], NOW) is not second


def test_memory_can_be_off():
    verifier, token = TokenVerifier(config(cache_size=0)), sign()
    assert verifier.verify(token, NOW) is not verifier.verify(token, NOW)


def test_the_memory_holds_no_token():
    verifier, token = TokenVerifier(config()), sign()
    verifier.verify(token, NOW)
    assert token not in repr(vars(verifier))


def test_a_refused_token_is_not_remembered():
    verifier, token = TokenVerifier(config()), sign(CLAIMS | {"nbf": NOW + 5})
    with pytest.raises(InvalidToken):
        verifier.verify(token, NOW)
    assert verifier.verify(token, NOW + 5).user_id == "42"


def test_who_asks_again_is_told_the_same_for_as_long_as_the_token_is_good():
    revoked = set()
    verifier = TokenVerifier(config(), revoked=lambda identity: identity.user_id in revoked)
    token = sign(CLAIMS)
    ask, end = verifier.again(token), verifier.verify(token, NOW).expires_at
    assert ask(now=NOW) == verifier.verify(token, NOW)
    with pytest.raises(TokenExpired):
        ask(now=end)
    assert ask(now=end - 1).user_id == "42"
    revoked.add("42")
    with pytest.raises(TokenRevoked):
        ask(now=NOW)
    revoked.clear()
    verifier.prepare(config(secret="another-secret-of-thirty-two-bytes!"), ())()
    with pytest.raises(InvalidToken):
        ask(now=NOW)


def test_a_remembered_token_costs_microseconds():
    verifier, token = TokenVerifier(config()), sign()
    verifier.verify(token, NOW)
    best = min(_seconds(lambda: [verifier.verify(token, NOW) for _ in range(100)]) for _ in range(20))
    assert best / 100 < 20e-6  # 1 µs on an idle machine


async def test_what_a_token_grants_a_connection_is_remembered_but_not_beyond_its_end():
    verifier, token = TokenVerifier(config()), sign(CLAIMS | {"channels": ["news"], "info": {"name": "Ada"}})
    first = await verifier.connection(token, NOW)
    assert (first.identity.user_id, list(first.channels), first.info) == ("42", ["news"], b'{"name":"Ada"}')
    assert await verifier.connection(token, NOW + 59) is first
    for now in (NOW + 60, NOW + 61):
        with pytest.raises(TokenExpired):
            await verifier.connection(token, now)


async def test_what_was_granted_does_not_outlive_a_revocation():
    revoked: set[str | None] = set()
    verifier = TokenVerifier(config(), revoked=lambda identity: identity.token_id in revoked)
    nobodys = forge({"alg": "HS256"}, {"exp": NOW + 60, "jti": "t2"})
    for token, name in ((sign(CLAIMS | {"jti": "t1"}), "t1"), (nobodys, "t2")):
        await verifier.connection(token, NOW)
        revoked.add(name)
        for _ in range(2):
            with pytest.raises(TokenRevoked):
                await verifier.connection(token, NOW)
        revoked.clear()
        assert (await verifier.connection(token, NOW)).identity.token_id == name


async def test_grants_are_forgotten_like_identities_and_large_ones_are_not_kept():
    verifier = TokenVerifier(config(cache_size=1))
    one, other, large = sign(), sign(CLAIMS | {"sub": "43"}), sign(CLAIMS | {"info": {"text": "x" * 4000}})
    first = await verifier.connection(one, NOW)
    assert await verifier.connection(large, NOW) is not await verifier.connection(large, NOW)
    assert await verifier.connection(one, NOW) is first
    await verifier.connection(other, NOW)
    assert await verifier.connection(one, NOW) is not first
    assert token_parts(one, large).isdisjoint(repr(vars(verifier)).split("'"))


def token_parts(*tokens: str) -> set[str]:
    return {part for token in tokens for part in (token, *token.split("."))}


async def test_a_subscriptions_token_is_none_of_a_connection_however_often_it_comes():
    verifier, token = TokenVerifier(config()), sign(CLAIMS | {"channel": "news"})
    for _ in range(2):
        with pytest.raises(InvalidToken, match="subscription"):
            await verifier.connection(token, NOW)


def _seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_a_short_secret_works_and_does_not_warn():
    token = mint("short", "42", now=NOW)
    assert TokenVerifier(AuthConfig(secret="short")).verify(token, NOW).user_id == "42"
    assert verify(forge({"alg": "HS256"}, CLAIMS, b"short"), secret="short").user_id == "42"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"algorithms": ["RS256"], "public_key": "nonsense"}, "not a public key"),
        ({"secret": "-----BEGIN PUBLIC KEY-----"}, "auth.secret is a PEM key"),
    ],
)
def test_a_key_of_no_use_is_a_fault_of_the_configuration(settings, says):
    with pytest.raises(ConfigError, match=says):
        TokenVerifier(config(**settings))


def test_a_key_must_fit_each_algorithm(rsa_key, ec_key):
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    other = ec.generate_private_key(ec.SECP384R1())
    private = rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for algorithms, text in (
        (["RS256"], pem(ec_key)),
        (["ES256"], pem(rsa_key)),
        (["RS256", "ES256"], pem(rsa_key)),
        (["RS256"], pem(weak)),
        (["ES256"], pem(other)),
        (["RS256"], private),
    ):
        with pytest.raises(ConfigError, match=r"auth\.public_key"):
            TokenVerifier(config(algorithms=algorithms, public_key=text))


def test_a_development_token_fits_its_configuration():
    settings = {
        "user_claim": "user.id",
        "company_claim": "app_metadata.company_id",
        "roles_claim": "realm.roles",
        "audience": ["chat"],
        "issuer": ["https://id.example"],
    }
    auth = config(**settings)
    token = mint(SECRET, "42", "acme", 90, "a@b.example", roles=["admin", "dev"], auth=auth, now=NOW)
    identity = TokenVerifier(auth).verify(token, NOW)
    assert (identity.user_id, identity.company_id, identity.email) == ("42", "acme", "a@b.example")
    assert (identity.roles, identity.expires_at) == (("admin", "dev"), NOW + 90)
