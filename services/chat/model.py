"""A word-level language model of order four, with Witten-Bell smoothing, that is trained when the service starts.

Why so small a model: the service has to run offline, start in a second and still be *a model*, whose answer depends on
the question, the seed and the temperature. How it works:

* Training lays the corpus out as one sequence of word ids in which id 0 stands before every sentence. Sorting all its
  positions by the three words before them puts every context's continuations side by side: a context of one, two or
  three words is a range that two bisections find, and the whole table is two flat arrays.
* The probability of the next word mixes the orders from the shortest to the longest (Witten and Bell, 1991): a context
  that was seen ``n`` times with ``t`` different continuations trusts itself with ``n / (n + t)`` and passes the rest
  down. So the fourth order speaks where it knows something, and a context never seen falls back without a gap.
* A question bends this by a ``Topic``: factors for its own words, and smaller ones for words that the corpus uses near
  them. They multiply what the grammar of the n-grams already allows, so a bent sentence remains a sentence.

Pure: no clock, no input or output, randomness comes from the caller.
"""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from services.chat.text import corpus_sentences

__all__ = ["BOUNDARY", "LanguageModel", "Topic"]

BOUNDARY = 0
"""The id that stands before every sentence and, when it is sampled, ends one."""

Topic = dict[int, float]
"""Factors (over 1) by word id; a word that is not in it has factor 1."""

_WORD = re.compile(r"[^\W\d_]+")
_COMMON_FOLLOWERS = 48
"""A word's most frequent followers are candidates after it; the rest only when the topic asks for them."""
_STOP_WORDS = 90
"""The so many most frequent words that are not nouns (Newton's have capitals) say nothing about a topic."""
_SUBJECTS = frozenset(
    {" blue", " green", " red", " reflected", " refracted", " refrangible", " violet", " white", " yellow"}
)
"""The exceptions: as frequent as those, and what the book is about."""
_TOPIC_WORDS = 32
_TOPIC_CHARACTERS = 4096
"""Of one message, from its end: a question tends to stand last."""
_OWN_FACTOR = 24.0
_RELATED_FACTOR = 5.0
_RELATED_WORDS = 24
_WINDOW = 6
_PLACES = 40
"""How many occurrences of a topic word are looked at for its company."""
_LEAST_PREFIX = 4
_DETERMINERS = ("the", "this", "these", "those", "a", "an", "every", "all", "such", "some")


