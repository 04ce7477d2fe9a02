"""An operation of a route, as the gateway's document has it: what of it the gateway itself decides. Pure.

Who may call, which header fields cross and what is answered instead of an upstream's answer are the route's, whatever
the upstream says of itself.
"""

from __future__ import annotations

from typing import Any

from app.config import RouteConfig
from app.http.headers import says_who
from app.http.openapi.document import Described
from app.http.openapi.places import NAMES
from app.http.routes import Route

__all__ = ["ANSWERS_TAG", "PROBLEM", "SCHEMES", "described", "general", "security_of"]

ANSWERS_TAG = "answers"
"""Of routes that the gateway answers by itself."""
PROBLEM = {"$ref": "#/components/responses/Problem"}
SCHEMES: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token of a user."},
    "serviceKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Service-Key",
        "description": "One of `auth.service_keys`: for services.",
    },
    "serverKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "One of `server_api.keys`: for back ends.",
    },
}
_WITH_BODY = frozenset({"post", "put", "patch"})
_ANY_BODY: dict[str, Any] = {"content": {"*/*": {}}}
_ANY_ANSWER = {"2XX": {"description": "What the upstream answers."}}


def security_of(route: RouteConfig) -> list[dict[str, list[str]]]:
    """Return what a caller must show, as ``security`` of an operation (OpenAPI 3.1.0 section 4.8.30)."""
    match route.auth:
        case "none":
            return []
        case "optional":
            return [{}, {"bearer": []}]
        case "service":
            return [{"serviceKey": []}]
        case _:
            return [{"bearer": list(route.scopes)}]


def general(route: Route, method: str, path: str) -> dict[str, Any]:
    """Return an operation of which only the route is known."""
    config = route.config
    operation: dict[str, Any] = {"summary": route.label, **_frame(route, method)}
    operation["parameters"] = _path_parameters(path, {})
    if method in _WITH_BODY and config.answer is None:
        operation["requestBody"] = _ANY_BODY
    if config.answer is None:
        operation["responses"] = {**_ANY_ANSWER, "default": PROBLEM}
    else:
        status = {str(config.answer.status): {"description": "The gateway's own answer."}}
        operation["responses"] = {**status, "default": PROBLEM}
    return operation


def described(route: Route, theirs: Described, path: str) -> dict[str, Any]:
    """Return an operation that the upstream describes; ``path`` is where a client finds it."""
    operation = {**general(route, theirs.method, path)}
    if theirs.summary:
        operation["summary"] = theirs.summary
    if theirs.body is None:
        return operation
    known = {parameter["name"]: parameter for parameter in theirs.parameters if parameter.get("in") == "path"}
    others = [each for each in theirs.parameters if each.get("in") != "path" and not _is_ours(each)]
    operation["parameters"] = [*_path_parameters(path, known), *others]
    notes = [text for text in (theirs.body.get("description"), operation.pop("description", "")) if text]
    operation |= theirs.body
    operation.pop("description", None)
    if notes:
        operation["description"] = "\n\n".join(notes)
    if "requestBody" not in theirs.body:
        operation.pop("requestBody", None)
    responses = theirs.body.get("responses") or _ANY_ANSWER
    operation["responses"] = {"default": PROBLEM, **responses}
    return operation


def _frame(route: Route, method: str) -> dict[str, Any]:
    config = route.config
    frame: dict[str, Any] = {
        "tags": [config.upstream or ANSWERS_TAG],
        "operationId": f"route_{route.index}_{method}",
        "security": security_of(config),
    }
    notes = _notes(config)
    if notes:
        frame["description"] = notes
    return frame


def _notes(config: RouteConfig) -> str:
    said = []
    if config.hosts:
        said.append(f"Only where the request asks for the host {' or '.join(f'`{host}`' for host in config.hosts)}.")
    if config.auth == "upstream":
        said.append("The upstream decides what the token is worth.")
    if config.roles:
        said.append(f"For the roles {', '.join(f'`{role}`' for role in config.roles)}.")
    if config.required_claims:
        said.append(f"The token must have {', '.join(f'`{claim}`' for claim in config.required_claims)}.")
    if config.limits:
        said.append(f"Limited by {', '.join(f'`{limit}`' for limit in config.limits)}.")
    if config.websocket:
        said.append("WebSockets are passed on, too.")
    return "\n\n".join(said)


def _path_parameters(path: str, known: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    plain = {"in": "path", "required": True, "schema": {"type": "string"}}
    return [{**known.get(name, plain), "name": name, "required": True} for name in NAMES.findall(path)]


def _is_ours(parameter: dict[str, Any]) -> bool:
    """Whether a client cannot send it: the gateway says who calls."""
    return parameter.get("in") == "header" and says_who(str(parameter.get("name")).encode("utf-8", "replace"))
