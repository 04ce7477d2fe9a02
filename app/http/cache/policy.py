"""What may be stored, how long it is fresh, and whether a stored answer serves a request (RFC 9111, RFC 5861). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple, Protocol

from app.http.cache.directives import Directives, age_of, directives, http_date, items, seconds, values
from app.http.cache.entry import Entry
from app.http.headers import normal_name, response_headers

__all__ = [
    "NOTHING",
    "Demand",
    "Exposure",
    "Rule",
    "Use",
    "Verdict",
    "judge",
    "keep_for",
    "refreshed",
    "serves_on_error",
    "stored",
    "use",
]

Fields = Sequence[tuple[bytes, bytes]]

_UNDERSTOOD = frozenset({200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 414, 421, 451,
                         500, 501, 502, 503, 504})  # fmt: skip
"""Statuses whose requirements for caches are met here, for ``must-understand``."""
_WORTH_DEFAULT = frozenset({200, 203, 204, 300, 301, 308, 410})
"""Statuses for which the route's ``default_ttl`` holds."""
_NEVER = frozenset({206, 304})
_NOT_STORED = frozenset({b"age", b"content-length", b"x-request-id", b"retry-after", b"cache-status"})
"""Fields of one delivery only."""
_COOKIES = frozenset({b"set-cookie", b"set-cookie2"})
"""Kept where the route says so."""
_RATE_LIMITS = ("ratelimit", "x-ratelimit", "x-rate-limit")
_NOT_UPDATED = frozenset({b"content-encoding", b"content-md5", b"content-range", b"etag"})
"""RFC 9111 section 3.2: what is bound to the body that is stored stays as that body came."""
_SHARED = ("public", "s-maxage", "must-revalidate")
_MOST_NAMES = 16
_VALIDATION_TIME = 3600.0
"""Seconds that a stale answer is kept if it can be validated."""


class Rule(Protocol):
    """What a route says; :class:`app.config.RouteCacheConfig` holds it."""

    @property
    def default_ttl(self) -> float | None: ...
    @property
    def max_body(self) -> int: ...
    @property
    def stale_while_revalidate(self) -> float: ...
    @property
    def stale_if_error(self) -> float: ...
    @property
    def store_cookies(self) -> bool: ...


class Verdict(Enum):
    """Whether an answer may be stored, and if not, why."""

    STORE = "store"
    FORBIDDEN = "forbidden"
    PERSONAL = "personal"
    NOT_FRESH = "not fresh"
    TOO_LARGE = "too large"


class Use(Enum):
    """What a stored answer is good for."""

    FRESH = "fresh"
    STALE = "stale"
    """Stale, and may be given all the same: the client takes it."""
    STALE_WHILE = "stale while revalidate"
    VALIDATE = "validate"


class Demand(NamedTuple):
    """What a request's Cache-Control asks for, in seconds; None where it does not."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    min_fresh: float = 0.0
    max_stale: float = 0.0

    @classmethod
    def of(cls, fields: Fields) -> Demand:
        """Read a request's fields. ``Pragma: no-cache`` counts where there is no Cache-Control."""
        lines = values(fields, b"cache-control")
        if not lines:
            return cls(no_cache=True) if b"no-cache" in items(values(fields, b"pragma")) else NOTHING
        given = directives(lines)
        max_age = seconds(given["max-age"]) or 0 if "max-age" in given else None
        stale = given.get("max-stale")
        unlimited = float("inf") if "max-stale" in given and stale is None else 0.0
        return cls(
            no_store="no-store" in given,
            no_cache="no-cache" in given,
            only_if_cached="only-if-cached" in given,
            max_age=max_age,
            min_fresh=float(seconds(given.get("min-fresh")) or 0),
            max_stale=unlimited or float(seconds(stale) or 0),
        )


NOTHING = Demand()


@dataclass(frozen=True, slots=True)
class Exposure:
    """Whose answer it could be. ``credentials``: the request had Authorization or who the caller is; ``cookie``: a
    Cookie; ``apart``: the key holds who the caller is, so nobody else finds the answer."""

    credentials: bool
    cookie: bool
    apart: bool


def judge(status: int, fields: Fields, exposure: Exposure, rule: Rule) -> Verdict:
    """Return whether the answer to a GET may be stored (RFC 9111 section 3)."""
    control = directives(values(fields, b"cache-control"))
    if status < 200 or status in _NEVER or "private" in control:
        return Verdict.FORBIDDEN
    if "must-understand" in control:
        if status not in _UNDERSTOOD:
            return Verdict.FORBIDDEN
    elif "no-store" in control:
        return Verdict.FORBIDDEN
    if any(value[:17].lower() == b"text/event-stream" for value in values(fields, b"content-type")):
        return Verdict.FORBIDDEN  # it has no end to wait for
    vary = items(values(fields, b"vary"))
    if b"*" in vary or len(vary) > _MOST_NAMES:
        return Verdict.FORBIDDEN
    if not exposure.apart and exposure.credentials and not any(name in control for name in _SHARED):
        return Verdict.PERSONAL  # RFC 9111 section 3.5
    cookie_safe = "public" in control or "s-maxage" in control or b"cookie" in vary
    if exposure.cookie and not exposure.apart and not cookie_safe:
        return Verdict.PERSONAL
    if not rule.store_cookies and any(name in _COOKIES for name, _ in fields):
        return Verdict.PERSONAL
    explicit = "max-age" in control or "s-maxage" in control or "no-cache" in control or "public" in control
    defaulted = rule.default_ttl is not None and status in _WORTH_DEFAULT
    if not (explicit or defaulted or values(fields, b"expires")):
        return Verdict.NOT_FRESH
    length = values(fields, b"content-length")
    if length and (not length[0].isdigit() or int(length[0]) > rule.max_body):
        return Verdict.TOO_LARGE
    return Verdict.STORE


