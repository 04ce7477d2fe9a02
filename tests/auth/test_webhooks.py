"""Posts are taken from those who share a secret, while they are fresh, as they were signed."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import pytest

from app.auth.webhooks import WebhookSigner
from app.errors import InvalidSignature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
NOW = 1614265330
SIGNED = [
    (b"webhook-id", b"msg_p5jXN8AQM9LWM0D4loKWxJek"),
    (b"webhook-timestamp", b"1614265330"),
    (b"webhook-signature", b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
]
"""The example of the specification's documentation."""
STANDARD = WebhookSigner("standard", (SECRET,), 300.0)


def changed(name: bytes, value: bytes | None) -> list[tuple[bytes, bytes]]:
    rest = [field for field in SIGNED if field[0] != name]
    return rest if value is None else [*rest, (name, value)]


def test_the_specifications_own_example_is_good() -> None:
    assert STANDARD.check(SIGNED, BODY, NOW) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_while_secrets_rotate_each_is_good_and_so_is_each_of_several_signatures() -> None:
    rotating = replace(STANDARD, secrets=("another secret", SECRET))
    assert rotating.check(SIGNED, BODY, NOW)
    several = changed(b"webhook-signature", b"v2,xyz v1,AAAA " + SIGNED[2][1])
    assert STANDARD.check(several, BODY, NOW)


@pytest.mark.parametrize(
    ("headers", "body", "now"),
    [
        (SIGNED, BODY + b" ", NOW),
        (changed(b"webhook-id", b"msg_other"), BODY, NOW),
        (changed(b"webhook-timestamp", b"1614265331"), BODY, NOW),
        (changed(b"webhook-signature", b"v1,AAAA"), BODY, NOW),
        (changed(b"webhook-signature", b""), BODY, NOW),
        (changed(b"webhook-signature", SIGNED[2][1][3:]), BODY, NOW),
        (changed(b"webhook-signature", None), BODY, NOW),
        (changed(b"webhook-id", None), BODY, NOW),
        ([*SIGNED, SIGNED[0]], BODY, NOW),
        (SIGNED, BODY, NOW + 301),
        (SIGNED, BODY, NOW - 301),
        ([], b"", NOW),
    ],
)
def test_all_else_is_refused(headers: list[tuple[bytes, bytes]], body: bytes, now: float) -> None:
    with pytest.raises(InvalidSignature):
        STANDARD.check(headers, body, now)


def test_the_general_form() -> None:
    good = hmac.new(b"a secret", BODY, hashlib.sha256)
    signer = WebhookSigner("hmac", ("a secret",), 300.0, "X-Hub-Signature-256")
    header = b"x-hub-signature-256"
    first = signer.check([(header, b"sha256=" + good.hexdigest().encode())], BODY, NOW)
    assert first == signer.check([(header, b"sha256=" + good.hexdigest().upper().encode())], BODY, NOW)
    for wrong in (good.hexdigest().encode(), b"sha256=", b"sha256=00", b""):
        with pytest.raises(InvalidSignature):
            signer.check([(header, wrong)], BODY, NOW)


def test_the_general_form_with_a_time_and_an_id() -> None:
    good = hmac.new(b"a secret", b"%d." % NOW + BODY, hashlib.sha256).hexdigest().encode()
    signer = WebhookSigner("hmac", ("a secret",), 10.0, "X-Sig", "", "hex", "X-Time", "X-Id")
    headers = [(b"x-sig", good), (b"x-time", b"%d" % NOW), (b"x-id", b"7")]
    assert signer.check(headers, BODY, NOW + 5) == "7"
    with pytest.raises(InvalidSignature):
        signer.check(headers, BODY, NOW + 11)
