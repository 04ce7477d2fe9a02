"""Texts as blocks: paragraphs with their heading and page. What is read of any format becomes these."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Block", "clean", "decoded", "markdown_blocks", "text_blocks"]

_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
"""Also marks of direction, by which a text can look like another one."""
_LINE_END = re.compile("\r\n|[\r\x85\u2028\u2029]")
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.+)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_LINK = re.compile(r"!?\[([^\[\]\n]{0,500})\]\([^()\n]{0,2000}\)")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,1000}>|<!--.{0,2000}?-->")
_MARKUP = re.compile(r"(\*\*|__|~~|`+)|(?<![\w*])[*_](?=\S)|(?<=\S)[*_](?![\w*])")
_SCRIPT = re.compile(r"<(script|style)\b.{0,100000}?</\1\s*>", re.IGNORECASE | re.DOTALL)
_LONGEST_HEADING = 200


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph. ``page`` counts from 1; 0 where there are no pages."""

    text: str
    heading: str = ""
    page: int = 0


def decoded(data: bytes, declared: str = "") -> str:
    """``data`` as text: by its byte order mark, as UTF-8, by the ``declared`` encoding, else as Windows-1252.

    No byte fails; what is no character becomes U+FFFD.
    """
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    if not broken:
        return text
    try:
        # Of those that turn bytes into text: "zip" and its like are encodings for Python, too.
        if declared and codecs.lookup(declared)._is_text_encoding and codecs.lookup(declared).name != "utf-8":
            return data.decode(declared, "replace")
    except (LookupError, UnicodeError):
        pass
    # Some broken characters in a text of UTF-8, or none of UTF-8 at all?
    beyond = sum(byte >= 0x80 for byte in data)
    return text if broken * 4 < beyond else data.decode("cp1252", "replace")


def clean(text: str) -> str:
    """``text`` in compatibility form (ligatures as letters), without control characters."""
    lines = _LINE_END.sub("\n", text).replace("\x0c", "\n\n").replace("\u00ad", "")
    return _CONTROL.sub("", unicodedata.normalize("NFKC", lines))


def text_blocks(text: str) -> Iterator[Block]:
    """The paragraphs of a plain text."""
    for paragraph in _PARAGRAPH.split(clean(text)):
        if stripped := paragraph.strip():
            yield Block(stripped)


def markdown_blocks(text: str) -> Iterator[Block]:
    """The paragraphs of a Markdown text under their headings, without markup; links and images keep their words."""
    heading, fenced = "", False
    lines: list[str] = []
    for line in [*_front_matter_cut(_SCRIPT.sub("", clean(text))).split("\n"), ""]:
        fence = _FENCE.match(line) is not None
        title = None if fenced or fence else _HEADING.fullmatch(line)
        underlined = not fenced and len(lines) == 1 and _UNDERLINE.fullmatch(line) is not None
        if underlined:
            heading, lines = _plain(lines[0])[:_LONGEST_HEADING], []
        elif title or fence or not (line.strip() or fenced) or (_is_row(line) and not fenced):
            yield from _paragraph(lines, heading, fenced)
            lines = []
            yield from _row(line, heading) if _is_row(line) else ()
            if title:
                heading = _plain(title[2].rstrip("# \t"))[:_LONGEST_HEADING]
        else:
            lines.append(line)
        fenced ^= fence
    yield from _paragraph(lines, heading, fenced)


def _paragraph(lines: list[str], heading: str, fenced: bool) -> Iterator[Block]:
    text = "\n".join(lines).strip() if fenced else "\n".join(_plain(line) for line in lines).strip()
    if text:
        yield Block(text, heading)


def _is_row(line: str) -> bool:
    return line.lstrip().startswith("|")


def _row(line: str, heading: str) -> Iterator[Block]:
    """A row of a table, in words; the line below its head says nothing."""
    cells = [_plain(cell) for cell in line.strip().strip("|").split("|")]
    if text := ": ".join(cell for cell in cells if cell.strip("-: ")):
        yield Block(text, heading)


def _plain(line: str) -> str:
    return _MARKUP.sub("", _TAG.sub("", _LINK.sub(r"\1", line))).strip()


def _front_matter_cut(text: str) -> str:
    if text.startswith("---\n") and (end := text.find("\n---\n", 3, 20_000)) > 0:
        return text[end + 5 :]
    return text
