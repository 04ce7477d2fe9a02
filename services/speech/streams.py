"""Speech while it is spoken: as sound, as server-sent events, as lines of JSON."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Awaitable, Callable

import orjson

from services.jobs.job import TERMINAL, Job
from services.speech.speaking import Speaking
from services.web.errors import ApiError
from services.web.streaming import EventStream

__all__ = ["AudioStream", "audio_chunks", "json_lines", "openai_events", "sse_events"]


class AudioStream(EventStream):
    """The same care for clients that leave, with another media type."""

    def __init__(
        self, chunks: AsyncGenerator[bytes], media_type: str, headers: dict[str, str],
        release: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        super().__init__(chunks, headers | {"content-type": media_type}, release)


async def audio_chunks(job: Job, speaking: Speaking) -> AsyncGenerator[bytes]:
    """The sound. Where speaking fails, so does the answer: it is cut off, not ended."""
    sent = 0
    async for event in job.follow():
        while sent < len(speaking.chunks):
            yield speaking.chunks[sent]
            sent += 1
        if event.type in ("failed", "cancelled"):
            raise ApiError(job.error or "The generation was cancelled.")


async def _events(job: Job, speaking: Speaking) -> AsyncGenerator[dict[str, object]]:
    """The sound, how far it is, and the terminal event."""
    sent = 0
    async for event in job.follow():
        while sent < len(speaking.chunks):
            data = base64.b64encode(speaking.chunks[sent]).decode()
            yield {"type": "audio", "index": sent, "mime": speaking.mime, "data": data}
            sent += 1
        if event.type in TERMINAL or event.type in ("queued", "progress"):
            yield {"type": event.type, **event.data}


async def sse_events(job: Job, speaking: Speaking) -> AsyncGenerator[bytes]:
    """``audio``, ``progress`` and the terminal event as server-sent events."""
    async for value in _events(job, speaking):
        yield f"event: {value['type']}\ndata: ".encode() + orjson.dumps(value) + b"\n\n"


async def json_lines(job: Job, speaking: Speaking) -> AsyncGenerator[bytes]:
    """The same, one JSON object a line."""
    async for value in _events(job, speaking):
        yield orjson.dumps(value) + b"\n"


async def openai_events(job: Job, speaking: Speaking, words: int) -> AsyncGenerator[bytes]:
    """OpenAI's ``speech.audio.delta`` and ``speech.audio.done``."""
    async for value in _events(job, speaking):
        if value["type"] == "audio":
            body: dict[str, object] = {"type": "speech.audio.delta", "audio": value["data"]}
        elif value["type"] == "completed":
            tokens = len(speaking.chunks)
            usage = {"input_tokens": words, "output_tokens": tokens, "total_tokens": words + tokens}
            body = {"type": "speech.audio.done", "usage": usage}
        elif value["type"] in TERMINAL:
            body = {"type": "error", "error": {"message": job.error or "The generation was cancelled."}}
        else:
            continue
        yield b"data: " + orjson.dumps(body) + b"\n\n"
