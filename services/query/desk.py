"""The state of the query service: the library it reads, who writes its answers, and how many run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from services.library.folder import Folder
from services.library.opening import open_library
from services.library.records import Found
from services.query.answers import Extracting, Writer
from services.query.requests import SearchRequest
from services.query.settings import QuerySettings
from services.query.writing import Writing
from services.web.errors import Invalid, Overloaded, Unavailable
from services.web.threads import Threads

__all__ = ["Desk"]

_QUEUED_CALLS = 256


class Desk:
    """Finds passages and counts the answers that are being given."""

    def __init__(self, settings: QuerySettings) -> None:
        self.running = 0
        self.writer: Writer = (
            Extracting(settings.sentences, settings.words_per_second)
            if settings.base_url is None
            else Writing(settings)
        )
        self._threads = Threads("library", settings.threads, _QUEUED_CALLS)
        folder = Folder(settings.library)
        self._library = open_library(folder, settings.database_url, self._threads, has_files=False)
        self._settings = settings

    async def open(self) -> None:
        """Make the library, where there is none yet and its place is there."""
        with suppress(Unavailable):
            await self.check()

    async def close(self) -> None:
        """Close what is open."""
        await self.writer.close()
        await self._library.close()
        self._threads.close()

    async def check(self) -> None:
        """Raise ``Unavailable`` unless the library is there."""
        async with asyncio.timeout(5):
            await self._library.check()

    async def search(self, shelf: str, asked: SearchRequest) -> list[Found]:
        """The passages that fit best. Raises ``Invalid`` and ``Unavailable``."""
        if len(asked.query) > self._settings.question_limit:
            raise Invalid(f"query has at most {self._settings.question_limit} characters.", "query")
        limit = asked.top_k or self._settings.passages
        return await self._library.documents(shelf).search(asked.query, limit, asked.document_ids)

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count an answer while it is given. Raises ``Overloaded``."""
        if self.running >= self._settings.max_running:
            raise Overloaded("Too many answers are being given. Try again in a moment.")
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
