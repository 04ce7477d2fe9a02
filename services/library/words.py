"""Words of texts and questions, for languages that put spaces between them.

A word is compared by its stem: without accents, and without the endings of plurals. That is less than a stemmer of each
language knows, and the same for all of them: a document and a question need not say which language they are in.
"""

from __future__ import annotations

import re
import unicodedata

from services.library.stop_words import SPANISH, STOP_WORDS

__all__ = ["match_expression", "search_beginnings", "search_terms", "sentences", "speaks_spanish", "stem", "words"]

_WORD = re.compile(r"[^\W_]+")
_MOST_TERMS = 32
"""Of one question."""
_SENTENCE_END = re.compile(r"[.!?…][\"'”»)\]]*(?=\s+[^\sa-z])|[。！？]|\n(?=\s*\n)|\n(?=[-*•\d])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Dra|Sr|Sra|St|No|Nr|Art|art|etc|e\.g|i\.e|p\.ej|z\.B|vs|ca)\.$"
)


def words(text: str) -> list[str]:
    """The words of ``text`` in their order, in small letters without accents."""
    plain = unicodedata.normalize("NFD", text.lower())
    return _WORD.findall("".join(char for char in plain if not unicodedata.combining(char)))


def stem(word: str) -> str:
    """``word``, as :func:`words` gives it, without the ending of a plural."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3]
    if len(word) > 5 and word.endswith("es"):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return word[:-1] if len(word) > 4 and word[-1] in "eoy" else word


def search_terms(question: str) -> list[str]:
    """The words to look for, each once, without those that are in every text; all where there are no others."""
    every = list(dict.fromkeys(words(question)))
    telling = [word for word in every if word not in STOP_WORDS]
    return (telling or every)[:_MOST_TERMS]


def search_beginnings(question: str) -> list[tuple[str, bool]]:
    """What to look for: a word, or where True is beside it all words that begin with it.

    Words are made by the same rule as those of an index; a beginning takes in what :func:`stem` cuts off.
    """
    cut = [(word, stem(word)) for word in search_terms(question)]
    return list(dict.fromkeys((short, True) if len(short) > 3 else (word, False) for word, short in cut))


def match_expression(question: str) -> str:
    """The expression of FTS5 that finds texts with any of the question's words; empty where it has none.

    Each term is quoted, so that nothing in a question is an operator.
    """
    return " OR ".join(f'"{word}"{"*" if begins else ""}' for word, begins in search_beginnings(question))


def sentences(text: str) -> list[str]:
    """The sentences of ``text``, in their order, without the white space around them. A line of a list is one."""
    found: list[str] = []
    start = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]:
        sentence = " ".join(text[start:end].split())
        start = end
        if not sentence:
            continue
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] += " " + sentence
        else:
            found.append(sentence)
    return found


def speaks_spanish(question: str) -> bool:
    """Whether a question is in Spanish rather than in another language."""
    if "¿" in question or "¡" in question:
        return True
    found = words(question)
    return sum(word in SPANISH for word in found) * 4 > len(found)
