"""``/api/v1/usage``: how a caller's budgets stand."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from app.http.api.caller import Caller
from app.http.api.documented import BEARER, problems
from app.http.api.models import UsageAnswers
from app.limits.callers import counted_caller
from app.limits.limits import Limits

__all__ = ["usage_router"]


def usage_router(limits: Limits, caller: Caller) -> APIRouter:
    router = APIRouter(tags=["limits"], responses=problems(401, 503))

    @router.get(
        "/api/v1/usage",
        response_model=UsageAnswers,
        summary="Read how your budgets stand",
        openapi_extra=BEARER,
    )
    async def usage(request: Request) -> Any:
        """Those that count by user, company, address or key; what running calls have reserved is told apart."""
        identity = await caller(request)
        asker = counted_caller(request.scope, identity)
        budgets = []
        for named, config, level in await limits.own_levels(asker):
            limit = named.budget.limit
            budgets.append(
                {
                    "limit": named.name,
                    "by": config.by,
                    "unit": config.unit,
                    "window": named.budget.window,
                    "tokens": limit,
                    "used": level.used,
                    "reserved": level.held,
                    "remaining": max(0, limit - level.used - level.held),
                    "resets_in": round(level.reset, 3),
                }
            )
        return {"budgets": budgets}

    return router
