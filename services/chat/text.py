"""Text in and out of pieces, and the corpus in sentences. Pure.

A piece is a word, a run of digits or one punctuation mark, together with the white space before it, so that joining
pieces gives the text back, character for character: what is streamed and what is answered whole cannot differ. Pieces
are also the unit of ``usage``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["corpus_sentences", "count_pieces", "split_pieces"]

_ABBREVIATIONS = "Fig|Figs|Prop|Theor|Prob|Obs|Observ|Exper|Def|Defin|Ax|Lib|Lect|Optic|Sect|Cor|Mr|Dr|St|viz|Deg|Min|p"
_PIECE = re.compile(
    rf"\s?(?:(?:\b(?:{_ABBREVIATIONS})|&c)\.|[^\W\d_]{{1,24}}(?:['’][^\W\d_]{{1,8}})?|\d{{1,8}}|[^\w\s]|_|[\W_])|\s+|."
)
_TERMINATORS = {".", "?", "!"}
_ASIDE = re.compile(r"\s*\[[^\]]*\]")
_PARENTHESIS = re.compile(r"\s\(([^()]*)\)([,;:.]?)")
_HEADING = re.compile(r"^(?:_?(?:Exper|Obs|Case|Quest?|Qu|Prop)\._?\s+\d+\.\s*|\d+\.\s+)")
_LETTERED = re.compile(r"\b[A-Z]{2,}\b|\b[B-HJ-Z]\b|\bFigs?\b|\bPart \d|sqrt|[{}|=+*´·×§]")
_SHORTEST = 5


def split_pieces(text: str) -> list[str]:
    """Cut any text into pieces whose concatenation is ``text``."""
    return _PIECE.findall(text)


def count_pieces(text: str) -> int:
    """How many pieces ``text`` has: the unit in which usage is counted."""
    return sum(1 for _ in _PIECE.finditer(text))


def corpus_sentences(corpus: str) -> Iterator[list[str]]:
    """The prose of a book as sentences of pieces, each of which but punctuation begins with one space.

    Headings, tables, footnotes and the geometry ("the line AC") are left out: spoken out of their figure they are
    noise. Paragraphs are separated by empty lines, italics marked by underscores.
    """
    for block in re.split(r"\n\s*\n", corpus):
        paragraph = _prose(block)
        if paragraph is None:
            continue
        for sentence in _sentences(split_pieces(" " + paragraph)):
            if len(sentence) >= _SHORTEST and not _LETTERED.search("".join(sentence)):
                yield sentence


def _prose(block: str) -> str | None:
    """The paragraph on one line, or None where the block is a heading, a table or a footnote."""
    if "|" in block or block.startswith((" ", "[")):
        return None
    text = _HEADING.sub("", " ".join(block.split())).replace("_", "")
    text = _PARENTHESIS.sub(lambda match: f", {match[1].rstrip(',;:.')}{match[2] or ','}", _ASIDE.sub("", text))
    # An unpaired bracket or quotation mark has lost its partner to a paragraph's end.
    text = re.sub(r",\s*([,;:.])", r"\1", re.sub(r"[()\[\]\"]", "", text))
    return text if text.endswith((".", "?", "!")) and not text.isupper() else None


def _sentences(pieces: list[str]) -> Iterator[list[str]]:
    """Cut at a full stop that a capital follows; abbreviations keep their stop within the piece."""
    start = 0
    for index, piece in enumerate(pieces):
        last = index + 1 == len(pieces)
        if piece in _TERMINATORS and (last or (pieces[index + 1][0].isspace() and pieces[index + 1][1:2].isupper())):
            yield pieces[start : index + 1]
            start = index + 1
