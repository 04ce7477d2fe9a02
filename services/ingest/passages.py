"""Blocks as passages: near each other, under one heading, of about one length; the unit of searching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.ingest.blocks import Block
from services.library.records import Passage
from services.library.words import sentences

__all__ = ["passages_of"]


def passages_of(blocks: Iterable[Block], title: str, length: int) -> Iterator[Passage]:
    """Passages of at most ``length`` characters. No character is left out but white space between sentences.

    A passage goes over no heading and no page. Where there is no heading, the document's ``title`` is one.
    """
    gathered: list[str] = []
    size, heading, page = 0, "", 0
    for block in blocks:
        apart = (block.heading, block.page) != (heading, page)
        for piece in _pieces(block.text, length):
            if gathered and (apart or size + len(piece) + 1 > length):
                yield Passage("\n".join(gathered), heading or title, page)
                gathered, size = [], 0
            heading, page, apart = block.heading, block.page, False
            gathered.append(piece)
            size += len(piece) + 1
    if gathered:
        yield Passage("\n".join(gathered), heading or title, page)


def _pieces(text: str, length: int) -> Iterator[str]:
    """``text`` if it is short enough, else its sentences in groups; a longer sentence is cut between words."""
    if len(text) <= length:
        yield text
        return
    group = ""
    for sentence in sentences(text):
        for part in _cut(sentence, length):
            if group and len(group) + len(part) + 1 > length:
                yield group
                group = ""
            group = f"{group} {part}" if group else part
    if group:
        yield group


def _cut(text: str, length: int) -> Iterator[str]:
    while len(text) > length:
        end = text.rfind(" ", length // 2, length)
        end = length if end < 0 else end
        yield text[:end]
        text = text[end:].lstrip()
    if text:
        yield text
