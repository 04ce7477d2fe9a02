"""``/playground/token``: tokens for the page that tries the gateway.

Whoever can reach this endpoint can be anybody, so the composition root mounts it only where the secret is no secret:
where it stands in a preset, or is that of development, which production refuses.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from app.auth.development import mint
from app.config import AuthConfig
from app.http.api.documented import problems

__all__ = ["playground_router"]

_DAY = 86_400.0
_Name = Annotated[str, Field(min_length=1, max_length=256)]


class TokenBody(BaseModel):
    """Who the token is for; ``ttl`` is in seconds."""

    model_config = ConfigDict(extra="forbid")

    sub: Annotated[_Name, Field(examples=["42"])]
    company: Annotated[_Name | None, Field(examples=["acme"])] = None
    ttl: Annotated[float, Field(gt=0, le=_DAY)] = 3600.0


class TokenAnswer(BaseModel):
    token: str
    expires_in: float


def playground_router(auth: AuthConfig) -> APIRouter:
    """Return the route; ``auth`` must have HS256 and its secret."""
    router = APIRouter(tags=["playground"], responses=problems(400))
    secret = auth.secret.get_secret_value()

    @router.post("/playground/token", response_model=TokenAnswer, summary="Get a token for development")
    async def token(body: TokenBody, response: Response) -> Any:
        """Signed with the gateway's own secret. There only with secrets that everybody knows."""
        response.headers["Cache-Control"] = "no-store"
        return TokenAnswer(token=mint(secret, body.sub, body.company, body.ttl, auth=auth), expires_in=body.ttl)

    return router
