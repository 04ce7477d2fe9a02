"""What a file is, by its first bytes; its name and declared type only tell texts from each other."""

from __future__ import annotations

import codecs
import re
from typing import Literal

__all__ = ["HEAD", "Kind", "kind_of"]

Kind = Literal["pdf", "html", "markdown", "text"]
HEAD = 8192
"""Bytes that are looked at."""
_FOREIGN = (
    b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd",
    b"\x7fELF", b"MZ", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"OggS", b"ID3", b"\x00\x00\x00",
    b"\xd0\xcf\x11\xe0", b"SQLite format 3", b"{\\rtf", b"%!PS",
)  # fmt: skip
"""Archives, programs, pictures, sounds, office files: nothing here reads them."""
_HTML = re.compile(
    rb"\s*(<\?xml[^>]{0,200}>\s*)?(<!--.{0,2000}?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_MARKDOWN_NAMES = (".md", ".markdown", ".mdown", ".mkd")
_HTML_NAMES = (".html", ".htm", ".xhtml")


def kind_of(head: bytes, filename: str, declared: str) -> Kind | None:
    """What a file with these first :data:`HEAD` bytes is; None for what cannot be read.

    ``declared`` is a media type without parameters, in small letters. A PDF may have some bytes before its mark
    (ISO 32000-1, annex H, note 13).
    """
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(_FOREIGN):
        return None
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\x00" in head and not wide:
        return None
    name = filename.lower()
    if name.endswith(".pdf") or declared == "application/pdf":
        return None
    plain = head.decode("utf-16", "replace").encode() if wide else head.removeprefix(codecs.BOM_UTF8)
    if _HTML.match(plain) or name.endswith(_HTML_NAMES) or declared in ("text/html", "application/xhtml+xml"):
        return "html"
    return "markdown" if name.endswith(_MARKDOWN_NAMES) or declared == "text/markdown" else "text"
