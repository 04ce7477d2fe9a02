"""The cache end to end: a client, the gateway, an upstream, each behaviour of RFC 9111 over sockets."""

from __future__ import annotations

import asyncio
import random

import pytest

from app.config import RouteCacheConfig, RouteConfig
from tests.http.cache.conftest import LIMIT, answer, read_answer, site
from tests.support.waiting import eventually

FRESH = "Cache-Control: max-age=60"
TAG = 'ETag: "1"'


def numbered(*fields):
    return lambda head, number: answer(b"%d" % number, *fields)


def revalidating(*fields):
    """304 for the tag 1, else the number of the request."""

    def reply(head, number):
        if b'if-none-match: "1"' in head:
            return b"HTTP/1.1 304 Not Modified\r\nX-Round: %d\r\n%b\r\n" % (
                number,
                "".join(f"{line}\r\n" for line in fields).encode(),
            )
        return answer(b"%d" % number, TAG, *fields)

    return reply


async def test_a_fresh_answer_is_given_again_with_its_age_and_asked_for_anew_when_it_is_stale():
    async with site(numbered(FRESH, "X-A: 1", "Connection: x-hop", "X-Hop: 1", "X-RateLimit-Remaining: 5")) as at:
        first = await at.ask()
        assert (first.body, first.fields["x-ratelimit-remaining"]) == (b"1", "5")
        assert first.fields["cache-status"] == "tidegate; fwd=uri-miss; fwd-status=200; stored"
        assert "age" not in first.fields
        at.pass_time(59)
        again = await at.ask()
        assert (again.status, again.body, again.fields["age"], again.fields["x-a"]) == (200, b"1", "59", "1")
        assert again.fields["cache-status"] == "tidegate; hit; ttl=1"
        assert not {"x-hop", "x-ratelimit-remaining"} & set(again.fields)
        assert again.fields["x-request-id"] != first.fields["x-request-id"]
        at.pass_time(1)
        assert (await at.ask()).body == b"2"
        assert (await at.ask()).body == b"2"


async def test_why_the_upstream_is_asked_is_told():
    async with site(revalidating("Cache-Control: max-age=60")) as at:
        await at.ask()
        wanted = await at.ask("/", "Cache-Control: no-cache")
        assert wanted.fields["cache-status"] == "tidegate; fwd=request; fwd-status=304; stored"
        at.pass_time(61)
        assert (await at.ask()).fields["cache-status"] == "tidegate; fwd=stale; fwd-status=304; stored"


@pytest.mark.parametrize("fields", [(), ("Cache-Control: no-store",), (FRESH, "Vary: *"), (FRESH, "Set-Cookie: a=b")])
async def test_what_may_not_be_stored_is_asked_for_each_time(fields):
    async with site(numbered(*fields)) as at:
        assert [(await at.ask()).body for _ in range(3)] == [b"1", b"2", b"3"]


async def test_a_different_query_host_or_path_is_a_different_answer_and_another_spelling_is_not():
    async with site(numbered(FRESH)) as at:
        assert (await at.ask("/a?q=1")).body == b"1"
        assert (await at.ask("/a?q=2")).body == b"2"
        assert (await at.ask("/a")).body == b"3"
        assert (await at.ask("/a", "Host: other")).body == b"4"
        assert (await at.ask("/b/../%61?q=1", "Host: GW")).body == b"1"


async def test_answers_that_vary_are_kept_apart_and_side_by_side():
    async with site(numbered(FRESH, "Vary: Accept-Language, X-B")) as at:
        assert (await at.ask("/", "Accept-Language: de")).body == b"1"
        assert (await at.ask("/", "Accept-Language: en")).body == b"2"
        assert (await at.ask("/", "Accept-Language: de")).body == b"1"
        assert (await at.ask("/", "Accept-Language: en", "X-B: 1")).body == b"3"
        assert (await at.ask("/")).body == b"4"
        assert (await at.ask("/", "Accept-Language: en")).body == b"2"
        await at.ask("/", method="PUT")
        assert (await at.ask("/", "Accept-Language: de")).body == b"6"


