"""Documents on their way in: accepted when they are on the disk and in the database, read afterwards, never forgotten.

The database is the queue: a document waits there until its passages are in it. What this process holds are names of
documents to read next; after a restart, or when the database was away, they are found there again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from services.ingest.blocks import Block
from services.ingest.passages import passages_of
from services.ingest.reader import FileMissing, read
from services.ingest.reading import Unreadable
from services.ingest.settings import IngestSettings
from services.library.folder import Folder
from services.library.opening import open_library
from services.library.records import Document, Passage
from services.web.errors import Overloaded, Unavailable
from services.web.threads import Threads

__all__ = ["Desk"]

_PAUSE = 1.0
"""Seconds until the library is tried again."""
_TRIES = 5
_QUEUED_CALLS = 256
_T = TypeVar("_T")


class Desk:
    """Reads documents, ``settings.workers`` at once."""

    def __init__(self, settings: IngestSettings) -> None:
        self.folder = Folder(settings.library)
        self.threads = Threads("library", settings.threads, _QUEUED_CALLS)
        self.library = open_library(self.folder, settings.database_url, self.threads, has_files=True)
        self._threads = Threads("reading", settings.workers, settings.workers)
        self._own = self.library.using(self._threads)
        """What reads documents: it does not wait behind what is asked."""
        self._settings = settings
        self._queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue(settings.queue_limit)
        self._ended: dict[str, asyncio.Event] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Documents that this process knows to wait."""
        return self._queue.qsize()

    async def open(self) -> None:
        """Begin to read, first what waits since before."""
        with suppress(Unavailable):  # It starts all the same, and says so on its health page.
            await self.library.check()
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """End; what is being read waits for the next start."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        await self.library.close()
        self.threads.close()
        self._threads.close()

    def room(self) -> None:
        """Raise ``Overloaded`` unless one more document may wait."""
        if self._queue.full():
            raise Overloaded("Too many documents wait to be read. Try again in a moment.", retry_after=5)

    async def enqueue(self, shelf: str, document: str) -> None:
        """Have a waiting document read."""
        self._ended.setdefault(document, asyncio.Event())
        await self._queue.put((shelf, document))

    async def outcome(self, shelf: str, document: str) -> Document | None:
        """The document when it was read, or could not be; None if it was deleted."""
        ended = self._ended.get(document)
        if ended is not None:
            await ended.wait()
        return await self.library.documents(shelf).get(document)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._find_waiting())
            for _ in range(self._settings.workers):
                group.create_task(self._work())

    async def _find_waiting(self) -> None:
        """Queue what waits in the database, once it can be asked."""
        for shelf, document in await self._until_there(self._own.waiting):
            if document not in self._ended:
                await self.enqueue(shelf, document)

    async def _work(self) -> None:
        while True:
            shelf, document = await self._queue.get()
            await self._read(shelf, document)
            if ended := self._ended.pop(document, None):
                ended.set()

    async def _read(self, shelf: str, document: str) -> None:
        documents = self._own.documents(shelf)
        known = await self._until_there(documents.get, document)
        if known is None or known.status != "waiting":
            return
        try:
            blocks, pages = await self._blocks(shelf, known)
        except Unreadable as error:
            await self._until_there(documents.fail, document, str(error), time.time())
            return
        passages = await self._until_there(
            self._threads.run, _passages, blocks, known.title, self._settings.passage_characters
        )
        await self._until_there(documents.finish, document, passages, pages, time.time())

    async def _blocks(self, shelf: str, known: Document) -> tuple[list[Block], int]:
        """Read a file, again when it is not there: its disk may come back. Raises ``Unreadable``."""
        for _ in range(_TRIES):
            await self._until_there(self._threads.run, self.folder.check)
            try:
                return await read(self.folder.file(shelf, known.id), known.kind, self._settings)
            except FileMissing:
                await asyncio.sleep(_PAUSE)
        raise Unreadable("The file is lost: upload it again.")

    async def _until_there(self, function: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
        """What ``function`` returns, called again and again while the library is not there."""
        while True:
            try:
                return await function(*arguments)
            except Unavailable:
                await asyncio.sleep(_PAUSE)


def _passages(blocks: list[Block], title: str, length: int) -> list[Passage]:
    return list(passages_of(blocks, title, length))
