"""A library in SQLite: a database and a folder of files for each company. What blocks is done in threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.library.documents import ShelfOfDocuments
from services.library.folder import Folder
from services.library.port import Documents, Library
from services.library.records import Document, Found, NewDocument, Passage
from services.library.shelves import Shelves
from services.web.threads import Threads

__all__ = ["SqliteLibrary"]


class SqliteLibrary:
    """A :class:`~services.library.port.Library`. The threads are their owner's to close."""

    def __init__(self, folder: Folder, threads: Threads) -> None:
        self._folder = folder
        self._shelves = Shelves(folder)
        self._threads = threads

    async def check(self) -> None:
        await self._threads.run(self._folder.check)

    async def waiting(self) -> Sequence[tuple[str, str]]:
        return await self._threads.run(self._waiting)

    def documents(self, shelf: str) -> Documents:
        return _InThreads(ShelfOfDocuments(self._shelves, shelf), self._threads)

    def using(self, threads: Threads) -> Library:
        return SqliteLibrary(self._folder, threads)

    async def close(self) -> None:
        """Nothing is open between two calls."""

    def _waiting(self) -> list[tuple[str, str]]:
        shelves = self._shelves
        return [(name, one) for name in shelves.names() for one in ShelfOfDocuments(shelves, name).waiting()]


class _InThreads:
    """A :class:`~services.library.port.Documents`."""

    def __init__(self, documents: ShelfOfDocuments, threads: Threads) -> None:
        self._documents = documents
        self._run = threads.run

    async def add(self, new: NewDocument, file: Path, now: float) -> tuple[Document, bool]:
        return await self._run(self._documents.add, new, file, now)

    async def get(self, document: str) -> Document | None:
        return await self._run(self._documents.get, document)

    async def newest(self, limit: int, before: str | None, status: str | None) -> list[Document]:
        return await self._run(self._documents.newest, limit, before, status)

    async def passages(self, document: str, after: int, limit: int) -> list[tuple[int, Passage]]:
        return await self._run(self._documents.passages, document, after, limit)

    async def rename(self, document: str, title: str) -> Document | None:
        return await self._run(self._documents.rename, document, title)

    async def delete(self, document: str) -> bool:
        return await self._run(self._documents.delete, document)

    async def finish(self, document: str, passages: Sequence[Passage], pages: int, now: float) -> None:
        await self._run(self._documents.finish, document, passages, pages, now)

    async def fail(self, document: str, error: str, now: float) -> None:
        await self._run(self._documents.fail, document, error, now)

    async def counts(self) -> dict[str, Any]:
        return await self._run(self._documents.counts)

    async def search(self, question: str, limit: int, only: Sequence[str] = ()) -> list[Found]:
        return await self._run(self._documents.search, question, limit, only)
