"""The speech service as an ASGI application."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query
from starlette.requests import Request
from starlette.responses import Response

from services.jobs.job import Job
from services.speech.audio import FORMATS
from services.speech.espeak import Espeak, load_espeak
from services.speech.requests import OpenAIRequest, SpeechRequest
from services.speech.settings import SpeechSettings
from services.speech.speaking import Speaking
from services.speech.streams import AudioStream, audio_chunks, json_lines, openai_events, sse_events
from services.speech.voices import FEATURED, MODELS, speaker_of
from services.studio.routes import finished, item_routes, started
from services.studio.studio import Studio
from services.web.errors import Overloaded
from services.web.streaming import EventStream

__all__ = ["create_app"]

_DESCRIPTION = """Speaks a text with eSpeak NG, in over a hundred languages, as MP3, WAV or raw samples.

Sound is streamed while it is spoken. Callers are told by the gateway's `X-User-ID`."""


def create_app(settings: SpeechSettings | None = None) -> FastAPI:
    """The speech service. Without ``settings``, the defaults: the environment is read by ``__main__`` alone."""
    settings = settings or SpeechSettings()
    studio = Studio(settings, "tts", "tts", "/tts")
    desk = _Desk(studio, settings, load_espeak())

    def health() -> dict[str, Any]:
        return {"service": "speech", "voices": len(desk.espeak.voices), **studio.board.health()}

    app = studio.application("Tidegate speech", _DESCRIPTION, health)
    app.include_router(_speaking(desk))
    app.include_router(_openai(desk))
    app.include_router(item_routes(studio, "audios", "audios"))
    return app


class _Desk:
    """Takes requests: makes their jobs, counts their streams."""

    def __init__(self, studio: Studio, settings: SpeechSettings, espeak: Espeak) -> None:
        self.studio = studio
        self.espeak = espeak
        self._settings = settings
        self._streams = 0

    def begin(self, request: Request, asked: SpeechRequest) -> tuple[Job, Speaking]:
        """A queued job. Raises ``Invalid``, ``Overloaded``."""
        speaking = Speaking(self.studio, self._settings, self.espeak, asked)
        return self.studio.submit(request, speaking.details, speaking.work, asked.callback_url), speaking

    def room_for_stream(self) -> None:
        """Raise ``Overloaded`` when there are too many."""
        if self._streams >= self._settings.max_streams:
            raise Overloaded("Too many answers are streamed. Try again in a moment.")

    def streaming(self, job: Job) -> Callable[[], Awaitable[None]]:
        """Count a stream; what is returned is to be awaited at its end, and cancels a job that has not ended."""
        self._streams += 1

        async def release() -> None:
            self._streams -= 1
            self.studio.board.cancel(job)

        return release


def _speaking(desk: _Desk) -> APIRouter:
    router = APIRouter(prefix="/tts", tags=["speak"])
    studio = desk.studio

    @router.post("/generate", response_model=None)
    async def generate(request: Request, asked: SpeechRequest) -> Response:
        """Answers when all is spoken; ``"sync": false``: at once, with 202; ``stream``: while it is spoken."""
        if asked.stream:
            return _streamed(desk, request, asked)
        job, _ = desk.begin(request, asked)
        if not asked.wait:
            return started(studio, request, job.id, f"/tts/{job.id}/events")
        return await finished(studio, request, job)

    @router.get("/voices")
    async def voices(all_of_them: Annotated[bool, Query(alias="all")] = False) -> dict[str, Any]:
        """The languages that are asked for most; with ``all=true`` every one."""
        known = {voice.language: voice.name for voice in desk.espeak.voices}
        files = {voice.language: voice.file for voice in desk.espeak.voices}
        names = tuple(known) if all_of_them else FEATURED
        found = []
        for name in names:
            speaker = speaker_of(name, files)
            if speaker is not None:
                found.append({"id": name, "language": speaker.language, "name": known[speaker.language]})
        return {"voices": found, "total": len(known)}

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """The models, which differ in their pace, and the formats."""
        listed = [
            {"id": name, "object": "model", "owned_by": "tidegate", "pace": pace} for name, pace in MODELS.items()
        ]
        return {"object": "list", "data": listed, "formats": list(FORMATS)}

    return router


def _streamed(desk: _Desk, request: Request, asked: SpeechRequest) -> Response:
    desk.room_for_stream()
    job, speaking = desk.begin(request, asked)
    release, headers = desk.streaming(job), {"x-generation-id": job.id}
    if asked.stream == "sse":
        return EventStream(sse_events(job, speaking), headers, release)
    if asked.stream == "jsonl":
        return AudioStream(json_lines(job, speaking), "application/x-ndjson", headers, release)
    return AudioStream(audio_chunks(job, speaking), speaking.mime, headers, release)


def _openai(desk: _Desk) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["openai"])
    begun = int(time.time())

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """The models in OpenAI's shape."""
        listed = [{"id": name, "object": "model", "created": begun, "owned_by": "tidegate"} for name in MODELS]
        return {"object": "list", "data": listed}

    @router.post("/audio/speech", response_model=None)
    async def speech(request: Request, asked: OpenAIRequest) -> Response:
        """Sound while it is spoken, in OpenAI's shape. A client that leaves cancels."""
        desk.room_for_stream()
        job, speaking = desk.begin(
            request,
            SpeechRequest(
                prompt=asked.input, voice=asked.voice, model=asked.model, format=asked.response_format,
                speed=asked.speed,
            ),
        )  # fmt: skip
        release, headers = desk.streaming(job), {"x-generation-id": job.id}
        if asked.stream_format == "sse":
            return EventStream(openai_events(job, speaking, len(asked.input.split())), headers, release)
        return AudioStream(audio_chunks(job, speaking), speaking.mime, headers, release)

    return router
