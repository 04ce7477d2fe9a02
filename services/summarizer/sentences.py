"""A text in sentences, a sentence in terms, and which language it is. Pure.

Terms are words without accents and endings: cut after six letters, which for ranking is as good as a stemmer and knows
every language with an alphabet. Chinese and Japanese, which put no spaces, are taken in pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from services.summarizer.words import ABBREVIATIONS, STOP_WORDS

__all__ = ["count_words", "language_of", "split_sentences", "terms_of"]

_END = re.compile(r"(?:[.!?…]+[\"'”’»)\]]*(?=\s|$)|[。！？]+[」』”）]*|\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)])\s))")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+(?:[.,]\d+)*")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_KANA = re.compile(r"[\u3040-\u30ff]")
_CYRILLIC = re.compile(r"[\u0400-\u04ff]")
_STEM = 6
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_LONGEST = 2000
"""Characters of a sentence; a longer one is a table or a list without stops, and is cut."""


def split_sentences(text: str) -> list[str]:
    """The sentences in their order, white space folded. What has no letters is none."""
    found, start = [], 0
    for match in _END.finditer(text):
        if _is_abbreviated(text, start, match):
            continue
        found.append(text[start : match.end()])
        start = match.end()
    found.append(text[start:])
    folded = (" ".join(_BULLET.sub("", piece).split()) for piece in found)
    return [piece[:_LONGEST] for piece in folded if any(letter.isalpha() for letter in piece)]


def _is_abbreviated(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether this full stop ends an abbreviation, an initial or a number, and no sentence."""
    if not match[0].startswith(".") or match[0].startswith(".."):
        return False
    before = text[max(start, match.start() - 20) : match.start()].split()
    last = before[-1].lstrip("(\"'“«").casefold() if before else ""
    after = text[match.end() : match.end() + 3].lstrip()
    # A letter alone is an initial, but not the "I" or the variable that ends a sentence before a small word.
    initial = len(last) == 1 and last.isalpha() and after[:1].isupper()
    return last in ABBREVIATIONS or initial or after[:1].islower()


def language_of(text: str) -> str:
    """The language, of those that are known; English where nothing tells."""
    sample = text[:20_000]
    letters = sum(letter.isalpha() for letter in sample) or 1
    if sum(len(run) for run in _CJK.findall(sample)) > letters * 0.3:
        return "ja" if len(_KANA.findall(sample)) > letters * 0.1 else "zh"
    if len(_CYRILLIC.findall(sample)) > letters * 0.5:
        return "ru"
    counts = Counter(_plain(word) for word in _WORD.findall(sample))
    scores = {language: sum(counts[word] for word in words) for language, words in STOP_WORDS.items()}
    best = max(scores, key=lambda language: scores[language])
    return best if scores[best] else "en"


def terms_of(sentence: str, language: str) -> list[str]:
    """What a sentence is about: its words but the frequent ones, without their endings."""
    stop = STOP_WORDS.get(language, frozenset())
    terms = []
    for word in _WORD.findall(sentence):
        if _CJK.search(word):
            terms += [word[place : place + 2] for place in range(max(1, len(word) - 1))]
            continue
        plain = _plain(word)
        if len(plain) > 1 and plain not in stop:
            terms.append(plain[:_STEM])
    return terms


def count_words(sentences: Sequence[str]) -> int:
    """Words; in Chinese and Japanese two characters are one."""
    total = 0
    for sentence in sentences:
        wide = sum(len(run) for run in _CJK.findall(sentence))
        total += (wide + 1) // 2 + len(_WORD.findall(_CJK.sub(" ", sentence)))
    return total


def _plain(word: str) -> str:
    """Without case and accents; of Cyrillic the letters stay as they are."""
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
