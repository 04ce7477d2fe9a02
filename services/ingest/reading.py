"""A file as blocks, read in a process of its own: ``python -m services.ingest.reading FILE KIND`` and limits.

Files come from anybody. A PDF can ask its reader for all memory and all time there is; so the process that reads it has
limits of both, no environment, and nobody's data, and what it writes is counted. It writes JSON lines: a list of page,
heading and text for each block, and at its end an object with the number of pages, or with an error for the uploader.
"""

from __future__ import annotations

import json
import logging
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from services.ingest.blocks import Block, clean, decoded, markdown_blocks, text_blocks
from services.ingest.pages import html_blocks, html_text

__all__ = ["Unreadable", "main", "pdf_blocks"]

_HYPHENATED = re.compile(r"(?<=[^\W\d_])-\n(?=[a-zà-ÿ])")
_PARAGRAPH = re.compile(r"\n\s*\n+")


class Unreadable(Exception):
    """Says to the uploader why a file cannot be read."""


def main(arguments: list[str]) -> int:
    """Write the file's blocks. ``arguments``: file, kind, most pages, most characters, bytes of memory, seconds."""
    name, kind, pages, characters, memory, seconds = arguments
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    try:
        last: dict[str, object] = {"pages": _write(Path(name), kind, int(pages), int(characters))}
    except Unreadable as error:
        last = {"error": str(error)}
    except MemoryError:
        last = {"error": "Reading this file takes too much memory."}
    except RecursionError:
        last = {"error": "This file is nested too deeply."}
    except OSError:
        last = {"missing": True}
    except Exception:
        last = {"error": "This file is damaged: it cannot be read."}
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


def _write(path: Path, kind: str, most_pages: int, most_characters: int) -> int:
    pages = left = 0
    left = most_characters
    for block in _blocks(path, kind, most_pages):
        left -= len(block.text)
        if left < 0:
            raise Unreadable(f"The text has more than {most_characters} characters.")
        pages = max(pages, block.page)
        sys.stdout.write(json.dumps([block.page, block.heading, block.text]) + "\n")
    if left == most_characters:
        raise Unreadable("There is no text in this file; scanned pages are pictures, which are not read.")
    return pages


def _blocks(path: Path, kind: str, most_pages: int) -> Iterator[Block]:
    match kind:
        case "pdf":
            return pdf_blocks(path, most_pages)
        case "html":
            return html_blocks(html_text(path.read_bytes()))
        case "markdown":
            return markdown_blocks(decoded(path.read_bytes()))
        case _:
            return text_blocks(decoded(path.read_bytes()))


def pdf_blocks(path: Path, most_pages: int) -> Iterator[Block]:
    """The paragraphs of a PDF's pages. Raises ``Unreadable``, and what pypdf raises."""
    from pypdf import PdfReader  # noqa: PLC0415  (a third of a second that other kinds need not wait for)

    with PdfReader(path) as reader:
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("This PDF is locked by a password.")
        if len(reader.pages) > most_pages:
            raise Unreadable(f"This PDF has more than {most_pages} pages.")
        for number, page in enumerate(reader.pages, 1):
            text = _HYPHENATED.sub("", clean(page.extract_text()))
            for paragraph in _PARAGRAPH.split(text):
                if joined := " ".join(paragraph.split()):
                    yield Block(joined, "", number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
