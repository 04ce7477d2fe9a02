"""The demo of the preset ``nyro``: documents that companies upload, and answers from them."""

from __future__ import annotations

from typing import Any

from app.demo.system import Companion, Surroundings, System

__all__ = ["SYSTEM"]


def _ingest(around: Surroundings) -> Any:
    from services.ingest.app import create_app  # noqa: PLC0415  (a demo imports the services that it has)
    from services.ingest.settings import IngestSettings  # noqa: PLC0415

    kept = around.unless_set(IngestSettings.prefix, library=_library(around))
    return create_app(IngestSettings.from_environ(around.environ, **kept))


def _query(around: Surroundings) -> Any:
    from services.query.app import create_app  # noqa: PLC0415
    from services.query.settings import QuerySettings  # noqa: PLC0415

    kept = around.unless_set(QuerySettings.prefix, library=_library(around))
    return create_app(QuerySettings.from_environ(around.environ, **kept))


def _library(around: Surroundings) -> str:
    """Both services have one; what was uploaded ends with the demo, unless either is told a place."""
    told = around.environ.get("INGEST_LIBRARY") or around.environ.get("QUERY_LIBRARY")
    return told or str(around.folder / "library")


SYSTEM = System(
    {
        "ingest": Companion("takes companies' documents in", _ingest, needs=("pypdf", "python_multipart")),
        "query": Companion("answers questions from them", _query),
    },
    try_first=(
        "TOKEN=$({tidegate} token --preset nyro --sub 42 --company acme)",
        'curl "{url}/api/v1/ingest/upload?wait=true" -H "Authorization: Bearer $TOKEN" -F file=@README.md',
        'curl {url}/api/v1/query/ask -H "Authorization: Bearer $TOKEN" --json \'{{"query": "What is Tidegate?"}}\'',
    ),
)