async def test_a_stale_answer_is_validated_and_its_headers_are_renewed():
    async with site(revalidating(FRESH)) as at:
        await at.ask()
        at.pass_time(61)
        renewed = await at.ask()
        assert (renewed.status, renewed.body, renewed.fields["x-round"], renewed.fields["age"]) == (200, b"1", "2", "0")
        assert (await at.ask()).fields["x-round"] == "2"
        assert len(at.origin.asked) == 2


async def test_no_cache_in_an_answer_means_that_each_request_is_validated():
    async with site(revalidating("Cache-Control: no-cache")) as at:
        assert [(await at.ask()).body for _ in range(3)] == [b"1"] * 3
        assert len(at.origin.asked) == 3
        assert b"if-none-match" not in at.origin.asked[0]


async def test_a_client_that_has_the_answer_is_told_so_on_a_miss_and_on_a_hit():
    async with site(revalidating(FRESH, "Content-Type: text/x")) as at:
        miss = await at.ask("/", 'If-None-Match: "1"')
        assert (miss.status, miss.body, miss.fields["etag"]) == (304, b"", '"1"')
        assert b"if-none-match" not in at.origin.asked[0]
        await eventually(lambda: at.cache.counts.bytes_stored == 1)
        hit = await at.ask("/", 'If-None-Match: W/"1", "x"')
        assert (hit.status, hit.fields["cache-control"]) == (304, "max-age=60")
        assert "content-type" not in hit.fields
        assert (await at.ask("/", 'If-None-Match: "2"')).body == b"1"
        assert len(at.origin.asked) == 1


async def test_head_is_answered_from_the_answer_to_get_and_never_stored():
    async with site(lambda head, number: answer(b"" if head.startswith(b"head") else b"body", FRESH)) as at:
        await at.ask("/", method="HEAD")
        assert (await at.ask()).body == b"body"
        head = await at.ask("/", method="HEAD")
        assert (head.fields["content-length"], head.body, head.fields["age"]) == ("4", b"", "0")
        assert len(at.origin.asked) == 2


async def test_a_request_can_ask_for_a_stored_answer_only_or_for_none():
    async with site(numbered(FRESH)) as at:
        refused = await at.ask("/", "Cache-Control: only-if-cached")
        assert (refused.status, refused.fields["x-gateway-error"]) == (504, "not_cached")
        await at.ask()
        assert (await at.ask("/", "Cache-Control: only-if-cached")).body == b"1"
        assert (await at.ask("/", "Cache-Control: no-store")).body == b"2"
        assert (await at.ask("/", "Cache-Control: no-cache")).body == b"3"
        assert (await at.ask("/", "Cache-Control: max-age=0")).body == b"4"
        assert (await at.ask("/", "Range: bytes=0-1")).body == b"5"
        assert (await at.ask()).body == b"4"


async def test_clients_cannot_force_requests_where_the_route_does_not_let_them():
    async with site(numbered(FRESH), clients_may_refresh=False) as at:
        for field in ("no-cache", "no-store", "max-age=0", "min-fresh=100"):
            assert (await at.ask("/", f"Cache-Control: {field}")).body == b"1"
        assert (await at.ask("/", "Pragma: no-cache")).body == b"1"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_an_unsafe_method_forgets_its_target_and_where_it_points_unless_it_failed(method):
    def reply(head, number):
        if head.startswith(b"get"):
            return answer(b"%d" % number, FRESH)
        if b"x-fail" in head:
            return answer(b"", status="500 No")
        return answer(b"", "Location: /new", "Content-Location: http://other/far", status="201 Made")

    async with site(reply) as at:
        for path in ("/a", "/new", "/far", "/a?q"):
            await at.ask(path)
        await at.ask("/a", "X-Fail: 1", method=method)
        assert (await at.ask("/a")).body == b"1"
        await at.ask("/a", method=method)
        assert (await at.ask("/a")).body == b"7"
        assert (await at.ask("/new")).body == b"8"
        assert (await at.ask("/far")).body == b"3"
        assert (await at.ask("/a?q")).body == b"4"


