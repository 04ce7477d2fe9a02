"""What may be stored, how long it is fresh, and what it is then good for: the tables of RFC 9111 and RFC 5861."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from app.config import RouteCacheConfig
from app.http.cache.policy import (
    NOTHING,
    Demand,
    Exposure,
    Use,
    Verdict,
    judge,
    keep_for,
    refreshed,
    serves_on_error,
    stored,
    use,
)

NOW = 1_700_000_000.0
PLAIN = RouteCacheConfig()
NOBODY = Exposure(credentials=False, cookie=False, apart=False)
SOMEBODY = Exposure(credentials=True, cookie=False, apart=False)
EATER = Exposure(credentials=False, cookie=True, apart=False)
APART = Exposure(credentials=True, cookie=True, apart=True)


def fields(*control: str, **others: str) -> list[tuple[bytes, bytes]]:
    lines = [(b"cache-control", line.encode()) for line in control]
    return lines + [(name.replace("_", "-").encode(), value.encode()) for name, value in others.items()]


def date(offset: float = 0.0) -> str:
    return formatdate(NOW + offset, usegmt=True)


def entry(*control: str, status: int = 200, rule: RouteCacheConfig = PLAIN, delay: float = 0.0, **others: str):
    return stored(status, fields(*control, **others), (), rule, asked_at=NOW - delay, now=NOW)


@pytest.mark.parametrize(
    ("status", "answer", "exposure", "verdict"),
    [
        (200, fields("max-age=60"), NOBODY, Verdict.STORE),
        (200, fields("s-maxage=60"), NOBODY, Verdict.STORE),
        (200, fields(expires=date(60)), NOBODY, Verdict.STORE),
        (200, fields("no-cache"), NOBODY, Verdict.STORE),
        (200, fields(), NOBODY, Verdict.NOT_FRESH),
        (200, fields(etag='"1"'), NOBODY, Verdict.NOT_FRESH),
        (200, fields("no-store, max-age=60"), NOBODY, Verdict.FORBIDDEN),
        (200, fields("private, max-age=60"), NOBODY, Verdict.FORBIDDEN),
        (200, fields('private="x", max-age=60'), NOBODY, Verdict.FORBIDDEN),
        (200, fields("private, max-age=60"), APART, Verdict.FORBIDDEN),
        (206, fields("max-age=60"), NOBODY, Verdict.FORBIDDEN),
        (304, fields("max-age=60"), NOBODY, Verdict.FORBIDDEN),
        (404, fields("max-age=60"), NOBODY, Verdict.STORE),
        (599, fields("max-age=60"), NOBODY, Verdict.STORE),
        (599, fields("max-age=60, must-understand"), NOBODY, Verdict.FORBIDDEN),
        (200, fields("max-age=60, must-understand, no-store"), NOBODY, Verdict.STORE),
        (599, fields("max-age=60, must-understand, no-store"), NOBODY, Verdict.FORBIDDEN),
        (200, fields("max-age=60", vary="*"), NOBODY, Verdict.FORBIDDEN),
        (200, fields("max-age=60", vary="accept, *"), NOBODY, Verdict.FORBIDDEN),
        (200, fields("max-age=60", vary="accept"), NOBODY, Verdict.STORE),
        (200, fields("max-age=60", content_type="text/event-stream; charset=utf-8"), NOBODY, Verdict.FORBIDDEN),
        (200, fields("max-age=60", content_length="99999999"), NOBODY, Verdict.TOO_LARGE),
        (200, fields("max-age=60", set_cookie="a=b"), NOBODY, Verdict.PERSONAL),
        (200, fields("max-age=60", set_cookie="a=b"), APART, Verdict.PERSONAL),
        (200, fields("max-age=60"), SOMEBODY, Verdict.PERSONAL),
        (200, fields(expires=date(60)), SOMEBODY, Verdict.PERSONAL),
        (200, fields("public, max-age=60"), SOMEBODY, Verdict.STORE),
        (200, fields("s-maxage=60"), SOMEBODY, Verdict.STORE),
        (200, fields("must-revalidate, max-age=60"), SOMEBODY, Verdict.STORE),
        (200, fields("max-age=60"), APART, Verdict.STORE),
        (200, fields("max-age=60"), EATER, Verdict.PERSONAL),
        (200, fields("max-age=60, must-revalidate"), EATER, Verdict.PERSONAL),
        (200, fields("public, max-age=60"), EATER, Verdict.STORE),
        (200, fields("max-age=60", vary="Cookie"), EATER, Verdict.STORE),
    ],
)  # fmt: skip
def test_an_answer_is_stored_only_if_it_may_be(status, answer, exposure, verdict):
    assert judge(status, answer, exposure, PLAIN) is verdict


def test_a_default_makes_plain_answers_storable_but_no_errors_and_none_that_forbid_it():
    rule = RouteCacheConfig(default_ttl=30)
    assert judge(200, fields(), NOBODY, rule) is Verdict.STORE
    assert judge(200, fields(), SOMEBODY, rule) is Verdict.PERSONAL
    assert judge(500, fields(), NOBODY, rule) is Verdict.NOT_FRESH
    assert judge(200, fields("no-store"), NOBODY, rule) is Verdict.FORBIDDEN
    assert entry(rule=rule).lifetime == 30
    assert entry("max-age=5", rule=rule).lifetime == 5
    assert stored(200, fields(expires="0"), (), rule, asked_at=NOW, now=NOW) is None


@pytest.mark.parametrize(
    ("made", "lifetime", "age"),
    [
        (entry("max-age=60"), 60, 0),
        (entry("max-age=60, s-maxage=10"), 10, 0),
        (entry("max-age=60", expires=date(-60)), 60, 0),
        (entry(expires=date(90), date=date()), 90, 0),
        (entry(expires=date(90), date=date(-30)), 120, 30),
        (entry("max-age=60", age="20"), 60, 20),
        (entry("max-age=60", age="20", delay=3), 60, 23),
        (entry("max-age=60", date=date(-10)), 60, 10),
        (entry("max-age=60", date=date(+10)), 60, 0),
        (entry("max-age=60", date=date(-10), age="5"), 60, 10),
    ],
)
def test_freshness_and_age_are_reckoned_in_the_order_of_the_rfc(made, lifetime, age):
    assert (made.lifetime, made.initial_age) == (lifetime, age)


@pytest.mark.parametrize("wrong", ["max-age=-1", "max-age=x", "max-age", "max-age=1.5", "max-age=5, max-age=6"])
def test_a_lifetime_that_cannot_be_read_is_none(wrong):
    assert entry(wrong) is None
    assert entry(wrong, expires=date(60)) is None
    assert entry(wrong, etag='"1"').lifetime == 0


def test_fields_of_one_delivery_are_not_stored():
    made = entry(
        "max-age=60",
        age="1",
        connection="x-hop",
        x_hop="1",
        x_request_id="r",
        keep_alive="5",
        ratelimit="1",
        x_ratelimit_remaining="3",
        ratelimit_policy="p",
        x_kept="1",
        content_length="3",
    )
    assert dict(made.headers) == {b"cache-control": b"max-age=60", b"x-kept": b"1"}


@pytest.mark.parametrize(
    ("control", "demand", "after", "expected"),
    [
        ("max-age=60", "", 59, Use.FRESH),
        ("max-age=60", "", 60, Use.VALIDATE),
        ("max-age=60", "no-cache", 0, Use.VALIDATE),
        ("max-age=60", "max-age=0", 0, Use.VALIDATE),
        ("max-age=60", "max-age=10", 9, Use.FRESH),
        ("max-age=60", "max-age=10", 11, Use.VALIDATE),
        ("max-age=60", "max-age=bad", 5, Use.VALIDATE),
        ("max-age=60", "min-fresh=50", 5, Use.FRESH),
        ("max-age=60", "min-fresh=50", 15, Use.VALIDATE),
        ("max-age=60", "max-stale", 6000, Use.STALE),
        ("max-age=60", "max-stale=10", 65, Use.STALE),
        ("max-age=60", "max-stale=10", 75, Use.VALIDATE),
        ("max-age=60, must-revalidate", "max-stale", 65, Use.VALIDATE),
        ("max-age=60, proxy-revalidate", "max-stale", 65, Use.VALIDATE),
        ("s-maxage=60", "max-stale", 65, Use.VALIDATE),
        ("max-age=60, no-cache", "max-stale", 5, Use.VALIDATE),
        ("max-age=60, stale-while-revalidate=30", "", 80, Use.STALE_WHILE),
        ("max-age=60, stale-while-revalidate=30", "", 91, Use.VALIDATE),
        ("s-maxage=60, stale-while-revalidate=30", "", 80, Use.STALE_WHILE),
        ("max-age=60, stale-while-revalidate=30, must-revalidate", "", 80, Use.VALIDATE),
        ("max-age=60, stale-while-revalidate=30", "no-cache", 80, Use.VALIDATE),
    ],
)  # fmt: skip
def test_a_stored_answer_is_used_only_as_both_sides_allow(control, demand, after, expected):
    made = entry(control, etag='"1"')
    assert use(made, Demand.of(fields(demand)) if demand else NOTHING, NOW + after) is expected


def test_what_the_route_allows_holds_where_the_answer_says_nothing():
    rule = RouteCacheConfig(stale_while_revalidate=30, stale_if_error=40)
    assert use(entry("max-age=60", rule=rule), NOTHING, NOW + 80) is Use.STALE_WHILE
    assert serves_on_error(entry("max-age=60", rule=rule), NOW + 99)
    assert not serves_on_error(entry("max-age=60", rule=rule), NOW + 101)
    for strict in ("s-maxage=60", "max-age=60, must-revalidate", "max-age=60, stale-while-revalidate=0"):
        assert use(entry(strict, rule=rule), NOTHING, NOW + 80) is Use.VALIDATE
    assert not serves_on_error(entry("max-age=60, must-revalidate", rule=rule), NOW + 61)


def test_pragma_counts_where_there_is_no_cache_control():
    assert Demand.of([(b"pragma", b"no-cache")]).no_cache
    assert not Demand.of([(b"pragma", b"no-cache"), (b"cache-control", b"max-age=5")]).no_cache


def test_a_304_renews_the_headers_but_not_what_is_bound_to_the_body():
    old = entry("max-age=60", etag='"1"', content_encoding="gzip", x_version="1", x_other="kept")
    new = refreshed(
        old,
        fields("max-age=90", etag='"2"', content_encoding="br", x_version="2", content_length="0", set_cookie="a=b"),
        PLAIN,
        asked_at=NOW + 70,
        now=NOW + 70,
    )
    assert (new.lifetime, new.stored_at, new.status) == (90, NOW + 70, 200)
    assert dict(new.headers) == {
        b"cache-control": b"max-age=90", b"etag": b'"1"', b"content-encoding": b"gzip", b"x-version": b"2",
        b"x-other": b"kept",
    }  # fmt: skip


def test_an_answer_is_kept_as_long_as_it_can_be_of_use():
    assert keep_for(entry("max-age=60"), NOW, 1000) == 60
    assert keep_for(entry("max-age=60, stale-if-error=40"), NOW, 1000) == 100
    assert keep_for(entry("max-age=60", etag='"1"'), NOW, 100_000) > 1000
    assert keep_for(entry("max-age=6000"), NOW, 1000) == 1000
