"""What the own endpoints' documentation has in common: who may call, and the problems that are answered."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.http.api.models import ProblemAnswer

__all__ = [
    "BEARER",
    "EVENTS",
    "PROBLEM_CONTENT",
    "SERVER_KEY",
    "SERVICE_KEY",
    "document_problems",
    "json_of",
    "problems",
]

BEARER: dict[str, Any] = {"security": [{"bearer": []}]}
SERVICE_KEY: dict[str, Any] = {"security": [{"serviceKey": []}]}
SERVER_KEY: dict[str, Any] = {"security": [{"serverKey": []}]}
EVENTS: dict[str, Any] = {"text/event-stream": {}}
"""The ``content`` of an event stream."""

PROBLEM_CONTENT: dict[str, Any] = {
    "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}
}
_TITLES = {
    400: "The request is not one that can be read.",
    401: "No token, or none that is taken.",
    403: "Not allowed to this caller.",
    404: "There is no such thing, or not for this caller.",
    406: "Nothing that can be answered would be accepted.",
    409: "It goes not together with what is there.",
    413: "The body is too large.",
    429: "Too many; `Retry-After` says when.",
    501: "Not set up here.",
    503: "Not now; `Retry-After` says when.",
}
_ID = "^[A-Za-z0-9][A-Za-z0-9._~:-]*$"
"""Of what may stand in a path, that which no server on the way reads in another way."""
_OF_FASTAPI = ("HTTPValidationError", "ValidationError")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that answers with these problems."""
    return {status: {"description": _TITLES[status], "content": PROBLEM_CONTENT} for status in statuses}


def json_of(description: str, schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a response whose body is a JSON object, of ``schema`` where one is given, or ``more`` content."""
    whole = {"application/json": {"schema": schema or {"type": "object"}}}
    return {"description": description, "content": {**whole, **more}}


def document_problems(api: FastAPI) -> None:
    """Have ``api`` describe itself as it is: what is wrong with a request is answered 400, and all errors are problems.

    Any endpoint may answer 405, 413, 429 or 503, and what the edge refuses; that is its ``default``.
    """

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            document = get_openapi(
                title=api.title, version=api.version, description=api.description, routes=api.routes
            )  # fmt: skip
            components = document.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            for name in _OF_FASTAPI:
                schemas.pop(name, None)
            schemas["ProblemAnswer"] = ProblemAnswer.model_json_schema()
            components["responses"] = {"Problem": {"description": "A problem (RFC 9457).", "content": PROBLEM_CONTENT}}
            for item in document["paths"].values():
                for operation in item.values():
                    _name_ids(operation)
                    operation["responses"].pop("422", None)
                    operation["responses"].setdefault("default", {"$ref": "#/components/responses/Problem"})
            api.openapi_schema = document
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]


def _name_ids(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path" and parameter["schema"].get("type") == "string":
            parameter["schema"].setdefault("pattern", _ID)
