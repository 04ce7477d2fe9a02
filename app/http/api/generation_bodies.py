"""What bodies the endpoints of generations take, for the documentation: more than their models can say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.generations.formats import input_schema
from app.generations.reports import reports_schema
from app.http.api.models import POLICY

__all__ = ["report_body", "start_body"]


def report_body(*, pushed: bool) -> dict[str, Any]:
    """Return what upstreams report; ``pushed``: some tell of all of a job."""
    return {"requestBody": {"content": {"application/json": {"schema": reports_schema(pushed=pushed)}}}}


def start_body(kinds: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Say in the documentation which kinds there are and what they take, beside what the body's model says."""
    known: list[dict[str, Any]] = []
    for kind, (upstream, format_) in kinds.items():
        properties: dict[str, Any] = {"kind": {"const": kind}, "upstream": {"enum": [upstream, None]}}
        given = input_schema(format_)
        known.append({"properties": properties if given is None else {**properties, "input": given}})
    schema = {"anyOf": known} if known else {}
    form = {"schema": _form(kinds), "encoding": {"input": {"contentType": "application/json"}}}
    return {"requestBody": {"content": {"application/json": {"schema": schema}, "multipart/form-data": form}}}


def _form(kinds: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Return the schema of a start as a form. The kind says what its input is, as it does in JSON."""
    texts = {
        "idempotency_key": {"type": "string", "minLength": 1, "maxLength": 256},
        "on_last_disconnect": {"type": "string", "pattern": POLICY},
    }
    known: list[dict[str, Any]] = []
    for kind, (upstream, format_) in kinds.items():
        given = input_schema(format_) or {"type": "object"}
        known.append({"properties": {"kind": {"const": kind}, "upstream": {"const": upstream}, "input": given}})
    schema: dict[str, Any] = {
        "type": "object",
        "required": ["kind", "input"],
        "description": "Fields beside the start's own are further members of `input`; files become data URLs.",
        "properties": {
            "kind": {"type": "string"},
            "upstream": {"type": "string"},
            "input": {"type": "object"},
            **texts,
        },
    }
    return schema | ({"anyOf": known} if known else {})