async def test_an_answer_that_was_on_its_way_when_its_target_changed_is_not_kept():
    go = asyncio.Event()

    async def slow(number):
        await go.wait()
        return answer(b"old", FRESH)

    async with site(lambda head, number: slow(number) if number == 1 else answer(b"%d" % number, FRESH)) as at:
        reading = asyncio.create_task(at.ask())
        await eventually(lambda: len(at.origin.asked) == 1)
        await at.ask("/", method="PUT")
        newer = await at.ask()
        assert newer.body == b"3"
        go.set()
        assert (await reading).body == b"old"
        assert (await at.ask()).body == b"3"


async def test_a_stale_answer_is_given_while_one_request_fetches_a_new_one():
    async with site(numbered("Cache-Control: max-age=10, stale-while-revalidate=30")) as at:
        await at.ask()
        at.pass_time(20)
        stale = [await at.ask() for _ in range(1)]
        assert {it.body for it in stale} == {b"1"}
        assert stale[0].fields["cache-status"] == "tidegate; hit; ttl=-10"
        await eventually(lambda: at.cache.counts.bytes_stored == 2)
        assert (await at.ask()).body == b"2"
        at.pass_time(41)
        assert (await at.ask()).body == b"3"


async def test_a_stale_answer_is_given_instead_of_an_error_as_long_as_that_is_allowed():
    def reply(head, number):
        return answer(b"fine", FRESH) if number == 1 else answer(b"broken", status="503 Busy")

    async with site(reply, stale_if_error=30) as at:
        await at.ask()
        at.pass_time(80)
        assert [(await at.ask()).body for _ in range(2)] == [b"fine"] * 2
        assert len(at.origin.asked) == 3
        at.pass_time(20)
        broken = await at.ask()
        assert (broken.status, broken.body) == (503, b"broken")


async def test_a_stale_answer_is_given_when_the_upstream_does_not_answer_at_all():
    async def never():
        raise ConnectionResetError

    async with site(lambda head, number: answer(b"fine", FRESH) if number == 1 else never(), stale_if_error=30) as at:
        await at.ask()
        at.pass_time(80)
        assert (await at.ask()).body == b"fine"
        at.pass_time(80)
        assert (await at.ask()).status == 502


async def test_a_thousand_clients_who_miss_at_once_are_one_request():
    go = asyncio.Event()

    async def slow():
        await go.wait()
        return answer(b"shared", FRESH)

    async with site(lambda head, number: slow()) as at:
        clients = [asyncio.create_task(at.ask()) for _ in range(1000)]
        flights = at.cache._flights
        await eventually(lambda: sum(it.riders for by in flights.values() for it in by.values()) == 1000, 60)
        go.set()
        answers = await asyncio.gather(*clients)
        assert {(it.status, it.body) for it in answers} == {(200, b"shared")}
        assert len(at.origin.asked) == 1
        assert sum("collapsed" in it.fields["cache-status"] for it in answers) == 999


async def test_whoever_leaves_takes_the_answer_from_nobody_and_the_last_one_ends_it():
    go = asyncio.Event()

    async def slow():
        await go.wait()
        return answer(b"shared", FRESH)

    async with site(lambda head, number: slow()) as at:
        flights = at.cache._flights

        def riders():
            return sum(it.riders for by in flights.values() for it in by.values())

        _, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n")
        await eventually(lambda: riders() == 1)
        staying = asyncio.create_task(at.ask())
        await eventually(lambda: riders() == 2)
        writer.close()
        await eventually(lambda: riders() == 1)
        go.set()
        assert (await staying).body == b"shared"
        assert len(at.origin.asked) == 1
        go.clear()
        at.pass_time(100)
        leaving = asyncio.create_task(at.ask())
        await eventually(lambda: riders() == 1)
        leaving.cancel()
        await eventually(lambda: not flights)
        go.set()
        await eventually(lambda: at.origin.hung_up >= 1)
        assert (await at.ask()).body == b"shared"


