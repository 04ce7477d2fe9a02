"""The ingest service as an ASGI application."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from services.ingest.desk import Desk
from services.ingest.intake import received
from services.ingest.settings import IngestSettings
from services.library.companies import shelf_of_caller
from services.library.port import Documents
from services.library.records import Document
from services.web.application import service_application
from services.web.errors import NotFound
from services.web.streaming import until_disconnect

__all__ = ["create_app"]

_DESCRIPTION = """Takes documents of companies in: text, Markdown, HTML and PDF. The company is the gateway's
`X-Company-ID`; none sees another one's."""
_PREFIX = "/api/v1/ingest"
_MEDIA_TYPES = {"pdf": "application/pdf"}
_LIMIT = Annotated[int, Query(ge=1, le=200)]


class _Title(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, Field(min_length=1, max_length=300)]


def create_app(settings: IngestSettings | None = None) -> FastAPI:
    """The ingest service. Without ``settings``, the defaults: the environment is read by ``__main__`` alone."""
    settings = settings or IngestSettings()
    desk = Desk(settings)

    def health() -> dict[str, Any]:
        return {"service": "ingest", "waiting": desk.waiting}

    app = service_application(
        "Tidegate ingest",
        _DESCRIPTION,
        settings.body_limit,
        health,
        desk.open,
        desk.close,
        {"library": desk.library.check},
    )
    app.include_router(_uploads(desk))
    app.include_router(_listing(desk))
    app.include_router(_reading(desk))
    app.include_router(_changing(desk))
    return app


def _uploads(desk: Desk) -> APIRouter:
    router = APIRouter(prefix=_PREFIX, tags=["upload"])

    @router.post("/upload", status_code=202, response_model=None)
    @router.post("/documents", status_code=202, response_model=None)
    async def upload(request: Request, wait: bool = False) -> Response:
        """Takes a document: a form with `file`, the file itself with `?filename=`, or JSON with `text`.

        202 when it is safe on the disk; with `wait=true` 201 when it was read. The same file again is 200.
        """
        shelf = shelf_of_caller(request)
        desk.room()
        async with received(request, desk.folder, desk.threads) as new:
            document, is_new = await desk.library.documents(shelf).add(new.document, new.path, time.time())
        if document.status == "waiting":
            await desk.enqueue(shelf, document.id)
            if wait:
                read = await until_disconnect(request.receive, desk.outcome(shelf, document.id))
                return Response(status_code=499) if read is None else _answer(read, 201 if is_new else 200)
        return _answer(document, 202 if document.status == "waiting" else 200)

    return router


def _listing(desk: Desk) -> APIRouter:
    router = APIRouter(prefix=_PREFIX, tags=["documents"])

    @router.get("/documents")
    async def newest(
        request: Request,
        limit: _LIMIT = 50,
        before: str | None = None,
        status: Literal["waiting", "ready", "failed"] | None = None,
    ) -> dict[str, Any]:
        """The company's documents, the newest first; `before` is the id of the last one seen."""
        shown = await _of(desk, request).newest(limit + 1, before, status)
        return _page([document.shown() for document in shown], limit)

    @router.get("/stats")
    async def stats(request: Request) -> dict[str, Any]:
        """How much the company has."""
        return await _of(desk, request).counts()

    return router


def _reading(desk: Desk) -> APIRouter:
    router = APIRouter(prefix=_PREFIX, tags=["documents"])

    @router.get("/documents/{document_id}")
    @router.get("/status/{document_id}")
    async def document(request: Request, document_id: str) -> dict[str, Any]:
        """What is known of a document: `status` is `waiting`, `ready` or `failed`."""
        return _found(await _of(desk, request).get(document_id)).shown()

    @router.get("/documents/{document_id}/passages")
    async def passages(
        request: Request, document_id: str, limit: _LIMIT = 50, after: Annotated[int, Query(ge=-1, lt=2**31)] = -1
    ) -> dict[str, Any]:
        """Its passages with numbers above `after`."""
        documents = _of(desk, request)
        _found(await documents.get(document_id))
        shown = await documents.passages(document_id, after, limit + 1)
        told = [{"number": number, "page": one.page, "heading": one.heading, "text": one.text} for number, one in shown]
        return _page(told, limit)

    @router.get("/documents/{document_id}/file", response_model=None)
    async def file(request: Request, document_id: str) -> Response:
        """The file as it came, to be stored: no browser shows or runs it."""
        document = _found(await _of(desk, request).get(document_id))
        path = desk.folder.file(shelf_of_caller(request), document.id)
        if not await desk.threads.run(desk.folder.holds, path):
            raise NotFound("The file is not there any more.", "document_id")
        kind = _MEDIA_TYPES.get(document.kind, "application/octet-stream")
        headers = {"x-content-type-options": "nosniff", "content-security-policy": "sandbox; default-src 'none'"}
        return FileResponse(path, media_type=kind, filename=document.filename or document.id, headers=headers)

    return router


def _changing(desk: Desk) -> APIRouter:
    router = APIRouter(prefix=_PREFIX, tags=["documents"])

    @router.patch("/documents/{document_id}")
    async def rename(request: Request, document_id: str, asked: _Title) -> dict[str, Any]:
        """Gives it another title."""
        return _found(await _of(desk, request).rename(document_id, asked.title)).shown()

    @router.delete("/documents/{document_id}")
    async def delete(request: Request, document_id: str) -> dict[str, Any]:
        """Deletes a document, its passages and its file."""
        if not await _of(desk, request).delete(document_id):
            raise _no_such_document()
        return {"id": document_id, "deleted": True}

    return router


def _of(desk: Desk, request: Request) -> Documents:
    return desk.library.documents(shelf_of_caller(request))


def _found(document: Document | None) -> Document:
    if document is None:
        raise _no_such_document()
    return document


def _no_such_document() -> NotFound:
    return NotFound("There is no such document.", "document_id")


def _page(told: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """``limit`` things of one more that was asked for, to tell whether there is more."""
    return {"object": "list", "data": told[:limit], "has_more": len(told) > limit}


def _answer(document: Document, status: int) -> JSONResponse:
    where = {"location": f"{_PREFIX}/documents/{document.id}"}
    return JSONResponse(document.shown() | {"new": status in (201, 202)}, status, where)
