"""Starts the process that reads a file (:mod:`services.ingest.reading`), and ends it in time."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import services
from services.ingest.blocks import Block
from services.ingest.reading import Unreadable
from services.ingest.settings import IngestSettings

__all__ = ["FileMissing", "read"]

_ROOT = Path(services.__file__).parents[1]
_PIECE = 65_536


class FileMissing(Exception):
    """The file was not there, or not to its end: its disk may have gone away."""


async def read(path: Path, kind: str, settings: IngestSettings) -> tuple[list[Block], int]:
    """The blocks of a file and the number of its pages.

    Raises ``Unreadable`` with words for the uploader, and ``FileMissing``.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.ingest.reading", str(path), kind, str(settings.max_pages),
        str(settings.max_characters), str(settings.read_memory), str(int(settings.read_seconds)),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        cwd=_ROOT, env={"PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert process.stdout is not None, "asked for above"
    try:
        async with asyncio.timeout(settings.read_seconds):
            # JSON writes a character in at most twelve bytes; a block adds its page and heading.
            written = await _all(process.stdout, settings.max_characters * 16 + _PIECE)
            await process.wait()
    except TimeoutError:
        raise Unreadable("Reading this file takes too long.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return await asyncio.to_thread(_told, written)


async def _all(stream: asyncio.StreamReader, most: int) -> bytes:
    written = bytearray()
    while piece := await stream.read(_PIECE):
        written += piece
        if len(written) > most:
            raise Unreadable("The text of this file is too long.")
    return bytes(written)


def _told(written: bytes) -> tuple[list[Block], int]:
    *lines, last = written.splitlines() or [b""]
    try:
        end = json.loads(last)
        blocks = [Block(text, heading, page) for page, heading, text in map(json.loads, lines)]
    except ValueError:
        end, blocks = {}, []
    if isinstance(end, dict) and "missing" in end:
        raise FileMissing
    if not isinstance(end, dict) or "pages" not in end:
        # Without a word of its own the process met one of its limits.
        error = end.get("error") if isinstance(end, dict) else None
        raise Unreadable(error or "Reading this file takes too much memory or time.")
    return blocks, end["pages"]