async def test_clients_who_waited_for_an_answer_that_is_not_for_the_store_ask_for_themselves():
    go = asyncio.Event()

    async def slow(number):
        await go.wait()
        return answer(b"%d" % number, "Cache-Control: private")

    async with site(lambda head, number: slow(number)) as at:
        clients = [asyncio.create_task(at.ask()) for _ in range(20)]
        flights = at.cache._flights
        await eventually(lambda: sum(it.riders for by in flights.values() for it in by.values()) == 20)
        go.set()
        answers = await asyncio.gather(*clients)
        assert sorted(int(it.body) for it in answers) == list(range(1, 21))


async def test_everybody_who_waited_hears_of_a_failure():
    go = asyncio.Event()

    async def broken():
        await go.wait()
        raise ConnectionResetError

    async with site(lambda head, number: broken()) as at:
        clients = [asyncio.create_task(at.ask()) for _ in range(20)]
        flights = at.cache._flights
        await eventually(lambda: sum(it.riders for by in flights.values() for it in by.values()) == 20)
        go.set()
        assert {it.status for it in await asyncio.gather(*clients)} == {502}
        assert len(at.origin.asked) == 1


def chunked(*parts, fields=(FRESH,)):
    head = "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *fields, "", ""]).encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def test_a_body_is_streamed_while_it_is_stored():
    async with site(lambda head, number: chunked(b"first")[: -len(b"0\r\n\r\n")]) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n")
        async with asyncio.timeout(10):
            await reader.readuntil(b"first")  # although the upstream has not ended the answer
        writer.close()


async def test_answers_of_unknown_length_are_stored_and_followers_get_them_whole():
    async with site(lambda head, number: chunked(b"a" * 10, b"b" * 10)) as at:
        answers = await asyncio.gather(*(at.ask() for _ in range(10)))
        assert {it.body for it in answers} == {b"a" * 10 + b"b" * 10}
        assert (await at.ask()).fields["content-length"] == "20"
        assert len(at.origin.asked) == 1


@pytest.mark.parametrize("known", [True, False])
async def test_a_body_past_the_limit_reaches_everybody_and_is_not_stored(known):
    large = random.randbytes(LIMIT * 50)
    parts = [large[i : i + 700] for i in range(0, len(large), 700)]
    async with site(lambda head, number: answer(large, FRESH) if known else chunked(*parts)) as at:
        answers = await asyncio.gather(*(at.ask() for _ in range(5)))
        assert all(it.body == large for it in answers)
        assert (await at.ask()).body == large
        if known:
            assert len(at.origin.asked) == 6
        assert at.cache.counts.bytes_stored == 0


async def test_an_answer_that_broke_off_is_cut_for_the_client_too_and_not_stored():
    half = answer(b"half and more", FRESH)[: -len(b" and more")]
    async with site(lambda head, number: half if number == 1 else answer(b"whole", FRESH)) as at:
        at.origin.last = 1
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n")
        assert (await reader.read()).endswith(b"half")
        writer.close()
        assert (await at.ask()).body == b"whole"


# Whose answer it is.


def tells(head, number):
    """Answers with all that the upstream is told of the caller."""
    lines = [
        line for line in head.split(b"\r\n") if line.startswith((b"x-user", b"x-company", b"authorization", b"cookie"))
    ]
    return answer(b"|".join(lines), FRESH)


