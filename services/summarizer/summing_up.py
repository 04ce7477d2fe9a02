"""The work of a summary's job."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from services.jobs.job import Job
from services.storage.archive import Item
from services.studio.studio import Studio
from services.summarizer.ranking import choose, how_many
from services.summarizer.requests import SummaryRequest
from services.summarizer.sentences import count_words, language_of, split_sentences
from services.summarizer.writer import Writer
from services.web.errors import Invalid

__all__ = ["EXTRACTIVE", "SummingUp"]

EXTRACTIVE = "extractive"
_FILE = "summary/output.txt"
_NO_SPACES = ("zh", "ja")


class SummingUp:
    """One summary. Raises ``Invalid``."""

    def __init__(self, studio: Studio, writer: Writer | None, max_text: int, asked: SummaryRequest) -> None:
        if len(asked.text) > max_text:
            raise Invalid(f"text: at most {max_text} characters.", "text")
        if not any(letter.isalpha() for letter in asked.text):
            raise Invalid("text must hold something to summarize.", "text")
        known = {EXTRACTIVE} if writer is None else {EXTRACTIVE, writer.model}
        # Whoever names a model that is not here gets the one that is, which the answer tells.
        self._model = asked.model if asked.model in known else (EXTRACTIVE if writer is None else writer.model)
        self._studio, self._writer, self._asked = studio, writer, asked

    @property
    def details(self) -> dict[str, Any]:
        """What the status page shows from the start."""
        return {"model": self._model, "style": self._asked.style, "characters": len(self._asked.text)}

    async def work(self, job: Job) -> Mapping[str, Any]:
        """Choose or write, keep, and return the result."""
        start = time.monotonic()
        job.publish("progress", stage="reading", percent=5.0)
        told = await self._studio.board.in_thread(job, self._chosen)
        if self._writer is not None and self._model == self._writer.model:
            job.publish("progress", stage="writing", percent=30.0)
            told["summary"] = await self._writer.write(self._asked, told["summary_sentences"])
            told.pop("sentences")
        told["summary_words"] = count_words([told["summary"]])
        job.publish("chunk", text=told["summary"])
        data = told["summary"].encode()
        artifact = {"index": 0, "name": _FILE, "mime": "text/plain", "bytes": len(data)}
        milliseconds = round((time.monotonic() - start) * 1000)
        record = {
            **self.details, **told, "created": int(job.created), "units": told["text_words"],
            "milliseconds": milliseconds, "artifacts": [artifact],
        }  # fmt: skip
        asked = self._asked.model_dump(exclude_none=True, exclude={"callback_url", "wait", "stream"})
        await self._studio.keep(job, Item(job.id, job.owner, asked, record, {_FILE: data}))
        return {**told, "artifacts": [artifact], "milliseconds": milliseconds}

    def _chosen(self) -> dict[str, Any]:
        """In a worker thread: the extractive summary, and what is known of the text."""
        sentences = split_sentences(self._asked.text)
        language = language_of(self._asked.text) if self._asked.language == "auto" else self._asked.language
        number = how_many(len(sentences), self._asked.sentences, self._asked.ratio)
        picked = choose(sentences, language, number, self._asked.max_words)
        texts = [sentences[place] for place, _ in picked]
        if self._asked.style == "bullets":
            summary = "\n".join(f"- {text}" for text in texts)
        else:
            summary = ("" if language in _NO_SPACES else " ").join(texts)
        return {
            "summary": summary,
            "language": language,
            "sentences": [
                {"text": text, "index": place, "score": score}
                for text, (place, score) in zip(texts, picked, strict=True)
            ],
            "summary_sentences": len(texts),
            "text_sentences": len(sentences),
            "text_words": count_words(sentences),
        }
