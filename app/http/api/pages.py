"""``/openapi.json``, and the pages that show it: ``/docs`` (Swagger UI) and ``/redoc``.

All that the pages load comes with the package: no other host is asked, and their policy would not let them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from app.errors import NotFound

__all__ = ["add_pages"]

_VENDOR = Path(fastapi_offline.__file__).parent / "static"
_VENDORED = frozenset({"swagger-ui-bundle.js", "swagger-ui.css"})
_REDOC = "redoc.standalone.js"
_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"
"""An image that Redoc would get from elsewhere."""
_OURS = frozenset({"docs.js", "reference.js", "docs.css", "icon.svg"})


def add_pages(api: FastAPI, folder: Path, document: Callable[[dict[str, Any]], Awaitable[bytes]]) -> None:
    """Add the pages, which are in ``folder``; ``document`` makes the whole one of the application's own."""
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        content = await document(api.openapi())
        etag = f'"{blake2b(content, digest_size=12).hexdigest()}"'
        headers = {"etag": etag, "cache-control": "no-cache"}
        if _knows(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="application/json", headers=headers)

    @router.get("/docs")
    async def docs() -> Response:
        return FileResponse(folder / "docs.html", headers={"cache-control": "no-cache"})

    @router.get("/redoc")
    async def redoc() -> Response:
        return FileResponse(folder / "redoc.html", headers={"cache-control": "no-cache"})

    @router.get("/docs/assets/{name}")
    async def asset(name: str, request: Request) -> Response:
        headers = {"cache-control": "public, max-age=3600"}
        if name == "redoc.js":
            return Response(_redoc(), media_type="text/javascript", headers=headers)
        if name not in _VENDORED | _OURS:
            raise NotFound
        return FileResponse((folder if name in _OURS else _VENDOR) / name, headers=headers)

    api.include_router(router)


@lru_cache(maxsize=1)
def _redoc() -> bytes:
    """Return Redoc with the image of its maker taken out; it leaves out an image that does not come."""
    return (_VENDOR / _REDOC).read_bytes().replace(_LOGO.encode(), b"data:,")


def _knows(header: str, etag: str) -> bool:
    return any(each.strip().removeprefix("W/") == etag for each in header.split(","))