async def test_on_routes_that_look_at_tokens_each_caller_has_a_cache_of_its_own():
    async with site(tells, auth="required") as at:
        generator = random.Random(7)
        callers = [f"{user}/{company}/{roles}" for user in "abc" for company in ("x", "y") for roles in ("", "admin")]
        expected = {}
        for _ in range(150):
            caller = generator.choice(callers)
            got = await at.ask("/me", f"Authorization: Bearer {caller}")
            user, company, roles = caller.split("/")
            assert f"x-user-id: {user}|x-company-id: {company}" in got.body.decode()
            assert ("x-user-roles: admin" in got.body.decode()) == (roles == "admin")
            assert expected.setdefault(caller, got.body) == got.body
        assert len(at.origin.asked) == len(expected)
        assert (await at.ask("/me")).status == 401
        assert (await at.ask("/me", "Authorization: Bearer bad")).status == 401


async def test_callers_share_only_what_says_that_it_may_be_shared():
    def reply(head, number):
        return answer(b"%d" % number, "Cache-Control: public, max-age=60" if b"/public" in head else FRESH)

    async with site(reply, auth="required", per="company") as at:
        assert (await at.ask("/public", "Authorization: Bearer a/x")).body == b"1"
        assert (await at.ask("/public", "Authorization: Bearer b/x")).body == b"1"
        assert (await at.ask("/public", "Authorization: Bearer c/y")).body == b"2"
        assert (await at.ask("/own", "Authorization: Bearer a/x")).body == b"3"
        assert (await at.ask("/own", "Authorization: Bearer b/x")).body == b"4"


async def test_credentials_and_cookies_never_reach_another_on_open_routes():
    async with site(tells) as at:
        generator = random.Random(3)
        for _ in range(150):
            fields = [
                f"{name}: {generator.randrange(5)}" for name in ("Authorization", "Cookie") if generator.random() < 0.5
            ]
            got = (await at.ask(f"/{generator.randrange(3)}", *fields)).body
            told = set(got.decode().split("|")) - {""}
            assert told <= {field.lower() for field in fields}


async def test_a_caller_who_changes_something_changes_it_for_all():
    async with site(numbered(FRESH), auth="required") as at:
        a, b = "Authorization: Bearer a", "Authorization: Bearer b"
        assert [(await at.ask("/", who)).body for who in (a, b, a)] == [b"1", b"2", b"1"]
        await at.ask("/", a, method="PUT")
        assert [(await at.ask("/", who)).body for who in (a, b)] == [b"4", b"5"]


async def test_routes_do_not_share_answers_and_a_change_by_one_route_is_one_for_the_other():
    cache = RouteCacheConfig()
    routes = [
        RouteConfig(path="/a", upstream="u", auth="none", methods=("PUT",)),
        RouteConfig(path="/a", upstream="u", auth="none", cache=cache),
        RouteConfig(path="/b", upstream="u", auth="none", rewrite="/a", cache=cache),
    ]
    async with site(numbered(FRESH), routes=routes) as at:
        assert [(await at.ask(path)).body for path in ("/a", "/b", "/a")] == [b"1", b"2", b"1"]
        await at.ask("/a", method="PUT")
        assert [(await at.ask(path)).body for path in ("/a", "/b")] == [b"4", b"2"]


async def test_what_a_connection_carries_after_an_answer_out_of_the_cache_is_right():
    async with site(numbered(FRESH, TAG)) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        for number in range(20):
            writer.write(b"GET /%d HTTP/1.1\r\nHost: gw\r\n\r\n" % (number % 3))
            assert (await read_answer(reader)).body == b"%d" % (number % 3 + 1)
        writer.close()


@pytest.mark.parametrize("field", ["X-HTTP-Method-Override: DELETE", "X-Original-URL: /admin", "x-rewrite-url: /admin"])
async def test_fields_that_make_another_request_of_it_do_not_poison_the_cache(field):
    async with site(numbered(FRESH)) as at:
        assert (await at.ask("/", field)).body == b"1"
        assert (await at.ask("/")).body == b"2"
        assert (await at.ask("/", field)).body == b"3"
        assert (await at.ask("/")).body == b"2"
