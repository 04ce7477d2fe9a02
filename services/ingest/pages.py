"""HTML as blocks: what a reader sees, under its headings. Scripts, styles and what is hidden are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from services.ingest.blocks import Block, clean, decoded

__all__ = ["html_blocks", "html_text"]

_UNSEEN = frozenset(
    [
        "script",
        "style",
        "template",
        "noscript",
        "svg",
        "math",
        "iframe",
        "object",
        "embed",
        "canvas",
        "audio",
        "video",
        "select",
        "textarea",
    ]
)
_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"]
)
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_APART = _HEADINGS | frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "dd",
        "div",
        "dl",
        "dt",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "title",
        "tr",
        "ul",
        "caption",
        "details",
        "summary",
    ]
)
_CHARSET = re.compile(rb"<meta[^>]{0,500}charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_LONGEST_HEADING = 200
_DEEPEST = 100


def html_text(data: bytes) -> str:
    """A page's bytes as text, by its mark, its ``meta`` or as UTF-8."""
    declared = _CHARSET.search(data[:4096])
    return decoded(data, declared[1].decode("ascii") if declared else "")


def html_blocks(text: str) -> Iterator[Block]:
    """The blocks of a page."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    reader.flush()
    yield from reader.blocks


class _Reader(HTMLParser):
    """Collects text between tags that stand apart. Ends that are missing, or too many, do no harm."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._heading = ""
        self._parts: list[str] = []
        self._within: list[str] = []
        """Tags that are open below the one that is not seen, and that one."""
        self._in_heading = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if self._within:
            if tag == self._within[0] and tag not in _VOID and len(self._within) < _DEEPEST:
                self._within.append(tag)
            return
        if tag in _VOID:
            self._parts.append("\n" if tag in ("br", "hr") else " ")
            return
        given = dict(attributes)
        if tag in _UNSEEN or "hidden" in given or _HIDDEN.search(given.get("style") or ""):
            self._within.append(tag)
        elif tag in _APART:
            self.flush()
            self._in_heading = tag in _HEADINGS or tag == "title"

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if not self._within:
            self._parts.append("\n" if tag in ("br", "hr") else " ")

    def handle_endtag(self, tag: str) -> None:
        if self._within:
            if tag == self._within[0]:
                self._within.pop()
        elif tag in _APART:
            self.flush()

    def handle_data(self, data: str) -> None:
        if not self._within:
            self._parts.append(data)

    def flush(self) -> None:
        """End a block."""
        lines = (" ".join(line.split()) for line in clean("".join(self._parts)).split("\n"))
        # In a page a line's end is white space; <br> was put in as one, which is as good.
        text = "\n".join(line for line in lines if line)
        self._parts = []
        if self._in_heading:
            self._heading = " ".join(text.split())[:_LONGEST_HEADING] or self._heading
        elif text:
            self.blocks.append(Block(text, self._heading))
        self._in_heading = False
