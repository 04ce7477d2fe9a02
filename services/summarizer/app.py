"""The summarizer as an ASGI application."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from services.studio.routes import finished, item_routes, started, streamed
from services.studio.studio import Studio
from services.summarizer.requests import SummaryRequest
from services.summarizer.settings import SummarizerSettings
from services.summarizer.summing_up import EXTRACTIVE, SummingUp
from services.summarizer.words import STOP_WORDS
from services.summarizer.writer import Writer

__all__ = ["create_app"]

_DESCRIPTION = """Summarizes texts: the sentences that say most of them, or a language model's words where one is
configured. Callers are told by the gateway's `X-User-ID`."""


class _SummaryStudio(Studio):
    """A studio that ends with its writer."""

    def __init__(self, settings: SummarizerSettings) -> None:
        super().__init__(settings, "summarize", "sum", "/summarize")
        self.writer = None if settings.base_url is None else Writer(settings)

    async def close(self) -> None:
        await super().close()
        if self.writer is not None:
            await self.writer.close()


def create_app(settings: SummarizerSettings | None = None) -> FastAPI:
    """The summarizer. Without ``settings``, the defaults: the environment is read by ``__main__`` alone."""
    settings = settings or SummarizerSettings()
    studio = _SummaryStudio(settings)
    model = EXTRACTIVE if studio.writer is None else studio.writer.model

    def health() -> dict[str, Any]:
        return {"service": "summarizer", "model": model, **studio.board.health()}

    app = studio.application("Tidegate summarizer", _DESCRIPTION, health)
    app.include_router(_summarizing(studio, settings, model))
    app.include_router(item_routes(studio, "summaries", "summaries"))
    return app


def _summarizing(studio: _SummaryStudio, settings: SummarizerSettings, model: str) -> APIRouter:
    router = APIRouter(prefix="/summarize", tags=["summarize"])

    @router.post("", response_model=None)
    @router.post("/generate", response_model=None)
    async def summarize(request: Request, asked: SummaryRequest) -> Response:
        """Answers when it is done; ``"sync": false``: at once, with 202; ``"stream": true``: in events."""
        work = SummingUp(studio, studio.writer, settings.max_text, asked)
        job = studio.submit(request, work.details, work.work, asked.callback_url)
        if asked.stream:
            return streamed(studio, job, job.follow_sse())
        if not asked.wait:
            return started(studio, request, job.id, f"/summarize/{job.id}/events")
        return await finished(studio, request, job, first_link=False)

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """What can summarize, and the languages whose frequent words are known."""
        names = dict.fromkeys((model, EXTRACTIVE))
        listed = [{"id": name, "object": "model", "owned_by": "tidegate"} for name in names]
        return {"object": "list", "data": listed, "languages": [*STOP_WORDS, "ja", "zh"]}

    return router
