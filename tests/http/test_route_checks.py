"""What is said about a table of routes before any request comes."""

from __future__ import annotations

import pytest

from app.config import RouteConfig
from app.http.own_paths import OwnPaths
from app.http.route_checks import findings, unreachable_routes


def route(path, upstream="u", **options):
    return RouteConfig(path=path, upstream=upstream, **options)


@pytest.mark.parametrize(
    ("earlier", "later", "shadowed"),
    [
        ("/a", "/a", True),
        ("/*", "/a", True),
        ("/*", "/", True),
        ("/*", "/a/*", True),
        ("/a/*", "/*", False),
        ("/a/*", "/a", False),
        ("/a/*", "/a/", True),
        ("/a/*", "/a/{x}", True),
        ("/a/{x}", "/a/b", True),
        ("/a/{x}", "/a/", False),
        ("/a/b", "/a/{x}", False),
        ("/{x}/b", "/{y}/b", True),
        ("/{x}/*", "/a/b/*", True),
        ("/{x}/*", "/a", False),
        ("/{x}/*", "/*", False),
    ],
)
def test_routes_that_are_never_taken_are_found(earlier, later, shadowed):
    assert [found.route.config.path for found in unreachable_routes([route(earlier), route(later)])] == [
        later
    ] * shadowed


def test_several_routes_together_may_shadow_one():
    get, rest = route("/a/*", methods=("GET",)), route("/*", methods=("POST", "GET"))
    (shadow,) = unreachable_routes([get, rest, route("/a/b", methods=("GET", "POST"))])
    assert [each.config for each in shadow.by] == [get, rest]
    assert unreachable_routes([get, rest, route("/a/b", methods=("PUT", "GET"))]) == []


def test_a_route_for_other_hosts_shadows_nothing():
    assert unreachable_routes([route("/a", hosts=("a.org",)), route("/a")]) == []
    assert unreachable_routes([route("/a", hosts=("a.org",)), route("/a", hosts=("b.org",))]) == []
    assert len(unreachable_routes([route("/a"), route("/a", hosts=("b.org",))])) == 1


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ([route("/a/{x}/c"), route("/a/b/*")], "match some of the same requests"),
        ([route("/{x}/b"), route("/a/{y}")], "match some of the same requests"),
        ([route("/a/*", auth="optional"), route("/{x}/b")], "match some of the same requests"),
        ([route("/a/*", auth="none")], "without looking at a token"),
        ([route("/a", forward_authorization=True)], "passes the caller's token on"),
        ([route("/docs")], "the gateway's own answer"),
    ],
)
def test_what_may_not_be_meant_is_said(routes, words):
    assert words in " ".join(finding.what for finding in findings(routes))


@pytest.mark.parametrize(
    "routes",
    [
        [route("/a/b"), route("/a/*")],
        [route("/a/{x}/c"), route("/b/*")],
        [route("/a", methods=("GET",)), route("/a", methods=("POST",))],
        [route("/a", hosts=("a.org",)), route("/a", hosts=("b.org",))],
        [route("/login", auth="none"), route("/*")],
    ],
)
def test_what_is_clear_is_not_complained_about(routes):
    assert findings(routes) == []


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/api/v1/auth/*", ["/api/v1/auth/logout"]),
        ("/api/v1/{service}/*", ["/api/v1/auth/logout", "/api/v1/ws", "/api/v1/ws/*"]),
        ("/api/v1/auth/login", []),
        ("/*", []),
        ("/{any}/*", []),
    ],
)
def test_who_routes_what_the_gateway_answers_itself_is_told(path, kept):
    own = OwnPaths(("/api/v1/auth/logout", "/api/v1/ws", "/api/v1/ws/*", "/health"))
    told = [found.what for found in findings([route(path, auth="required")], own) if "does not get" in found.what]
    for each in kept:
        assert each in told[0]
    assert bool(told) == bool(kept)


def test_who_names_the_path_has_taken_it():
    own = OwnPaths(("/api/v1/auth/logout",))
    told = [found.what for found in findings([route("/api/v1/auth/logout"), route("/api/v1/auth/*")], own)]
    assert len(told) == 1
    assert "takes the place of the gateway's own answer" in told[0]
