"""Sentences that answer a question, chosen from the passages that a search found.

A sentence is worth the question's words that it holds, each by how rare it is among the sentences at hand (inverse
document frequency), raised where it holds many of them, and lowered where it is long. Words of its heading count half:
what stands under "Refunds" need not say the word again. Passages come ranked by BM25, which breaks near ties. What says
the same as a chosen sentence is left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from services.library.records import Found
from services.library.words import search_terms, sentences, stem, words

__all__ = ["Chosen", "choose"]

_GOOD_ENOUGH = 0.4
"""Of the best one's worth."""
_ALIKE = 0.6
"""Share of common words from which two sentences say the same."""
_HEADING = 0.5
_READABLE = 30
"""Words of a sentence from which on it is lowered."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sentence of the passage with this index."""

    passage: int
    text: str
    worth: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    passage: int
    place: int
    text: str
    stems: frozenset[str]
    heading: frozenset[str]


def choose(question: str, passages: Sequence[Found], most: int) -> list[Chosen]:
    """At most ``most`` sentences, those of the best passage first, in the order in which they stand there."""
    asked = frozenset(stem(word) for word in search_terms(question))
    candidates = [
        _Candidate(index, place, text, _stems(text), _stems(passage.heading))
        for index, passage in enumerate(passages)
        for place, text in enumerate(sentences(passage.text))
    ]
    # Words are found by their beginnings, as the search has found them.
    frequency = Counter(term for one in candidates for term in asked if _has(one.stems, term))
    rarity = {term: math.log(1 + len(candidates) / (1 + frequency[term])) for term in asked}
    worths = [(_worth(one, rarity), one) for one in candidates]
    ranked = sorted(
        (pair for pair in worths if pair[0] > 0), key=lambda pair: (-pair[0], pair[1].passage, pair[1].place)
    )
    kept: list[tuple[float, _Candidate]] = []
    for worth, one in ranked:
        if len(kept) == most or worth < _GOOD_ENOUGH * ranked[0][0]:
            break
        if not any(_alike(one.stems, other.stems) for _, other in kept):
            kept.append((worth, one))
    order = list(dict.fromkeys(one.passage for _, one in kept))
    kept.sort(key=lambda pair: (order.index(pair[1].passage), pair[1].place))
    return [Chosen(one.passage, one.text, worth) for worth, one in kept]


def _worth(one: _Candidate, rarity: dict[str, float]) -> float:
    own = [term for term in rarity if _has(one.stems, term)]
    above = [term for term in rarity if term not in own and _has(one.heading, term)]
    weight = sum(rarity[term] for term in own) + _HEADING * sum(rarity[term] for term in above)
    covered = (len(own) + _HEADING * len(above)) / max(1, len(rarity))
    too_long = max(0, len(one.stems) - _READABLE)
    return weight * (0.5 + covered) * (1 + 0.2 / (1 + one.passage)) / (1 + too_long / _READABLE)


def _stems(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words(text))


def _has(stems: frozenset[str], term: str) -> bool:
    return term in stems or (len(term) > 3 and any(one.startswith(term) for one in stems))


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) > _ALIKE * len(one | other)
