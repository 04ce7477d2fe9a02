"""``/api/v1/webhooks/<name>``: what upstreams post of their jobs, signed."""

from __future__ import annotations

from time import time

from fastapi import APIRouter, Response
from starlette.requests import Request

from app.generations.posts import Posts
from app.http.api.documented import problems

__all__ = ["webhooks_router"]


def webhooks_router(posts: Posts) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api/v1/webhooks", tags=["generations"], responses=problems(400, 401, 404, 503))

    async def take(name: str, request: Request) -> Response:
        """For upstreams with a table under `[generations.webhooks]`: one post of a job, signed as it says."""
        await posts.webhook(name, request.headers.raw, await request.body(), time())
        return Response(status_code=202)

    router.post("/{name}", status_code=202, response_class=Response, summary="Take a webhook")(take)
    return router
