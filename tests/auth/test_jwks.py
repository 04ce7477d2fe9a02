"""Key sets: what is taken of them, and what is passed over."""

import json

import pytest

from app.auth.jwks import MOST_BYTES, MOST_KEYS, InvalidKeySet, read_key_set
from tests.auth.support import KEYS, jwk

ALL = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")


def read(*keys, algorithms=ALL):
    return read_key_set(json.dumps({"keys": keys}).encode(), algorithms)


def test_keys_of_all_kinds_are_taken_for_their_own_algorithms_alone():
    found = read(jwk(KEYS["rsa"], "r"), jwk(KEYS["ec"], "e"), jwk(KEYS["ec384"], "f"), jwk(KEYS["ed"], "d"))
    assert {each.name: set(each.algorithms) for each in found} == {
        "r": {"RS256", "RS384", "RS512", "PS256"},
        "e": {"ES256"},
        "f": {"ES384"},
        "d": {"EdDSA"},
    }


def test_a_key_with_an_algorithm_of_its_own_is_for_nothing_else():
    (found,) = read(jwk(KEYS["rsa"], "r", alg="RS512"))
    assert found.algorithms == {"RS512"}


def test_algorithms_that_the_configuration_does_not_name_are_not_taken():
    (found,) = read(jwk(KEYS["rsa"], "r"), jwk(KEYS["ec"], "e"), algorithms=("RS256",))
    assert (found.name, found.algorithms) == ("r", {"RS256"})


@pytest.mark.parametrize(
    "useless",
    [
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "x"},
        jwk(KEYS["rsa"], "x", use="enc"),
        jwk(KEYS["rsa"], "x", key_ops=["encrypt"]),
        jwk(KEYS["rsa"], "x", alg="HS256"),
        jwk(KEYS["rsa"], "x", alg="none"),
        jwk(KEYS["rsa"], "x", d="AQAB"),
        jwk(KEYS["rsa"], "x", n=7),
        jwk(KEYS["rsa"], "x", n="*"),
        jwk(KEYS["rsa"], "x", n="A" * 5000),
        jwk(KEYS["rsa"], "x" * 257),
        jwk(KEYS["rsa"]) | {"kid": 7},
        jwk(KEYS["weak-rsa"], "x"),
        jwk(KEYS["ec"], "x", crv="P-999"),
        jwk(KEYS["ec"], "x", x="AQAB"),
        {"kty": ["RSA"]},
        {"kty": "MAGIC", "kid": "x"},
        {},
        [],
        None,
        "key",
    ],
)
def test_what_is_of_no_use_is_passed_over(useless):
    assert [each.name for each in read(useless, jwk(KEYS["ec"], "good"))] == ["good"]
    with pytest.raises(InvalidKeySet, match="holds no key"):
        read(useless)


@pytest.mark.parametrize(
    "document",
    [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b"\xff", b"[" * 10_000, b" " * (MOST_BYTES + 1)],
)
def test_what_is_no_key_set_is_refused(document):
    with pytest.raises(InvalidKeySet):
        read_key_set(document, ALL)


def test_the_number_of_keys_is_bounded():
    assert len(read(*[jwk(KEYS["ec"], str(index)) for index in range(MOST_KEYS)])) == MOST_KEYS
    with pytest.raises(InvalidKeySet, match=str(MOST_KEYS)):
        read(*[jwk(KEYS["ec"], str(index)) for index in range(MOST_KEYS + 1)])
