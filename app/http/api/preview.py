"""``/playground/preview``: an empty page, in which the playground shows a page that somebody's model wrote.

It is a document of its own, so that the playground's own policy need not allow what generated pages may do. It belongs
to nobody (`sandbox` without `allow-same-origin`, here and at its frame), so nothing in it reaches the gateway's origin,
its storage or a token; no script runs but its own, which takes a page from whoever frames it; and nothing is fetched.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

__all__ = ["preview_router"]

_PAGE = '<!doctype html><html lang="en"><head><title>Preview</title></head><body><script>%s</script></body></html>'
_POLICY = (
    "default-src 'none'; script-src 'sha256-%s'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox allow-scripts"
)
_HEADERS = {
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def preview_router(folder: Path) -> APIRouter:
    """Return the route; ``folder`` has the script."""
    router = APIRouter(include_in_schema=False)
    script = (folder / "preview.js").read_text()
    page = _PAGE % script
    policy = _POLICY % b64encode(sha256(script.encode()).digest()).decode()

    @router.get("/playground/preview")
    async def preview() -> Response:
        return HTMLResponse(page, headers={**_HEADERS, "content-security-policy": policy})

    return router
