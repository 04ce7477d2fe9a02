"""Routes read backwards: where a client finds what an upstream has."""

from __future__ import annotations

import pytest

from app.config import RouteConfig
from app.http.openapi.places import general_place, is_reachable, places
from app.http.routes import RouteTable


def route(path: str, **more):
    return RouteConfig(path=path, upstream="u", **more)


def found(config: RouteConfig, path: str) -> list[str]:
    table = RouteTable([config])
    return list(places(table.routes[0], path))


@pytest.mark.parametrize(
    ("config", "theirs", "clients"),
    [
        (route("/v1/*"), "/v1/chat", ["/v1/chat"]),
        (route("/v1/*"), "/v1/chats/{id}", ["/v1/chats/{id}"]),
        (route("/v1/*"), "/v2/chat", []),
        (route("/v1/*"), "/v1", []),
        (route("/v1/*"), "/{version}/chat", ["/v1/chat"]),
        (route("/users/me"), "/users/{id}", ["/users/me"]),
        (route("/users/{who}"), "/users/{id}", ["/users/{id}"]),
        (route("/users/{who}"), "/users/me", ["/users/me"]),
        (route("/users/{who}"), "/users", []),
        (route("/files/a.json"), "/files/{name}.json", ["/files/a.json"]),
        (route("/files/a.txt"), "/files/{name}.json", []),
        (route("/api/users/*", strip_prefix="/api/users"), "/", ["/api/users/"]),
        (route("/api/users", strip_prefix="/api/users"), "/", ["/api/users"]),
        (route("/api/users/*", strip_prefix="/api/users"), "/{id}", ["/api/users/{id}"]),
        (route("/api/*", strip_prefix="/api"), "/users/{id}/posts", ["/api/users/{id}/posts"]),
        (route("/me", rewrite="/users/self"), "/users/{id}", ["/me"]),
        (route("/u/{who}", rewrite="/users/{who}/profile"), "/users/{id}/profile", ["/u/{id}"]),
        (route("/u/{who}", rewrite="/users/{who}/profile"), "/users/me/profile", ["/u/me"]),
        (route("/u/{a}/{b}", rewrite="/pairs/{b}"), "/pairs/{id}", ["/u/{a}/{id}"]),
        (route("/t/{who}/*", rewrite="/tenants/{who}/{rest}"), "/tenants/{t}/x/{y}", ["/t/{t}/x/{y}"]),
        (route("/t/{who}/*", rewrite="/tenants/{who}/{rest}"), "/tenants/{t}", []),
        (route("/d/{a}", rewrite="/docs/{a}.pdf"), "/docs/one.pdf", ["/d/one"]),
        (route("/d/{a}", rewrite="/docs/{a}.pdf"), "/docs/{file}", ["/d/{a}"]),
        (route("/any/*", rewrite="/one"), "/one", []),
    ],
)
def test_a_path_of_an_upstream_is_where_a_client_reaches_it(config, theirs, clients):
    assert found(config, theirs) == clients


def test_where_it_is_said_to_be_requests_really_arrive():
    configs = [
        route("/t/{who}/*", rewrite="/tenants/{who}/{rest}"),
        route("/api/*", strip_prefix="/api"),
        route("/u/{who}", rewrite="/users/{who}/profile"),
    ]
    table = RouteTable(configs)
    for theirs in ("/tenants/{t}/x", "/tenants/{t}/", "/users/{id}/profile", "/", "/a/{b}"):
        for each in table.routes:
            for place in places(each, theirs):
                sent = theirs.replace("{t}", "7").replace("{id}", "7").replace("{b}", "7")
                clients = place.replace("{t}", "7").replace("{id}", "7").replace("{b}", "7")
                assert table.match("GET", clients.encode()).path == sent


def test_a_route_of_which_no_more_is_known_has_names_for_its_parts():
    table = RouteTable([route("/a/{id}/*"), route("/b/{rest}/*"), route("/c")])
    assert [general_place(each) for each in table.routes] == ["/a/{id}/{rest}", "/b/{rest}/{rest_}", "/c"]


def test_what_an_earlier_route_or_the_gateway_itself_takes_is_not_reachable():
    table = RouteTable([route("/v1/special"), route("/v1/*"), route("/health/*"), route("/x", hosts=("*.a.org",))])
    special, rest, health, hosted = table.routes
    assert is_reachable(table, special, "get", "/v1/special")
    assert not is_reachable(table, rest, "get", "/v1/special")
    assert is_reachable(table, rest, "get", "/v1/{name}")
    assert not is_reachable(table, health, "get", "/health/live")
    assert is_reachable(table, None, "get", "/health/live")
    assert is_reachable(table, hosted, "get", "/x")
    assert not is_reachable(table, rest, "trace", "/v1/{name}")


@pytest.mark.parametrize("path", ["/v1/../admin", "/v1//x", "/v1/{a/b}", "/v1/é", "/v1/%zz", "/v1/a b"])
def test_a_path_that_no_client_would_send_so_is_not_reachable(path):
    table = RouteTable([route("/*")])
    assert not is_reachable(table, table.routes[0], "get", path)


def test_a_segment_of_many_parameters_takes_no_time():
    assert found(route("/" + "a" * 60 + "b"), "/" + "{a}{b}{c}{d}{e}{f}{g}{h}" * 20 + "c") == []
