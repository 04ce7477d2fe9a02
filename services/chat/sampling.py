"""One answer, word by word: the sampling that turns the model's weights into text. Pure.

``Generation`` yields exactly one string for each token that the model produces. It may be empty: text that could be the
beginning of a stop sequence is held back until it is known not to be. The concatenation is the answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from services.chat.model import BOUNDARY, LanguageModel, Topic

__all__ = ["FinishReason", "Generation", "Sampling"]

FinishReason = Literal["stop", "length"]
_Choice = TypeVar("_Choice", int, tuple[int, int])

_USUAL_LENGTH = 60
"""Tokens after which an answer ends with its sentence."""
_CLOSING = frozenset({".", "?", "!"})
_CLOSING_FACTOR = 4.0
"""Past the usual length a sentence ends sooner."""
_REPEATED = 0.02
"""Three words that the answer has already said in a row are rarely said again: it would walk in circles."""
_SAID_FACTOR = 0.35
"""A topic word that was said is that much less wanted."""
_FADE = 0.5
"""How much less each earlier message counts for the topic."""
_REMEMBERED = 6


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample: OpenAI's parameters of the same names. ``max_tokens`` and ``min_tokens`` count pieces.

    ``min_tokens`` (an extension that other servers have as well) keeps an answer from ending earlier.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    min_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


class Generation:
    """An answer in the making: iterate once; afterwards ``finish_reason`` is set.

    ``texts`` are the conversation's messages, oldest first. With a seed the answer is a function of the arguments.
    """

    def __init__(self, model: LanguageModel, texts: Sequence[str], sampling: Sampling) -> None:
        self.tokens = 0
        """How many tokens were produced so far, those of a stop sequence included."""
        self.finish_reason: FinishReason | None = None
        self._model = model
        self._sampling = sampling
        newest = list(reversed(texts))[:_REMEMBERED]
        self._topic: Topic = model.topic((text, _FADE**age) for age, text in enumerate(newest))
        # The question is part of the seed: one that shares no word with the corpus gets an answer of its own, too.
        self._random = random.Random(None if sampling.seed is None else f"{sampling.seed}\n{newest[:1]}")
        self._least = min(_USUAL_LENGTH, sampling.max_tokens // 2)
        if sampling.min_tokens is not None:
            self._least = sampling.min_tokens

    def __iter__(self) -> Iterator[str]:
        held = ""
        for piece in self._produce():
            held += piece if self.tokens > 1 else piece.lstrip()
            cut = min((at for at in (held.find(stop) for stop in self._sampling.stop) if at >= 0), default=-1)
            if cut >= 0:
                self.finish_reason = "stop"
                yield held[:cut]
                return
            safe = len(held) - self._unsettled(held)
            yield held[:safe]
            held = held[safe:]
        if held:
            yield held

    def _unsettled(self, text: str) -> int:
        """Length of the longest end of ``text`` with which a stop sequence may begin."""
        return max(
            (size for stop in self._sampling.stop for size in range(1, len(stop)) if text.endswith(stop[:size])),
            default=0,
        )

    def _produce(self) -> Iterator[str]:
        """Pieces until a sentence ends late enough, or the limit."""
        context = self._model.beginning()
        opening = self._opening()
        said: set[tuple[int, ...]] = set()
        while True:
            word = opening.pop(0) if opening else self._choose(self._weights(context, said))
            context = [*context[1:], word]
            if word == BOUNDARY and self.tokens >= self._least:
                self.finish_reason = "stop"
                return
            if self.tokens == self._sampling.max_tokens:
                self.finish_reason = "length"
                return
            if word != BOUNDARY:
                said.add(tuple(context))
                if word in self._topic:
                    self._topic[word] = max(1.0, self._topic[word] * _SAID_FACTOR)
                self.tokens += 1
                yield self._model.pieces[word]

    def _opening(self) -> list[int]:
        """The first words of an answer that takes up the question's subject; none when the corpus has no such."""
        pairs = self._model.openings(self._topic)
        return list(self._choose(pairs)) if pairs else []

    def _weights(self, context: Sequence[int], said: set[tuple[int, ...]]) -> dict[int, float]:
        weights = self._model.distribution(context, self._topic)
        late = self.tokens >= self._least
        for word in weights:
            if (context[-2], context[-1], word) in said:
                weights[word] *= _REPEATED
            elif late and self._model.pieces[word] in _CLOSING:
                weights[word] *= _CLOSING_FACTOR
        return weights

    def _choose(self, weights: dict[_Choice, float]) -> _Choice:
        """One of them by temperature and nucleus; the likeliest (of equals, the first) at temperature 0."""
        temperature, top_p = self._sampling.temperature, self._sampling.top_p
        best = max(weights.values())
        if temperature < 0.01:
            return next(word for word, weight in weights.items() if weight == best)
        if temperature != 1.0:
            weights = {word: (weight / best) ** (1.0 / temperature) for word, weight in weights.items()}
        if top_p < 1.0:
            weights = _nucleus(weights, top_p)
        return self._random.choices(list(weights), list(weights.values()))[0]


def _nucleus(weights: dict[_Choice, float], top_p: float) -> dict[_Choice, float]:
    """The likeliest choices whose weights together first reach ``top_p`` of all."""
    left = top_p * sum(weights.values())
    kept: dict[_Choice, float] = {}
    for word, weight in sorted(weights.items(), key=lambda pair: -pair[1]):
        kept[word] = weight
        left -= weight
        if left <= 0:
            break
    return kept
