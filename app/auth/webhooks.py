"""Signatures of webhooks: that a post comes from who shares a secret with us, is fresh, and was not changed. Pure.

Standard Webhooks (https://www.standardwebhooks.com, used by Replicate, OpenAI and others) signs ``id.timestamp.body``;
the general form is an HMAC over the body, in a header of some name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.errors import InvalidSignature

__all__ = ["WebhookSigner", "standard_key"]

_PREFIX = "whsec_"
_LONGEST_ID = 256
_MOST_SIGNATURES = 16

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class WebhookSigner:
    """Who may post. ``secrets`` are several while they rotate; ``tolerance`` is in seconds."""

    scheme: Literal["standard", "hmac"]
    secrets: tuple[str, ...]
    tolerance: float
    header: str = "x-signature-256"
    prefix: str = "sha256="
    encoding: Literal["hex", "base64"] = "hex"
    timestamp_header: str = ""
    id_header: str = ""

    def check(self, headers: Headers, body: bytes, now: float) -> str:
        """Return by what the post is told from its repetition. ``now`` is in seconds since 1970.

        ``headers`` have lower-case names. Raises :exc:`~app.errors.InvalidSignature`.
        """
        return self._standard(headers, body, now) if self.scheme == "standard" else self._general(headers, body, now)

    def _standard(self, headers: Headers, body: bytes, now: float) -> str:
        message_id, stamp = _one(headers, b"webhook-id"), _one(headers, b"webhook-timestamp")
        shown = [part[3:] for part in _one(headers, b"webhook-signature").split(b" ") if part.startswith(b"v1,")]
        signed = message_id + b"." + stamp + b"." + body
        self._verify([standard_key(secret) for secret in self.secrets], signed, shown, base64.b64encode)
        self._check_time(stamp, now)
        return message_id.decode("latin-1")

    def _general(self, headers: Headers, body: bytes, now: float) -> str:
        value, prefix = _one(headers, self.header.lower().encode()), self.prefix.encode()
        stamp = _one(headers, self.timestamp_header.lower().encode()) if self.timestamp_header else b""
        signed = stamp + b"." + body if self.timestamp_header else body
        shown = [value[len(prefix) :]] if value.startswith(prefix) else []
        shown = [each.lower() for each in shown] if self.encoding == "hex" else shown
        encode = binascii.hexlify if self.encoding == "hex" else base64.b64encode
        self._verify([secret.encode() for secret in self.secrets], signed, shown, encode)
        if self.timestamp_header:
            self._check_time(stamp, now)
        if self.id_header:
            return _one(headers, self.id_header.lower().encode()).decode("latin-1")
        return hashlib.sha256(signed).hexdigest()

    def _verify(self, keys: Sequence[bytes], signed: bytes, shown: Sequence[bytes], encode: object) -> None:
        assert callable(encode)
        expected = [encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
        pairs = [(good, each) for good in expected for each in shown[:_MOST_SIGNATURES]]
        # All pairs are compared: how long it takes says nothing of which key was nearly right.
        if not any([hmac.compare_digest(good, each) for good, each in pairs]):  # noqa: C419
            raise InvalidSignature

    def _check_time(self, stamp: bytes, now: float) -> None:
        if not stamp.isdigit() or len(stamp) > 12 or abs(now - int(stamp)) > self.tolerance:
            raise InvalidSignature("This post is too old, or its clock is wrong.")


def standard_key(secret: str) -> bytes:
    """Return the key of a secret: base 64 after ``whsec_``, else its UTF-8. Raises :exc:`ValueError`."""
    return base64.b64decode(secret[len(_PREFIX) :]) if secret.startswith(_PREFIX) else secret.encode()


def _one(headers: Headers, name: bytes) -> bytes:
    """Return the field's value. Raises :exc:`~app.errors.InvalidSignature` unless it is there once."""
    values = [value for key, value in headers if key == name]
    if len(values) != 1 or not 0 < len(values[0]) <= _LONGEST_ID * _MOST_SIGNATURES:
        raise InvalidSignature(f"Send {name.decode()} once.")
    return values[0]