class LanguageModel:
    """The trained model. Immutable; one serves any number of generations at once.

    ``corpus`` is a book as plain text; ``ValueError`` when there is no prose in it. Training on half a megabyte takes
    about a third of a second and 15 MB.
    """

    def __init__(self, corpus: str) -> None:
        self.pieces: list[str] = [""]
        """The vocabulary: a piece by its id; the boundary's is empty."""
        self._sequence = self._encode(corpus)
        if len(self._sequence) < 3:
            raise ValueError("the corpus holds no prose to learn from")
        self._counts = Counter(self._sequence)
        self._stop_words = self._frequent()
        self._index_contexts()
        self._index_words()

    def distribution(self, context: Sequence[int], topic: Topic) -> dict[int, float]:
        """Weights of the next word after ``context`` (at least three ids, the last one newest), bent by ``topic``.

        The weights are positive, not normalised, and in an order that depends on the arguments alone. The candidates
        are the words that have followed the last word in the corpus, so there is always one.
        """
        last = context[-1]
        followers, total = self._followers[last], self._counts[last]
        weights = {word: count / total for word, count in self._common[last]}
        for word in topic:
            if word in followers:
                weights[word] = followers[word] / total
        for length in (2, 3):
            seen = self._continuations(context, length)
            if not seen:
                break
            trust = 1.0 / (len(seen) + sum(seen.values()))
            weights = {word: weight * len(seen) * trust for word, weight in weights.items()}
            for word, count in seen.items():
                weights[word] = weights.get(word, 0.0) + count * trust
        for word, factor in topic.items():
            if word in weights:
                weights[word] *= factor
        return weights

    def topic(self, texts: Iterable[tuple[str, float]]) -> Topic:
        """What a conversation is about. ``texts`` are its messages, each with its importance (0–1), newest first."""
        topic: Topic = {}
        for text, importance in texts:
            for found in dict.fromkeys(_WORD.findall(text[-_TOPIC_CHARACTERS:].casefold())):
                if len(topic) >= _TOPIC_WORDS:
                    break
                for word in self._spellings(found):
                    topic.setdefault(word, 1.0 + (_OWN_FACTOR - 1.0) * importance)
        for word, factor in list(topic.items()):
            for related in self._company(word):
                topic.setdefault(related, 1.0 + (_RELATED_FACTOR - 1.0) * factor / _OWN_FACTOR)
        return topic

    def beginning(self) -> list[int]:
        """The context in which a text begins: a sentence has just ended."""
        return [BOUNDARY, self._ids.get(".", BOUNDARY), BOUNDARY]

    def openings(self, topic: Topic) -> dict[tuple[int, int], float]:
        """Beginnings of sentences such as "The Prism": a determiner and one of the topic's foremost words.

        Weighted by how often the two stand together, anywhere in a sentence; empty where the topic has none such.
        """
        foremost = max(topic.values(), default=0.0)
        pairs: dict[tuple[int, int], float] = {}
        for determiner, capital in self._determiners:
            followers = self._followers[determiner]
            for word in topic:
                if topic[word] == foremost > _RELATED_FACTOR and word in followers:
                    pairs[capital, word] = pairs.get((capital, word), 0.0) + followers[word]
        return pairs

    def _encode(self, corpus: str) -> array[int]:
        """The corpus as ids, with a boundary before each sentence and after the last."""
        ids: dict[str, int] = {"": BOUNDARY}
        sequence = array("I", [BOUNDARY])
        for sentence in corpus_sentences(corpus):
            sequence.extend(ids.setdefault(piece, len(ids)) for piece in sentence)
            sequence.append(BOUNDARY)
        self.pieces = list(ids)
        self._ids = ids
        self._determiners = [
            (ids[f" {small}"], ids[f" {small.capitalize()}"])
            for small in _DETERMINERS
            if f" {small}" in ids and f" {small.capitalize()}" in ids
        ]
        return sequence

    def _frequent(self) -> frozenset[int]:
        """Ids of the most frequent words without a capital, and of the same words with one, as a sentence begins."""
        ranked = (self.pieces[word] for word, _ in self._counts.most_common())
        small = list(islice((piece for piece in ranked if piece.islower() and piece not in _SUBJECTS), _STOP_WORDS))
        capital = {self._ids.get(f" {piece.strip().capitalize()}", BOUNDARY) for piece in small}
        signs = {word for word, piece in enumerate(self.pieces) if not _WORD.search(piece)}
        return frozenset({self._ids[piece] for piece in small} | capital | signs)

    def _index_contexts(self) -> None:
        """Sort all positions by the three words before them, the nearest first."""
        sequence, size = self._sequence, len(self.pieces)
        before = [BOUNDARY, BOUNDARY, BOUNDARY, *sequence]
        keys = [(before[i + 2] * size + before[i + 1]) * size + before[i] for i in range(len(sequence))]
        order = sorted(range(len(sequence)), key=keys.__getitem__)
        self._keys = array("Q", (keys[i] for i in order))
        self._next = array("I", (sequence[i] for i in order))

    def _index_words(self) -> None:
        """By word: its followers, its most common ones, its places; and all words by their spelling."""
        self._followers: list[dict[int, int]] = [{} for _ in self.pieces]
        self._places: list[array[int]] = [array("I") for _ in self.pieces]
        # The last boundary is followed by the first sentence again, so that no word is a dead end.
        following = [*self._sequence[1:], self._sequence[1]]
        for place, (word, after) in enumerate(zip(self._sequence, following, strict=True)):
            self._followers[word][after] = self._followers[word].get(after, 0) + 1
            self._places[word].append(place)
        self._common = [
            sorted(followers.items(), key=lambda pair: -pair[1])[:_COMMON_FOLLOWERS] for followers in self._followers
        ]
        spelt = sorted((piece.strip().casefold(), word) for word, piece in enumerate(self.pieces))
        self._spelling = [pair for pair in spelt if _WORD.match(pair[0])]

    def _continuations(self, context: Sequence[int], length: int) -> Counter[int]:
        """What has followed the last ``length`` words, 1 to 3 of them, and how often."""
        size = len(self.pieces)
        key, width = 0, size ** (3 - length)
        for word in reversed(context[-length:]):
            key = key * size + word
        start = bisect_left(self._keys, key * width)
        return Counter(self._next[start : bisect_left(self._keys, (key + 1) * width, start)])

    def _spellings(self, word: str) -> list[int]:
        """Ids of a word, or of those that share most of its beginning: Newton wrote "Colours" and "Reflexion"."""
        for length in range(len(word), max(_LEAST_PREFIX, math.ceil(len(word) * 0.6)) - 1, -1):
            prefix = word[:length]
            start = bisect_left(self._spelling, (prefix, 0))
            alike = [number for spelt, number in self._spelling[start : start + 8] if spelt.startswith(prefix)]
            if alike:
                return [number for number in alike if number not in self._stop_words]
        return []

    def _company(self, word: int) -> list[int]:
        """Words that stand near ``word`` more often than their frequency explains."""
        near: Counter[int] = Counter()
        places = self._places[word]
        for place in places[:: max(1, len(places) // _PLACES)]:
            near.update(self._sequence[max(0, place - _WINDOW) : place + _WINDOW + 1])
        scored = sorted(
            (-count / math.sqrt(self._counts[other]), other)
            for other, count in near.items()
            if count > 1 and other not in self._stop_words
        )
        return [other for _, other in scored[:_RELATED_WORDS]]
