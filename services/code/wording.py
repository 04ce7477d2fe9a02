"""Words to stand where a screenshot has text: of the right length, since no letters are read. Pure."""

from __future__ import annotations

__all__ = ["words_for"]

_TEXT = """
text line here some words stand where the page had its own and say nothing but how long they were a short label long
phrase about what this part may hold name value item note plan team price start more open list view
"""
_WORDS = tuple(_TEXT.split())
_WIDTH = 0.52
"""Of a letter, in parts of the font's size."""


def words_for(width: int, font: int, number: int) -> str:
    """Words about ``width`` pixels long at ``font`` pixels; ``number`` chooses which."""
    letters = max(1, round(width / (font * _WIDTH)))
    words: list[str] = []
    state = number * 2_654_435_761 + 12_345
    while sum(len(word) + 1 for word in words) < letters:
        state = (state * 1_103_515_245 + 12_345) % 2**31
        words.append(_WORDS[(state >> 8) % len(_WORDS)])
    return " ".join(words)[:letters].strip().capitalize() or "A"
