from __future__ import annotations

import pytest

from app.auth.origins import Origins, origin_allowed


def allowed(origin: str, *configured: str, host: str = "gateway.test") -> bool:
    headers = [(b"host", host.encode()), (b"origin", origin.encode("latin-1"))]
    return origin_allowed(headers, Origins(configured))


@pytest.mark.parametrize(
    "origin", ["https://app.test", "HTTPS://APP.test", "https://app.test:443", "https://App.Test:443"]
)
@pytest.mark.parametrize("configured", ["https://app.test", "https://App.test:443", "https://app.test/"])
def test_spellings_of_one_origin_are_one(origin, configured):
    assert allowed(origin, configured)


@pytest.mark.parametrize(
    "origin",
    [
        "http://app.test", "https://app.test:80", "https://app.test:8443", "https://app.test:443:443",
        "https://app.test.", "https://user@app.test", "https://app.test/x", "https://app.test?", "https://app.test#",
        "https://app.test ", " https://app.test", "https://app.test, https://evil.test", "https://app.test\\.evil.test",
        "https://аpp.test".encode().decode("latin-1"), "null", "NULL", "", "://app.test", "app.test", "https:app.test",
        "https://app.test:", "https://app.test:0443", "https://*", "*",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_not(origin):
    assert not allowed(origin, "https://app.test", "null")


def test_the_gateways_own_origin_may_name_its_schemes_port():
    assert allowed("https://gateway.test", host="gateway.test:443")
    assert allowed("http://gateway.test:80", host="GATEWAY.test")
    assert allowed("http://[::1]:8080", host="[::1]:8080")
    assert not allowed("http://gateway.test", host="gateway.test:443")
    assert not allowed("https://gateway.test", host="")


@pytest.mark.parametrize("first", ["https://app.test", "https://evil.test"])
def test_several_origins_or_hosts_are_nobodys(first):
    origins = [(b"origin", first.encode()), (b"origin", b"https://app.test")]
    assert not origin_allowed([(b"host", b"gateway.test"), *origins], Origins(["https://app.test"]))
    hosts = [(b"host", b"gateway.test"), (b"host", b"evil.test"), (b"origin", b"https://evil.test")]
    assert not origin_allowed(hosts, Origins())
