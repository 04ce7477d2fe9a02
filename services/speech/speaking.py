"""The work of a speech job: speak in a thread, sentence by sentence, keep the result."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from typing import Any

from services.jobs.job import Job
from services.speech.audio import FORMATS, encoder_of
from services.speech.espeak import Espeak
from services.speech.requests import SpeechRequest
from services.speech.settings import SpeechSettings
from services.speech.voices import MODELS, speaker_of, speed_of
from services.storage.archive import Item
from services.studio.studio import Studio
from services.web.errors import Invalid

__all__ = ["Speaking"]

_PIECE = 4096
"""Bytes that a piece of sound among the events has at least; the first one does not wait for so many."""
_SENTENCE = re.compile(r".{1,400}?(?:[.!?…。！？]+[\"'”’)]*(?=\s|$)|[。！？]|\n+|$)|.{1,400}", re.DOTALL)


class Speaking:
    """One generation's work. Raises ``Invalid``.

    ``chunks`` grows while it speaks: they join to a stream in the asked format. A progress event follows each.
    """

    def __init__(self, studio: Studio, settings: SpeechSettings, espeak: Espeak, asked: SpeechRequest) -> None:
        if not any(letter.isalnum() for letter in asked.prompt):
            raise Invalid("prompt must hold something to say.", "prompt")
        if len(asked.prompt) > settings.max_text:
            raise Invalid(f"prompt: at most {settings.max_text} characters.", "prompt")
        speaker = speaker_of(asked.voice, {voice.language: voice.file for voice in espeak.voices})
        if speaker is None:
            raise Invalid("voice: there is no such voice; GET /tts/voices lists them.", "voice")
        speed = speed_of(asked.model, asked.speed)
        if speed is None:
            raise Invalid(f"model must be one of {', '.join(MODELS)}.", "model")
        self.chunks: list[bytes] = []
        self.recording = b""
        """The finished file."""
        self._unsaid: list[bytes] = []
        self._pieces = 0
        self._studio, self._espeak, self._asked, self._speaker = studio, espeak, asked, speaker
        self._model, self._words_per_minute = speed

    @property
    def mime(self) -> str:
        """The media type of what is made."""
        return FORMATS[self._asked.format]

    @property
    def details(self) -> dict[str, Any]:
        """What the status page shows from the start."""
        return {
            "model": self._model,
            "voice": self._asked.voice,
            "language": self._speaker.language,
            "format": self._asked.format,
            "sample_rate": self._espeak.sample_rate,
            "characters": len(self._asked.prompt),
        }

    async def work(self, job: Job) -> Mapping[str, Any]:
        """Speak, keep, and return the result."""
        start = time.monotonic()
        recording, seconds = await self._studio.board.in_thread(job, self._speak, job)
        milliseconds = round((time.monotonic() - start) * 1000)
        name = f"audio/output.{self._asked.format}"
        artifact = {
            "index": 0, "name": name, "mime": self.mime, "bytes": len(recording), "seconds": round(seconds, 3),
        }  # fmt: skip
        record = {
            **self.details,
            "created": int(job.created),
            "units": len(self._asked.prompt),
            "milliseconds": milliseconds,
            "seconds": artifact["seconds"],
            "artifacts": [artifact],
        }
        asked = self._asked.model_dump(exclude_none=True, exclude={"callback_url", "wait", "stream", "pieces"})
        await self._studio.keep(job, Item(job.id, job.owner, asked, record, {name: recording}))
        self.recording = recording
        return {"artifacts": [artifact], "milliseconds": milliseconds, "seconds": artifact["seconds"]}

    def _speak(self, job: Job) -> tuple[bytes, float]:
        """In a worker thread: the finished file and its seconds."""
        encoder = encoder_of(self._asked.format, self._espeak.sample_rate)
        body: list[bytes] = []
        samples_total = 0
        text = self._asked.prompt
        pitch = self._speaker.pitch if self._asked.pitch is None else self._asked.pitch

        def take(samples: bytes) -> bool:
            nonlocal samples_total
            samples_total += len(samples) // 2
            self._add(body, encoder.encode(samples))
            if not job.stop.is_set():
                self._tell(job)
                job.report("progress", stage="speaking", percent=percent, seconds=round(samples_total / rate, 2))
            return not job.stop.is_set()

        rate, percent = self._espeak.sample_rate, 0.0
        if opening := encoder.begin():
            self.chunks.append(opening)
            self._unsaid.append(opening)
        for match in _SENTENCE.finditer(text):
            job.check()
            percent = round(99.0 * match.end() / len(text), 1)
            if match[0].strip():
                self._espeak.say(match[0], self._speaker.voice, self._words_per_minute, pitch, take)
        job.check()
        self._add(body, encoder.end())
        self._tell(job, last=True)
        return encoder.whole(b"".join(body)), samples_total / rate

    def _add(self, body: list[bytes], data: bytes) -> None:
        if data:
            body.append(data)
            self.chunks.append(data)
            self._unsaid.append(data)

    def _tell(self, job: Job, *, last: bool = False) -> None:
        """Tell what was not told yet as a piece, once it is worth an event."""
        size = sum(map(len, self._unsaid))
        if not self._asked.pieces or not size or (size < _PIECE and self._pieces and not last):
            return
        data = base64.b64encode(b"".join(self._unsaid)).decode()
        job.report("audio", index=self._pieces, mime=self.mime, data=data)
        self._unsaid.clear()
        self._pieces += 1
