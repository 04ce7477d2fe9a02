"""PostgreSQL's text search over the words that :mod:`services.library.words` makes, in place of its own parser's.

So both databases find the same texts by the same words, whatever locale PostgreSQL was set up with.
"""

from __future__ import annotations

from services.library.records import Passage
from services.library.words import search_beginnings, words

__all__ = ["any_of", "terms", "vector"]

_LONGEST = 255
"""Characters of a word; of longer ones their beginning. PostgreSQL takes 2,046 bytes."""
_LAST = 16_383
"""The last position that a tsvector knows."""


def vector(shelf: str, passage: Passage) -> str:
    """The tsvector of a passage: words of its heading weigh A, of its text D; and its shelf."""
    places: dict[str, list[str]] = {}
    headed = words(passage.heading)
    weighed = [(word, "A") for word in headed] + [(word, "") for word in words(passage.text)]
    for place, (word, weight) in enumerate(weighed, 1):
        places.setdefault(word[:_LONGEST], []).append(f"{min(place, _LAST)}{weight}")
    # Words have neither quotes nor backslashes, and none begins as the shelf does.
    return " ".join([f"'={shelf}'", *(f"'{word}':{','.join(at)}" for word, at in places.items())])


def terms(question: str) -> list[str]:
    """A tsquery for each word to look for; empty where the question has none."""
    return [f"'{word[:_LONGEST]}'{':*' if begins else ''}" for word, begins in search_beginnings(question)]


def any_of(shelf: str, terms: list[str]) -> str:
    """The tsquery of a shelf's passages with any of ``terms``: the index leaves other companies' aside."""
    return f"'={shelf}' & ({' | '.join(terms)})"
