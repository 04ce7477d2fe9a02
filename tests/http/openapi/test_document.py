"""Documents of upstreams: what is kept of a good one, and how little a bad one can do."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.http.openapi.document import UpstreamDocument, read_document
from app.http.openapi.references import Unusable

OK = {"200": {"description": "ok"}}


def read(document: Any, prefix: str = "", name: str = "u") -> UpstreamDocument:
    content = document if isinstance(document, bytes) else orjson.dumps(document)
    work = read_document(name, content, prefix)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def document(paths: Any, components: Any = None, **more: Any) -> dict[str, Any]:
    info = {"title": "Chat", "version": "2"}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components or {}, **more}


def answering(schema: Any) -> dict[str, Any]:
    return {"200": {"description": "ok", "content": {"application/json": {"schema": schema}}}}


def one(schema: Any, components: Any = None, **more: Any):
    read_one = read(document({"/a": {"get": {"responses": answering(schema)}}}, components, **more))
    return read_one.operations[0]


def schema_of(operation) -> Any:
    return operation.body["responses"]["200"]["content"]["application/json"]["schema"]


def test_components_get_the_upstreams_name_and_references_follow():
    components = {"schemas": {"A": {"properties": {"b": {"$ref": "#/components/schemas/B"}}}, "B": {"type": "string"}}}
    whole = read(document({"/a": {"get": {"responses": answering({"$ref": "#/components/schemas/A"})}}}, components))
    assert schema_of(whole.operations[0]) == {"$ref": "#/components/schemas/u.A"}
    assert whole.components["schemas", "u.A"]["properties"]["b"] == {"$ref": "#/components/schemas/u.B"}
    assert whole.title == "Chat 2"


def test_a_schema_may_refer_to_itself_and_a_discriminator_to_schemas_by_name():
    tree = {
        "properties": {"left": {"$ref": "#/components/schemas/Tree"}},
        "discriminator": {"propertyName": "kind", "mapping": {"x": "Tree", "y": "#/components/schemas/Tree"}},
    }
    whole = read(
        document(
            {"/a": {"get": {"responses": answering({"$ref": "#/components/schemas/Tree"})}}},
            {"schemas": {"Tree": tree}},
        )
    )
    mapping = whole.components["schemas", "u.Tree"]["discriminator"]["mapping"]
    assert mapping == {"x": "#/components/schemas/u.Tree", "y": "#/components/schemas/u.Tree"}
    assert whole.operations[0].body is not None


@pytest.mark.parametrize(
    "reference",
    [
        "https://evil.example/schema.json",
        "//evil.example/x",
        "other.json#/A",
        "#/components/schemas/Missing",
        "#/components/securitySchemes/x",
        "#/paths/~1a/get",
        "#/definitions/A",
        "#",
        "",
    ],
)
def test_an_operation_that_refers_elsewhere_is_shown_without_its_details(reference):
    operation = one({"$ref": reference})
    assert (operation.path, operation.method, operation.body) == ("/a", "get", None)


def test_what_refers_to_a_broken_component_is_as_broken_and_nothing_else():
    components = {
        "schemas": {
            "Broken": {"type": "no such type"},
            "Above": {"items": {"$ref": "#/components/schemas/Broken"}},
            "Good": {"type": "string"},
            "bad name!": {"type": "string"},
        }
    }
    paths = {
        "/above": {"get": {"responses": answering({"$ref": "#/components/schemas/Above"})}},
        "/good": {"get": {"responses": answering({"$ref": "#/components/schemas/Good"})}},
    }
    whole = read(document(paths, components))
    assert {operation.path: operation.body is not None for operation in whole.operations} == {
        "/above": False,
        "/good": True,
    }
    assert set(whole.components) == {("schemas", "u.Good")}


@pytest.mark.parametrize(
    "operation",
    [
        {"responses": "text"},
        {"responses": {"200": "ok"}},
        {"responses": {"teapot": {"description": "x"}}},
        {"responses": {"200": {"description": "x", "content": {"a/b": {"schema": {"type": 3}}}}}},
        {"responses": OK, "parameters": [{"name": 7, "in": "query"}]},
        {"responses": OK, "parameters": [{"name": "x", "in": "nowhere"}]},
        {"responses": OK, "parameters": ["x"]},
        {"responses": OK, "parameters": [{"$ref": "#/components/parameters/Missing"}]},
        {"responses": OK, "requestBody": []},
        {"responses": OK, "description": {"a": 1}},
        {"responses": OK, "parameters": [{"name": f"p{n}", "in": "query", "schema": {}} for n in range(200)]},
    ],
)
def test_an_operation_that_is_not_as_the_specification_says_is_shown_without_its_details(operation):
    whole = read(document({"/a": {"get": operation, "post": {"responses": OK}}}))
    assert [(each.method, each.body is not None) for each in whole.operations] == [("get", False), ("post", True)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"openapi": 3, "paths": {}}',
        b'{"swagger": "2.0", "paths": {}}',
        b'{"openapi": "2.0", "paths": {}}',
        b'{"openapi": "3.1.0"}',
        b'{"openapi": "3.1.0", "paths": []}',
        b"[" * 100_000,
        orjson.dumps(document({f"/{n}": {"get": {"responses": OK}} for n in range(2001)})),
        orjson.dumps(document({}, {"schemas": {f"S{n}": {} for n in range(2001)}})),
    ],
)
def test_what_is_no_document_is_refused(content):
    with pytest.raises(Unusable):
        read(content)


def test_a_schema_that_is_nested_too_deeply_costs_its_operation_alone():
    deep: Any = {}
    for _ in range(200):
        deep = {"items": deep}
    assert one(deep).body is None


@pytest.mark.parametrize(
    ("servers", "prefix", "place"),
    [
        ([], "", "/a"),
        ([{"url": "/"}], "", "/a"),
        ([{"url": "/base"}], "", "/base/a"),
        ([{"url": "https://api.example.com/v3/"}], "", "/v3/a"),
        ([{"url": "https://x/{base}", "variables": {"base": {"default": "b"}}}], "", "/b/a"),
        ([{"url": "/svc"}], "/svc", "/a"),
        ([], "/svc", "/a"),
        ([{"url": "https://[broken"}], "", "/a"),
        ("text", "", "/a"),
    ],
)  # fmt: skip
def test_paths_are_those_that_the_gateway_asks_for(servers, prefix, place):
    whole = read(document({"/a": {"get": {"responses": OK}}}, servers=servers), prefix)
    assert [operation.path for operation in whole.operations] == [place]


def test_what_openapi_3_0_says_in_its_own_way_is_said_in_that_of_3_1():
    schema = {
        "type": "integer",
        "nullable": True,
        "minimum": 3,
        "exclusiveMinimum": True,
        "properties": {"nullable": {}},
    }
    assert schema_of(one(schema, openapi="3.0.3")) == {
        "type": ["integer", "null"],
        "exclusiveMinimum": 3,
        "properties": {"nullable": {}},
    }
    assert schema_of(one({"type": "string", "nullable": True, "enum": ["a"]}, openapi="3.0.0"))["enum"] == ["a", None]


def test_parameters_are_whole_and_those_of_the_path_are_among_them():
    shared = {"parameters": {"Page": {"name": "page", "in": "query", "schema": {"type": "integer"}}}}
    paths = {
        "/a/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "get": {"responses": OK, "parameters": [{"$ref": "#/components/parameters/Page"}]},
        }
    }
    (operation,) = read(document(paths, shared)).operations
    assert [parameter["name"] for parameter in operation.parameters] == ["id", "page"]


def test_links_callbacks_extensions_and_bases_are_left_out():
    responses = {"200": {"description": "ok", "links": {"next": {"operationId": "x"}}}}
    operation = {
        "responses": responses,
        "callbacks": {"c": {}},
        "x-code": "y",
        "servers": [{"url": "https://evil.example"}],
        "operationId": "x",
        "externalDocs": {"url": "https://evil.example"},
    }
    (read_one,) = read(document({"/a": {"get": operation}})).operations
    assert read_one.body == {"responses": {"200": {"description": "ok"}}}
    assert schema_of(one({"$id": "https://evil.example/", "type": "string"})) == {"type": "string"}