def stored(
    status: int, fields: Fields, vary: tuple[bytes, ...], rule: Rule, *, asked_at: float, now: float
) -> Entry | None:
    """Return the entry, without its body, for an answer that :func:`judge` lets in; None if it would be of no use.

    ``asked_at`` is when the request was sent, ``now`` when the answer's head came.
    """
    control = directives(values(fields, b"cache-control"))
    dates = values(fields, b"date")
    date = http_date(dates[0]) if dates else None
    date = now if date is None else date
    age = max(0.0, now - date, age_of(values(fields, b"age")) + max(0.0, now - asked_at))
    no_cache = "no-cache" in control
    shared = "s-maxage" in control
    strict = no_cache or "must-revalidate" in control or "proxy-revalidate" in control
    entry = Entry(
        status=status,
        headers=_kept(fields, status, rule),
        body=b"",
        stored_at=now,
        initial_age=age,
        lifetime=_lifetime(status, fields, control, date, rule),
        stale_while_revalidate=_stale("stale-while-revalidate", control, rule.stale_while_revalidate, strict, shared),
        stale_if_error=_stale("stale-if-error", control, rule.stale_if_error, strict, shared),
        always_validate=no_cache,
        strict=strict or shared,
        vary=vary,
    )
    useful = (entry.lifetime > age and not no_cache) or _can_validate(entry)
    return entry if useful or entry.stale_while_revalidate or entry.stale_if_error else None


def refreshed(entry: Entry, fields: Fields, rule: Rule, *, asked_at: float, now: float) -> Entry:
    """Return ``entry`` with what a 304 said about it (RFC 9111 sections 3.2 and 4.3.4)."""
    new = [field for field in _kept(fields, 304, rule) if field[0] not in _NOT_UPDATED]
    replaced = {name for name, _ in new}
    merged = [*(field for field in entry.headers if field[0] not in replaced), *new]
    timing = [field for field in fields if field[0] in (b"date", b"age")]
    renewed = stored(entry.status, [*merged, *timing], entry.vary, rule, asked_at=asked_at, now=now)
    return replace(entry, stored_at=now) if renewed is None else replace(renewed, body=entry.body)


def use(entry: Entry, demand: Demand, now: float) -> Use:
    """Return what ``entry`` is good for now (RFC 9111 section 4.2)."""
    if entry.always_validate or demand.no_cache:
        return Use.VALIDATE
    age = entry.age(now)
    left = entry.lifetime - age
    if demand.max_age is not None and age >= demand.max_age + demand.max_stale:
        return Use.VALIDATE
    if left > 0:
        return Use.FRESH if left > demand.min_fresh or not demand.min_fresh else Use.VALIDATE
    if demand.min_fresh:
        return Use.VALIDATE
    if not entry.strict and -left <= demand.max_stale and demand.max_stale:
        return Use.STALE
    return Use.STALE_WHILE if -left < entry.stale_while_revalidate else Use.VALIDATE


def serves_on_error(entry: Entry, now: float) -> bool:
    """Whether ``entry`` may be given instead of an error (RFC 5861 section 4)."""
    return entry.age(now) - entry.lifetime < entry.stale_if_error


def keep_for(entry: Entry, now: float, longest: float) -> float:
    """Return the seconds that ``entry`` is worth keeping, at most ``longest``."""
    left = max(0.0, entry.lifetime - entry.age(now))
    more = max(entry.stale_while_revalidate, entry.stale_if_error, _VALIDATION_TIME if _can_validate(entry) else 0.0)
    return min(left + more, longest)


def _lifetime(status: int, fields: Fields, control: Directives, date: float, rule: Rule) -> float:
    """RFC 9111 section 4.2.1: s-maxage, max-age, Expires, and then what the route says."""
    for name in ("s-maxage", "max-age"):
        if name in control:
            return float(seconds(control[name]) or 0)
    expires = values(fields, b"expires")
    if expires:
        moment = http_date(expires[0]) if len(set(expires)) == 1 else None
        return 0.0 if moment is None else max(0.0, moment - date)
    return rule.default_ttl or 0.0 if status in _WORTH_DEFAULT else 0.0


def _stale(name: str, control: Directives, configured: float, strict: bool, shared: bool) -> float:
    """The answer's own word counts before the route's. ``s-maxage`` alone forbids stale answers, but not where the same
    answer allows them."""
    if strict:
        return 0.0
    if name in control:
        return float(seconds(control[name]) or 0)
    return 0.0 if shared else configured


def _can_validate(entry: Entry) -> bool:
    return any(name in (b"etag", b"last-modified") for name, _ in entry.headers)


def _kept(fields: Fields, status: int, rule: Rule) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields that belong to the answer and not to its delivery."""
    return tuple(
        field
        for field in response_headers(fields, status)
        if field[0] not in _NOT_STORED
        and (rule.store_cookies or field[0] not in _COOKIES)
        and not normal_name(field[0]).startswith(_RATE_LIMITS)
    )
