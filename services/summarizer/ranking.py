"""Which sentences say most of a text. Pure.

TextRank (Mihalcea and Tarau, 2004) over the cosine of TF-IDF vectors: a sentence is important when important ones are
like it. The beginning of a text counts somewhat more, as it does in news and reports; very short and very long ones
somewhat less. Of the best, one that repeats what was chosen before is passed over (maximal marginal relevance,
Carbonell and Goldstein, 1998). Those that are chosen stand in the text's order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.summarizer.sentences import count_words, terms_of

__all__ = ["MOST", "choose", "how_many"]

MOST = 1500
"""Sentences that are compared with each other; of a longer text these are spread over it."""
_DAMPING = 0.85
_ROUNDS = 50
_POSITION = 0.15
_NOVELTY = 0.35
_SAME = 0.7
"""Sentences as alike as that say the same: the second is taken only when there is nothing else."""
_DEFAULT_RATIO, _DEFAULT_MOST = 0.25, 7
Vector = NDArray[np.float64]


def how_many(total: int, sentences: int | None, ratio: float | None) -> int:
    """The number of sentences that was asked for, or a quarter, at most seven; at least one."""
    if sentences is not None:
        return min(sentences, total)
    if ratio is not None:
        return max(1, min(total, round(total * ratio)))
    return max(1, min(_DEFAULT_MOST, math.ceil(total * _DEFAULT_RATIO)))


def choose(sentences: Sequence[str], language: str, number: int, max_words: int | None) -> list[tuple[int, float]]:
    """Places and scores (0 … 1) of the best sentences, in the text's order. ``sentences`` is not empty."""
    places = sorted({round(place) for place in np.linspace(0, len(sentences) - 1, min(MOST, len(sentences)))})
    alike = _alikeness([terms_of(sentences[place], language) for place in places])
    scores = _ranks(alike) * _weights([len(sentences[place]) for place in places])
    scores = scores / (scores.max() or 1.0)
    return _picked(scores, alike, places, sentences, number, max_words)


def _picked(
    scores: Vector, alike: Vector, places: Sequence[int], sentences: Sequence[str], number: int, max_words: int | None
) -> list[tuple[int, float]]:
    picked: list[int] = []
    left = math.inf if max_words is None else max_words
    repeated = np.zeros(len(places))
    open_ones = set(range(len(places)))
    while open_ones and len(picked) < number:
        worth = (1 - _NOVELTY) * scores - _NOVELTY * repeated - 10.0 * (repeated > _SAME)
        best = max(open_ones, key=lambda index: (worth[index], -index))
        open_ones.remove(best)
        words = count_words([sentences[places[best]]])
        if words > left and (picked or open_ones):
            continue
        picked.append(best)
        left -= words
        repeated = np.maximum(repeated, alike[best])
    return sorted((places[index], round(float(scores[index]), 4)) for index in picked)


def _alikeness(terms: Sequence[Sequence[str]]) -> Vector:
    """The cosine of every two sentences' TF-IDF vectors; 0 of a sentence with itself."""
    frequency = Counter(term for each in terms for term in set(each))
    # A term of one sentence alone makes it like no other one: it counts for the length of the vector only.
    shared = {term: index for index, term in enumerate(term for term, times in frequency.items() if times > 1)}
    vectors = np.zeros((len(terms), max(1, len(shared))), dtype=np.float32)
    lengths = np.zeros(len(terms))
    for row, each in enumerate(terms):
        for term, count in Counter(each).items():
            weight = (1 + math.log(count)) * math.log(1 + len(terms) / frequency[term])
            lengths[row] += weight * weight
            if term in shared:
                vectors[row, shared[term]] = weight
    vectors /= np.sqrt(np.maximum(lengths, 1e-9))[:, None]
    alike: Vector = (vectors @ vectors.T).astype(np.float64)
    np.fill_diagonal(alike, 0.0)
    return alike


def _ranks(alike: Vector) -> Vector:
    """PageRank over the sentences, each of which recommends those that are like it."""
    size = len(alike)
    sums = alike.sum(axis=1, keepdims=True)
    shares = np.divide(alike, sums, out=np.full_like(alike, 1.0 / size), where=sums > 0)
    ranks = np.full(size, 1.0 / size)
    for _ in range(_ROUNDS):
        following = (1 - _DAMPING) / size + _DAMPING * (ranks @ shares)
        if float(np.abs(following - ranks).sum()) < 1e-6:
            break
        ranks = following
    return ranks


def _weights(lengths: Sequence[int]) -> Vector:
    """More for what stands at the beginning, less for what is much shorter or longer than the others."""
    size = len(lengths)
    position = 1 + _POSITION * np.exp(-np.arange(size) / max(2.0, size / 10))
    usual = float(np.median(lengths)) or 1.0
    length = np.array([min(1.0, 0.4 + each / usual, 0.4 + 1.5 * usual / each) for each in lengths])
    return np.asarray(position * length)
