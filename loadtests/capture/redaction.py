"""Takes secrets out of what is recorded, and finds those that are still in a session. Pure.

A secret is known by its place (a header, a query's parameter, a subprotocol, a member of a message), or by its shape (a
JSON Web Token, a key of a known provider). Once seen, it is taken out wherever else it is. Where a credential of the
recorded user stood, ``${token}`` stands then, so that a replay puts one of its own there; else ``${redacted}``.

A member that is called ``token`` and was *received* may well be a word of a token stream: it is a secret only if it
looks like one. In a binary message a secret is covered by as many bytes as it had, so that lengths in it stay right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from loadtests.session_format import REDACTED, TOKEN, Frame, Header, Opened, Record, Request, Response, Session

__all__ = ["Redactor", "redact", "secrets_of"]

Direction = Literal["send", "receive"]

_CREDENTIALS = frozenset({"token", "accesstoken", "jwt", "idtoken", "bearer", "authtoken", "authorization"})
"""Members and parameters that hold what a user signs in with, written without ``-`` and ``_``."""
_SECRETS = _CREDENTIALS | {
    "refreshtoken", "sessiontoken", "csrftoken", "xsrftoken", "password", "passwd", "pwd", "secret", "clientsecret",
    "apikey", "xapikey", "accesskey", "secretkey", "privatekey", "ticket", "cookie", "setcookie", "credential",
    "credentials", "signature", "sig", "otp", "proxyauthorization", "xauthtoken", "xamzsecuritytoken",
}  # fmt: skip
_WORDS = frozenset({"token", "bearer", "secret", "signature", "sig", "credential", "ticket", "otp"})
"""Those of them that a server may use for something harmless."""
_PERHAPS = frozenset({"key", "code", "auth", "sid", "state"})
"""Parameters of URLs that are secrets if they look like one."""
_SHAPES = re.compile(
    r"eyJ[\w-]{5,}\.eyJ[\w-]{5,}\.[\w-]{5,}"  # a JSON Web Token (RFC 7519)
    r"|\b(?:sk|pk|rk)-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAKIA[0-9A-Z]{16}\b"
)
_HINTS = ("eyJ", "sk-", "pk-", "rk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "xox", "AKIA")
"""One of them is in whatever has such a shape: most texts need no more than this look."""
_BEARER = re.compile(r"\b(Bearer|Basic)\s+(?!\$\{)([A-Za-z0-9._~+/=-]{8,})")
_FORM = re.compile(r"(?:^|(?<=[&?;\s]))([A-Za-z_-]{2,24})=([^&\s;\"'<>]+)")
_LOOKS_SECRET = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9._~+/=-]{20,}")
_SUBPROTOCOL = re.compile(
    r"(?i)^(.*?(?:bearer|token|insecure-api-key|auth|jwt)[^.]*\.(?:[a-z0-9]{1,8}\.)?)([^.].{7,})$"
)
_PLACEHOLDERS = (TOKEN, REDACTED)
_SHORTEST = 8
"""Characters of a secret that is looked for everywhere else, too."""
_MOST = 200
"""Secrets of a session that are remembered."""
_DEEPEST = 40


class Redactor:
    """Redacts one session, from its beginning on: it remembers what it has seen. ``found`` counts."""

    def __init__(self) -> None:
        self.found = 0
        self._known: dict[str, str] = {}
        """What stands for each secret."""

    def url(self, url: str) -> str:
        """Return a URL without user, password, and secrets in its query or fragment."""
        try:
            parts = urlsplit(url)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return self.plain(url)
        place = parts.netloc
        if "@" in place:
            self.found += 1
            host = parts.hostname or ""
            place = (f"[{host}]" if ":" in host else host) + port
        query = "&".join(self._parameter(each) for each in parts.query.split("&")) if parts.query else ""
        fragment = "&".join(self._parameter(each) for each in parts.fragment.split("&"))
        return self._shapes(urlunsplit((parts.scheme, place, parts.path, query, fragment)))

    def subprotocol(self, offered: str) -> str:
        """Return an offered subprotocol, without the token that may be in it: ``bearer.${token}``."""
        match = _SUBPROTOCOL.match(offered)
        if match is not None and not _placeholder(match[2]):
            return match[1] + self._replaced(match[2], TOKEN)
        return self._shapes(offered)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers with lower-case names. A list of subprotocols is redacted one by one."""
        return {name.lower(): self._header(name.lower(), value) for name, value in headers.items()}

    def frame(self, data: str | bytes, direction: Direction) -> str | bytes:
        """Return a message, or a call's body."""
        if isinstance(data, bytes):
            return self._binary(data)
        return self.body(data, direction)

    def body(self, text: str, direction: Direction) -> str:
        """Return a text: JSON, JSON a line (also behind ``data:``), a form, or anything."""
        whole = self._json(text, direction) if text[:1] in "{[" else None
        if whole is None and "\n" in text:
            whole = "\n".join(self._line(line, direction) for line in text.split("\n"))
        return self.plain(text) if whole is None else self._shapes(whole)

    def plain(self, text: str) -> str:
        """Return a text without what has the shape of a secret, or stands where forms have one."""
        text = _FORM.sub(self._form, text) if "=" in text else text
        return self._shapes(text)

    def _line(self, line: str, direction: Direction) -> str:
        head = "data:" if line.startswith("data:") else ""
        text = line[len(head) :]
        space = text[: len(text) - len(text.lstrip())]
        found = self._json(text.strip(), direction) if text.strip()[:1] in {"{", "["} else None
        return self.plain(line) if found is None else head + space + found

    def _json(self, text: str, direction: Direction) -> str | None:
        """Return JSON redacted, the same text where nothing was found; None: it is no JSON."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        before = self.found
        changed = self._value(value, direction, 0)
        if self.found == before:
            return text
        return json.dumps(changed, ensure_ascii=False, separators=(",", ":"))

    def _value(self, value: Any, direction: Direction, depth: int) -> Any:
        if depth > _DEEPEST:
            return REDACTED
        if isinstance(value, dict):
            return {name: self._member(name, each, direction, depth + 1) for name, each in value.items()}
        if isinstance(value, list):
            return [self._value(each, direction, depth + 1) for each in value]
        return self._shapes(value) if isinstance(value, str) else value

    def _member(self, name: str, value: Any, direction: Direction, depth: int) -> Any:
        key = _key(name)
        if not isinstance(value, str) or key not in _SECRETS or not value or _placeholder(value):
            return self._value(value, direction, depth)
        if key in _WORDS and direction == "receive" and not _LOOKS_SECRET.fullmatch(value):
            return self._shapes(value)
        return self._replaced(value, TOKEN if key in _CREDENTIALS else REDACTED)

    def _header(self, name: str, value: str) -> str:
        if name == "authorization":
            scheme, space, rest = value.partition(" ")
            if not space or _placeholder(rest):
                return value if _placeholder(value) else self._replaced(value, REDACTED)
            return f"{scheme} " + self._replaced(rest, TOKEN if scheme.lower() == "bearer" else REDACTED)
        if name == "sec-websocket-protocol":
            return ", ".join(self.subprotocol(each.strip()) for each in value.split(","))
        if name in {"referer", "origin", "location", "content-location"}:
            return self.url(value)
        if _key(name) in _SECRETS or "token" in name or "secret" in name:
            return value if _placeholder(value) or not value else self._replaced(value, REDACTED)
        return self._shapes(value)

    def _parameter(self, pair: str) -> str:
        name, equals, value = pair.partition("=")
        if not equals or not value or _placeholder(value) or _key(name) not in _SECRETS | _PERHAPS:
            return pair
        decoded = dict(parse_qsl(pair)).get(name, value)
        if _key(name) in _PERHAPS and not _LOOKS_SECRET.fullmatch(decoded):
            return pair
        return f"{name}={self._replaced(decoded, TOKEN if _key(name) in _CREDENTIALS else REDACTED)}"

    def _form(self, match: re.Match[str]) -> str:
        return match[0] if _key(match[1]) not in _SECRETS - _WORDS | {"token"} else self._parameter(match[0])

    def _shapes(self, text: str) -> str:
        if "earer" in text or "asic" in text:
            text = _BEARER.sub(lambda match: f"{match[1]} {self._replaced(match[2], TOKEN)}", text)
        for secret, by in self._known.items():
            if secret in text:
                self.found += 1
                text = text.replace(secret, by)
        if any(hint in text for hint in _HINTS):
            text = _SHAPES.sub(lambda match: self._replaced(match[0], _by_shape(match[0])), text)
        return text

    def _binary(self, data: bytes) -> bytes:
        for secret in self._known:
            if (known := secret.encode()) in data:
                self.found += 1
                data = data.replace(known, b"*" * len(known))
        if any(hint.encode() in data for hint in _HINTS):
            data = _SHAPES.sub(self._cover, data.decode("latin-1")).encode("latin-1")
        return data

    def _cover(self, match: re.Match[str]) -> str:
        self.found += 1
        return "*" * len(match[0])

    def _replaced(self, secret: str, by: str) -> str:
        self.found += 1
        fresh = len(secret) >= _SHORTEST and secret not in self._known and len(self._known) < _MOST
        if fresh and not _SHAPES.fullmatch(secret):  # those are found anywhere as they are
            both = {**self._known, secret: by, quote(secret, safe=""): by}
            self._known = dict(sorted(both.items(), key=lambda each: -len(each[0])))
        return by


def redact(session: Session) -> int:
    """Redact a session in place; return how much was found. Twice, as a secret may stand before its place."""
    redactor = Redactor()
    for _ in range(2):
        session.header.url = redactor.url(session.header.url)
        session.header.subprotocols = [redactor.subprotocol(each) for each in session.header.subprotocols]
        for record in session.records:
            _redact(record, redactor)
    return redactor.found


def secrets_of(session: Session) -> list[str]:
    """Return where a session still has secrets: a place for each, at most ten, never the secret itself."""
    return [place for place, _ in zip(_places(session), range(10), strict=False)]


def _places(session: Session) -> Iterator[str]:
    if _found_in_header(session.header):
        yield "the header"
    for number, record in enumerate(session.records, 2):
        redactor = Redactor()
        _redact(record, redactor, write=False)
        if redactor.found:
            what = record.direction if isinstance(record, Frame) else type(record).__name__.lower()
            yield f"record {number} ({what} at {record.t:.3f} s)"


def _found_in_header(header: Header) -> bool:
    redactor = Redactor()
    redactor.url(header.url)
    for each in header.subprotocols:
        redactor.subprotocol(each)
    return redactor.found > 0


def _redact(record: Record, redactor: Redactor, *, write: bool = True) -> None:
    changed: dict[str, Any] = {}
    if isinstance(record, Frame):
        changed["data"] = redactor.frame(record.data, record.direction)
    elif isinstance(record, Opened):
        changed["url"] = None if record.url is None else redactor.url(record.url)
        offered = record.subprotocols
        changed["subprotocols"] = None if offered is None else [redactor.subprotocol(each) for each in offered]
    elif isinstance(record, Request | Response):
        direction: Direction = "send" if isinstance(record, Request) else "receive"
        changed["headers"] = redactor.headers(record.headers)
        changed["body"] = redactor.frame(record.body, direction)
        if isinstance(record, Request):
            changed["url"] = redactor.url(record.url)
    else:
        changed["reason"] = redactor.plain(record.reason)
    for name, value in changed.items() if write else ():
        setattr(record, name, value)


def _by_shape(secret: str) -> str:
    return TOKEN if secret.startswith("eyJ") else REDACTED


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _placeholder(value: str) -> bool:
    return any(each in value for each in _PLACEHOLDERS) or "%7Btoken%7D" in value or "%7Bredacted%7D" in value
