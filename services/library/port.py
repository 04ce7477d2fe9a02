"""What the ingest and query services ask of a library, whichever database it is in.

There are two: a database of SQLite for each company (:mod:`services.library.sqlite`), and one of PostgreSQL for all
(:mod:`services.library.postgres`). One suite of tests is for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from services.library.records import Document, Found, NewDocument, Passage
from services.web.threads import Threads

__all__ = ["Documents", "Library"]


class Library(Protocol):
    """All companies' documents. Every method raises ``Unavailable`` when it can't be reached."""

    async def check(self) -> None:
        """Raise ``Unavailable`` unless it is there. The first call makes it, where there is nothing yet."""

    async def waiting(self) -> Sequence[tuple[str, str]]:
        """Shelf and id of the documents that wait to be read; of each shelf the oldest first."""

    def documents(self, shelf: str) -> Documents:
        """Return what one company has; its shelf is told by :func:`services.library.companies.shelf_of`."""

    def using(self, threads: Threads) -> Library:
        """Return the same library, whose work is done in other threads."""

    async def close(self) -> None: ...


class Documents(Protocol):
    """The documents of one company. Every method raises ``Unavailable`` when they can't be reached."""

    async def add(self, new: NewDocument, file: Path, now: float) -> tuple[Document, bool]:
        """Keep a document and its ``file``, which is moved; it waits to be read. True: it is new.

        The same file again is the document that is there, which waits again if it could not be read.
        """

    async def get(self, document: str) -> Document | None:
        """A document by its id."""

    async def newest(self, limit: int, before: str | None, status: str | None) -> list[Document]:
        """Documents, the newest first; ``before`` is the id of the last one seen."""

    async def passages(self, document: str, after: int, limit: int) -> list[tuple[int, Passage]]:
        """Passages of a document with numbers above ``after``."""

    async def rename(self, document: str, title: str) -> Document | None:
        """Give a document another title."""

    async def delete(self, document: str) -> bool:
        """Delete a document, its passages and its file; False where there is none."""

    async def finish(self, document: str, passages: Sequence[Passage], pages: int, now: float) -> None:
        """A waiting document was read: these are its passages. One that was deleted meanwhile stays deleted."""

    async def fail(self, document: str, error: str, now: float) -> None:
        """A waiting document could not be read."""

    async def counts(self) -> dict[str, Any]:
        """How much there is: ``documents``, ``waiting``, ``failed``, ``passages``, ``characters``, ``bytes``."""

    async def search(self, question: str, limit: int, only: Sequence[str] = ()) -> list[Found]:
        """The passages that fit a question best, the best first; ``only`` of these documents where there are any."""
