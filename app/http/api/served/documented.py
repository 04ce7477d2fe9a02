"""What the documentation of served formats has in common: bodies, answers and errors in the form of OpenAI."""

from __future__ import annotations

from typing import Any

from app.http.api.documented import BEARER, EVENTS, PROBLEM_CONTENT, json_of

__all__ = ["MODEL", "OF_OPENAI", "asked", "streamed"]

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {"message": {"type": "string"}, "type": {"type": "string"}},
        }
    },
}
MODEL: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 1024, "examples": ["chat"]}
OF_OPENAI: dict[int | str, dict[str, Any]] = {
    400: json_of("The request is not one that can be read.", _ERROR, **PROBLEM_CONTENT),
    401: json_of("No token or key, or none that is taken.", _ERROR),
    404: json_of("There is no such thing, or not for this caller.", _ERROR),
    429: json_of("Too many; `Retry-After` says when.", _ERROR, **PROBLEM_CONTENT),
    503: json_of("Not now.", _ERROR, **PROBLEM_CONTENT),
    "default": json_of("Something went wrong.", _ERROR, **PROBLEM_CONTENT),
}


def streamed(description: str) -> dict[int | str, dict[str, Any]]:
    """Return the answers of an endpoint that streams where it is asked to."""
    return {200: json_of(description, None, **EVENTS)}


def asked(required: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return how an endpoint is called: with a JSON object that has at least these members."""
    schema = {"type": "object", "required": list(required), "properties": required}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}, **BEARER}
