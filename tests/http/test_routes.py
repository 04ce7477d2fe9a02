"""The route table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import RouteConfig
from app.errors import BadRequest, ConfigError
from app.http.route_checks import unreachable_routes
from app.http.routes import Match, MethodMismatch, RouteTable


def route(path, upstream="u", **options):
    return RouteConfig(path=path, upstream=upstream, **options)


def found(table, path, method="GET"):
    match = table.match(method, path)
    assert isinstance(match, Match), match
    return match.route.config.upstream, match.path


def test_exact_paths_segments_and_prefixes():
    table = RouteTable(
        [route("/a", "exact"), route("/a/{id}/c", "segment"), route("/p/*", "prefix"), route("/", "root")]
    )
    assert found(table, b"/a") == ("exact", "/a")
    assert found(table, b"/a/1/c") == ("segment", "/a/1/c")
    assert found(table, b"/p/") == ("prefix", "/p/")
    assert found(table, b"/p/x/y") == ("prefix", "/p/x/y")
    assert found(table, b"/") == ("root", "/")
    for path in (b"/a/", b"/A", b"/a/c", b"/a//c", b"/a/1/2/c", b"/p", b"/px", b"/b"):
        assert table.match("GET", path) is None


@pytest.mark.parametrize("turned", [False, True])
def test_the_first_route_of_the_file_wins(turned):
    routes = [route("/a/b", "exact"), route("/a/*", "prefix")]
    table = RouteTable(routes[::-1] if turned else routes)
    assert found(table, b"/a/b")[0] == ("prefix" if turned else "exact")


def test_a_method_may_belong_to_another_route_of_the_same_path():
    table = RouteTable([route("/a", "read", methods=("GET",)), route("/*", "write", methods=("post", "PUT"))])
    assert found(table, b"/a")[0] == "read"
    assert found(table, b"/a", "POST")[0] == "write"
    assert table.match("DELETE", b"/a") == MethodMismatch(("GET", "POST", "PUT"))
    assert table.match("GET", b"/b") == MethodMismatch(("POST", "PUT"))
    assert RouteTable([route("/a")]).match("GET", b"/b") is None


def test_what_is_matched_is_what_is_forwarded():
    table = RouteTable([route("/public/*", "open"), route("/admin/*", "closed")])
    assert found(table, b"/public/../admin/x") == ("closed", "/admin/x")
    assert found(table, b"/public/%2e%2e/admin/x") == ("closed", "/admin/x")
    assert found(table, b"//admin/x") == ("closed", "/admin/x")
    assert found(table, b"/%61dmin/x") == ("closed", "/admin/x")
    with pytest.raises(BadRequest):
        table.match("GET", b"/public/..%2fadmin")


def test_a_prefix_is_stripped():
    table = RouteTable(
        [route("/v1/chat", strip_prefix="/v1"), route("/s/*", strip_prefix="/s"), route("/t", strip_prefix="/t")]
    )
    assert found(table, b"/v1/chat")[1] == "/chat"
    assert found(table, b"/s/a/b")[1] == "/a/b"
    assert found(table, b"/s/")[1] == "/"
    assert found(table, b"/t")[1] == "/"


@pytest.mark.parametrize(
    ("path", "strip_prefix"),
    [("/a//b", ""), ("/a/../b", ""), ("/a b", ""), ("/é", ""), ("/a%2fb", ""), ("/x{y}", ""), ("/a/b", "/b"),
     ("/ab", "/a"), ("/a", "/a/"), ("/a", "a")],
)  # fmt: skip
def test_a_route_that_no_request_can_have_is_an_error_that_names_it(path, strip_prefix):
    with pytest.raises(ConfigError, match="the route"):
        RouteTable([route(path, strip_prefix=strip_prefix)])


PATHS = st.builds(
    lambda parts, end: ("/" + "/".join(parts) if parts else "") + (end if parts or end else "/"),
    st.lists(st.sampled_from(["a", "b", "{x}"]), max_size=3),
    st.sampled_from(["", "/*"]),
)


@given(st.lists(PATHS, min_size=1, max_size=5), st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=4))
def test_an_unreachable_route_is_never_taken_and_the_first_match_is(paths, segments):
    routes = [route(path, str(index)) for index, path in enumerate(paths)]
    path = "/" + "/".join(segment for segment in segments[:-1] if segment) + "/" + segments[-1]
    match = RouteTable(routes).match("GET", path.encode())
    alone = [r for r in routes if RouteTable([r]).match("GET", path.encode())]
    assert (match.route.config if match else None) == (alone[0] if alone else None)
    if match:
        assert match.route.index not in [shadow.route.index for shadow in unreachable_routes(routes)]


def test_hosts_are_part_of_the_match():
    table = RouteTable(
        [
            route("/a", "wild", hosts=("*.example.com",)),
            route("/a", "named", hosts=("example.com", "other.org")),
            route("/a", "rest", methods=("POST",)),
        ]
    )
    assert table.by_host
    for host, upstream in [("x.example.com", "wild"), ("x.y.example.com", "wild"), ("example.com", "named"),
                           ("other.org", "named")]:  # fmt: skip
        assert table.match("GET", b"/a", host).route.config.upstream == upstream
    assert table.match("GET", b"/a", "badexample.com") == MethodMismatch(("POST",))
    assert table.match("GET", b"/a", "") == MethodMismatch(("POST",))
    assert not RouteTable([route("/a")]).by_host


def test_a_path_is_rewritten_from_its_own_parts():
    table = RouteTable(
        [
            route("/users/{id}/files/*", rewrite="/v2/{id}/{rest}"),
            route("/old/{year}/{month}", rewrite="/archive/{month}-{year}"),
            route("/here", rewrite="/there"),
        ]
    )
    assert found(table, b"/users/7%20a/files/b/c/")[1] == "/v2/7%20a/b/c/"
    assert found(table, b"/users/7/files/")[1] == "/v2/7/"
    assert found(table, b"/old/2026/11")[1] == "/archive/11-2026"
    assert found(table, b"/here")[1] == "/there"


def test_a_wide_route_leaves_the_gateways_own_paths_alone_and_one_that_names_them_takes_them():
    table = RouteTable([route("/health", "mine"), route("/{page}", "pages"), route("/*", "all")])
    assert found(table, b"/health") == ("mine", "/health")
    assert found(table, b"/about") == ("pages", "/about")
    for own in (b"/docs", b"/health/ready", b"/api/v1/generations/gen_1", b"/connection/sse", b"/playground/"):
        assert table.match("GET", own) is None
    assert found(table, b"/api/v1/other") == ("all", "/api/v1/other")
