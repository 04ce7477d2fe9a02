"""Uploads: written to the library's disk as they come, never held in memory; known by their digest.

A file comes as a form (``multipart/form-data``, field ``file``), as the body itself (with ``?filename=``), or as JSON
with its text.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from services.ingest.sniffing import HEAD, Kind, kind_of
from services.library.folder import Folder
from services.library.records import NewDocument
from services.storage.paths import new_id
from services.web.callers import caller_of
from services.web.errors import ApiError, Invalid, Unavailable
from services.web.threads import Threads

__all__ = ["TextRequest", "Upload", "received"]

_PIECE = 256 * 1024
_TITLE = 300
_FIELD = 64 * 1024


class TextRequest(BaseModel):
    """A document as JSON."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(min_length=1)]
    title: Annotated[str, Field(max_length=_TITLE)] = ""
    filename: Annotated[str, Field(max_length=255)] = ""
    format: Kind | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is on the disk, synced, and what is known of it."""

    path: Path
    document: NewDocument


@dataclass(slots=True)
class _Named:
    filename: str = ""
    title: str = ""
    declared: str = ""
    kind: Kind | None = None


@asynccontextmanager
async def received(request: Request, folder: Folder, threads: Threads) -> AsyncIterator[Upload]:
    """Take the request's file; what of it is still there at the end is removed.

    Raises ``Invalid``, ``ApiError`` (415) for what nobody here reads, and ``Unavailable``.
    """
    await threads.run(folder.check)
    path = folder.incoming / secrets.token_hex(16)
    try:
        try:
            named, size, digest = await _written(request, path)
            head = await threads.run(_head, path)
        except OSError:
            raise Unavailable("The documents cannot be stored just now. Try again in a moment.") from None
        if size == 0:
            raise Invalid("The file is empty.", "file")
        filename = _safe_name(named.filename)
        kind = named.kind or kind_of(head, filename, named.declared)
        if kind is None:
            raise ApiError("Text, Markdown, HTML and PDF are read here; this is something else.", "file", 415)
        title = " ".join(named.title.split())[:_TITLE] or PurePosixPath(filename).stem or "Untitled"
        new = NewDocument(new_id("doc", time.time()), title, filename, kind, size, digest, caller_of(request).user)
        yield Upload(path, new)
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


async def _written(request: Request, path: Path) -> tuple[_Named, int, str]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _from_form(request, path)
    if media_type == "application/json":
        return await _from_json(request, path)
    named = _Named(request.query_params.get("filename", ""), request.query_params.get("title", ""), media_type)
    return named, *await _written_as_it_comes(request, path)


async def _from_form(request: Request, path: Path) -> tuple[_Named, int, str]:
    # The parser puts what is larger than a megabyte on the disk by itself; a body's size is limited for all services.
    async with request.form(max_files=1, max_fields=16, max_part_size=_FIELD) as form:
        file, title = form.get("file"), form.get("title")
        if not isinstance(file, UploadFile):
            raise Invalid("A form needs its file in the field file.", "file")
        declared = (file.content_type or "").partition(";")[0].strip().lower()
        named = _Named(file.filename or "", title if isinstance(title, str) else "", declared)
        return named, *await asyncio.to_thread(_copied, file.file, path)


async def _from_json(request: Request, path: Path) -> tuple[_Named, int, str]:
    try:
        asked = TextRequest.model_validate_json(await request.body())
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in problem["loc"]) or None
        raise Invalid(f"{param or 'The body'}: {problem['msg']}", param) from None
    if asked.format == "pdf":
        raise Invalid("format: a PDF is no text: send it as a file.", "format")
    data = asked.text.encode("utf-8", "replace")
    named = _Named(asked.filename, asked.title, "", asked.format)
    return named, *await asyncio.to_thread(_put, data, path)


async def _written_as_it_comes(request: Request, path: Path) -> tuple[int, str]:
    digest, size, held = hashlib.sha256(), 0, bytearray()
    file = await asyncio.to_thread(path.open, "xb")
    try:
        async for data in request.stream():
            held += data
            size += len(data)
            digest.update(data)
            if len(held) >= _PIECE:
                await asyncio.to_thread(file.write, bytes(held))
                held.clear()
        await asyncio.to_thread(_ended, file, bytes(held))
    finally:
        file.close()
    return size, digest.hexdigest()


def _copied(source: BinaryIO, path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        while data := source.read(_PIECE):
            file.write(data)
            digest.update(data)
            size += len(data)
        _ended(file, b"")
    return size, digest.hexdigest()


def _put(data: bytes, path: Path) -> tuple[int, str]:
    with path.open("xb") as file:
        _ended(file, data)
    return len(data), hashlib.sha256(data).hexdigest()


def _ended(file: BinaryIO, rest: bytes) -> None:
    file.write(rest)
    file.flush()
    os.fsync(file.fileno())


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _safe_name(name: str) -> str:
    """A file's name without folders and without what no name should hold; it never names a file here."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in name if char.isprintable() and char not in '"<>|:*?')[:255]
