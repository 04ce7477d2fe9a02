"""Answers as events: citations first, then text, then the end. Made of sentences, or written by a language model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.library.records import Found
from services.library.words import speaks_spanish, words
from services.query.requests import citation
from services.query.selection import Chosen, choose
from services.web.streaming import paced

__all__ = ["Answer", "AnswerEvent", "Citation", "Completed", "Delta", "Extracting", "Writer", "collected"]

_NOTHING = "There is nothing in the documents that answers this."
_NOTHING_SPANISH = "No hay nada en los documentos que responda a esta pregunta."
_PIECE = re.compile(r"\S+\s*")


@dataclass(frozen=True, slots=True)
class Citation:
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delta:
    text: str


@dataclass(frozen=True, slots=True)
class Completed:
    """``found`` is false where no document has an answer."""

    found: bool
    model: str
    prompt_tokens: int
    completion_tokens: int
    reason: str = "stop"


AnswerEvent = Citation | Delta | Completed


class Writer(Protocol):
    """What answers are made by."""

    model: str

    def answer(self, question: str, passages: Sequence[Found]) -> AsyncGenerator[AnswerEvent]:
        """The answer's events; the last is ``Completed``. Raises ``ApiError``."""

    async def close(self) -> None: ...


@dataclass(slots=True)
class Answer:
    """An answer as a whole."""

    text: str = ""
    citations: list[dict[str, Any]] = field(default_factory=list)
    end: Completed | None = None

    def shown(self, answer_id: str) -> dict[str, Any]:
        """The answer's JSON."""
        assert self.end is not None, "shown when it is complete"
        return {"id": answer_id, "answer": self.text, "citations": self.citations, **ended(self.end)}


def ended(end: Completed) -> dict[str, Any]:
    """The JSON of an answer's end."""
    total = end.prompt_tokens + end.completion_tokens
    usage = {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens, "total_tokens": total}
    return {"found": end.found, "model": end.model, "reason": end.reason, "usage": usage}


async def collected(events: AsyncGenerator[AnswerEvent]) -> Answer:
    """All of an answer."""
    answer, texts = Answer(), []
    async with aclosing(events):
        async for event in events:
            match event:
                case Citation(data):
                    answer.citations.append(data)
                case Delta(text):
                    texts.append(text)
                case Completed():
                    answer.end = event
    answer.text = "".join(texts)
    return answer


class Extracting:
    """Answers in the documents' own sentences, each with the number of its citation."""

    model = "extractive"

    def __init__(self, sentences: int, words_per_second: float) -> None:
        self._sentences = sentences
        self._pace = words_per_second

    async def answer(self, question: str, passages: Sequence[Found]) -> AsyncGenerator[AnswerEvent]:
        """The answer's events. A word is what counts as a token."""
        chosen = await asyncio.to_thread(choose, question, passages, self._sentences)
        numbers = {index: number for number, index in enumerate(dict.fromkeys(one.passage for one in chosen), 1)}
        for index, number in numbers.items():
            quote = " ".join(one.text for one in chosen if one.passage == index)
            yield Citation(citation(number, passages[index], quote))
        text = _joined(chosen, numbers) or (_NOTHING_SPANISH if speaks_spanish(question) else _NOTHING)
        pieces = _PIECE.findall(text)
        async with aclosing(paced(pieces, self._pace)) as steps:
            async for piece in steps:
                yield Delta(piece)
        read = len(words(question)) + sum(len(words(passage.text)) for passage in passages)
        yield Completed(bool(chosen), self.model, read, len(pieces))

    async def close(self) -> None:
        """Nothing is open."""


def _joined(chosen: Sequence[Chosen], numbers: dict[int, int]) -> str:
    """The sentences, each run of one passage followed by its number."""
    parts: list[str] = []
    for place, one in enumerate(chosen):
        parts.append(one.text.lstrip("-*•· "))
        if place + 1 == len(chosen) or chosen[place + 1].passage != one.passage:
            parts[-1] += f" [{numbers[one.passage]}]"
    return " ".join(parts)
