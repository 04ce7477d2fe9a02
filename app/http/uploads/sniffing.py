"""What a file is, by its first bytes: a small table of the types that AI products are sent. Pure.

Sources: the formats' own documents; the WHATWG's MIME Sniffing Standard where it has them.
"""

from __future__ import annotations

__all__ = ["KNOWN", "WINDOW", "canonical", "sniff"]

WINDOW = 512
"""Bytes that are enough to tell."""

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"OggS\0", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "image/heic"),
    **dict.fromkeys((b"M4A ", b"M4B "), "audio/mp4"),
    **dict.fromkeys((b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"dash", b"M4V ", b"M4VP"),
                    "video/mp4"),
}  # fmt: skip
"""Of ISO's base media file format, by the brand (ISO/IEC 14496-12 section 4.3)."""
_MARKUP = (b"<!doctype", b"<html", b"<head", b"<body", b"<script", b"<iframe", b"<!--")
_SVG_NAMESPACE = b"http://www.w3.org/2000/svg"
KNOWN = frozenset(
    ["image/svg+xml", "video/webm", "text/html", *(kind for _, kind in _MAGIC), *_RIFF.values(), *_BRANDS.values()]
)
"""Types that are told by their bytes: what is declared as one of them must be it."""
_SAME = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/heif": "image/heic",
    "image/heic-sequence": "image/heic",
    "image/heif-sequence": "image/heic",
    "application/x-pdf": "application/pdf",
    "audio/mp3": "audio/mpeg",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/webm": "video/webm",
    "audio/x-m4a": "audio/mp4",
    "application/ogg": "audio/ogg",
    "video/ogg": "audio/ogg",
    "application/xhtml+xml": "text/html",
}


def canonical(kind: str) -> str:
    """Return the name that a media type goes by here."""
    return _SAME.get(kind, kind)


def sniff(head: bytes) -> str | None:
    """Return what a file is that begins with ``head``, :data:`WINDOW` bytes or all of it; None for what is not known.

    Matroska's sound and pictures in WebM are ``video/webm``, Ogg's ``audio/ogg``: the first bytes don't tell which.
    """
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _media_file(head)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm" if b"webm" in head[:64] else None
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4) and head[1] & 0x18 != 0x08:
        return "audio/mpeg"  # A frame of MPEG-1, 2 or 2.5, layer II or III
    return _markup(head)


def _markup(head: bytes) -> str | None:
    """Return what begins as SVG or HTML do; what stands before it, and is too long to see it, is taken for HTML."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith(b"<"):
        return None
    if _SVG_NAMESPACE in text:
        return "image/svg+xml"
    for begin, end in ((b"<?xml", b"?>"), (b"<!--", b"-->")) * 4:
        if text.startswith(begin) and end in text:
            text = text[text.index(end) + len(end) :].lstrip()
    if text.startswith((b"<svg", b"<!doctype svg")):
        return "image/svg+xml"
    return "text/html" if text.startswith(_MARKUP) else None


def _media_file(head: bytes) -> str | None:
    """Return what the major brand says, or else the first compatible one that is known."""
    end = min(len(head), int.from_bytes(head[:4], "big"))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    kinds = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    if brands[0] in (b"mif1", b"msf1") and "image/avif" in kinds:
        return "image/avif"  # Pictures of either kind may say first that they are pictures.
    return kinds[0] if kinds else None
