"""PDFs written by hand: small, or as nobody means well with them."""

from __future__ import annotations

import zlib

__all__ = ["pdf", "pdf_of_objects"]


def pdf_of_objects(*objects: bytes) -> bytes:
    """A file of these objects; the first is the catalog."""
    out, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(out))
    return out + head + table + tail


def pdf(*pages: str, stream: bytes | None = None) -> bytes:
    """A page for each text, whose lines are its lines; ``stream`` is all pages' compressed content instead."""
    first = 4
    kids = b" ".join(b"%d 0 R" % (first + 2 * index) for index in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for index, text in enumerate(pages):
        content = stream or zlib.compress(_shown(text))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (first + 2 * index + 1)
        )
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream" % (len(content), content))
    return pdf_of_objects(*objects)


def _shown(text: str) -> bytes:
    lines = [line.encode("cp1252") for line in text.split("\n")]
    escaped = [line.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)") for line in lines]
    return b"BT /F1 12 Tf 14 TL 72 720 Td " + b" ".join(b"(%b) Tj T*" % line for line in escaped) + b" ET"
