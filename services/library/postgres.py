"""A library in PostgreSQL: one database of all companies' passages, and a folder of their files.

A search ranks by how often a passage has a word (``ts_rank``), how rare the word is among the company's passages, and
how long the passage is; nothing that another company has takes part in it. So the order is that of SQLite's BM25 where
it is clear, and the figures are others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import ARRAY, Text, bindparam, delete, func, insert, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection

from services.database.database import Database
from services.library.folder import Folder, library_unavailable
from services.library.port import Documents, Library
from services.library.records import Document, Found, NewDocument, Passage
from services.library.tables import DOCUMENTS, PASSAGES
from services.library.vectors import any_of, terms, vector
from services.web.threads import Threads

__all__ = ["PostgresLibrary"]

_AT_ONCE = 200
"""Passages of one statement, which has five seconds."""
_COLUMNS = [column for column in DOCUMENTS.columns if column.name != "shelf"]
_SEARCH = text("""
WITH kept AS MATERIALIZED (
    SELECT sum(passages) AS passages, greatest(sum(characters), 1.0) / greatest(sum(passages), 1) AS length
    FROM library_documents WHERE shelf = :shelf AND status = 'ready'
),
hits AS MATERIALIZED (
    SELECT p.document, p.number, p.size, a.place,
        CAST(ts_rank('{0.5, 0.5, 0.5, 1.0}', p.words, CAST(a.term AS tsquery)) AS double precision) AS rank
    FROM library_passages p JOIN unnest(:terms) WITH ORDINALITY AS a (term, place) ON p.words @@ CAST(a.term AS tsquery)
    WHERE p.shelf = :shelf AND p.words @@ CAST(:any AS tsquery)
),
weighed AS (
    SELECT document, number, size, rank, count(*) OVER (PARTITION BY place) AS holders FROM hits
),
best AS MATERIALIZED (
    SELECT document, number,
        sum(
            ln(1 + (greatest(k.passages - holders, 0) + 0.5) / (holders + 0.5))
            * rank / (0.25 + 0.75 * size / k.length)
        ) AS score
    FROM weighed CROSS JOIN kept k WHERE cardinality(:only) = 0 OR document = ANY(:only)
    GROUP BY document, number ORDER BY score DESC, document, number LIMIT :most
)
SELECT b.document, d.title, b.number, p.page, p.heading, p.text, b.score
FROM best b JOIN library_passages p USING (document, number) JOIN library_documents d ON d.id = b.document
ORDER BY b.score DESC, b.document, b.number
""").bindparams(bindparam("terms", type_=ARRAY(Text)), bindparam("only", type_=ARRAY(Text)))


class PostgresLibrary:
    """A :class:`~services.library.port.Library`. Without a ``folder`` no document is added or deleted.

    What computes is done in ``threads``, which are their owner's to close.
    """

    def __init__(self, database: Database, folder: Folder | None, threads: Threads) -> None:
        self._database = database
        self._folder = folder
        self._threads = threads

    @classmethod
    def at(cls, url: str, folder: Folder | None, threads: Threads) -> PostgresLibrary:
        """Return the library of this database, whose tables are made when it is first reached."""
        migrations = Path(__file__).parent / "migrations"
        return cls(Database(url, "library", migrations), folder, threads)

    async def check(self) -> None:
        if self._folder is not None:
            await self._threads.run(self._folder.check)
        await self._database.check()

    async def waiting(self) -> Sequence[tuple[str, str]]:
        asked = select(DOCUMENTS.c.shelf, DOCUMENTS.c.id).where(DOCUMENTS.c.status == "waiting")
        async with self._database.reading() as connection:
            rows = await connection.execute(asked.order_by(DOCUMENTS.c.created))
            return [(row.shelf, row.id) for row in rows]

    def documents(self, shelf: str) -> Documents:
        return _Documents(self._database, self._folder, self._threads, shelf)

    def using(self, threads: Threads) -> Library:
        return PostgresLibrary(self._database, self._folder, threads)

    async def close(self) -> None:
        """Close the connections, also of those that this one was made from."""
        await self._database.close()


class _Documents:
    """A :class:`~services.library.port.Documents`."""

    def __init__(self, database: Database, folder: Folder | None, threads: Threads, shelf: str) -> None:
        self._database, self._folder, self._threads, self._shelf = database, folder, threads, shelf
        self._mine = DOCUMENTS.c.shelf == shelf

    async def add(self, new: NewDocument, file: Path, now: float) -> tuple[Document, bool]:
        assert self._folder is not None, "who adds documents has a place for their files"
        row = {
            "id": new.id, "shelf": self._shelf, "title": _plain(new.title), "filename": _plain(new.filename),
            "kind": new.kind, "bytes": new.bytes, "digest": new.digest, "owner": _plain(new.owner),
            "status": "waiting", "created": now, "updated": now,
        }  # fmt: skip
        async with self._database.writing() as connection:
            # Whoever adds the same file at the same time waits here until this one is in, and finds it.
            made = await connection.execute(insert_or(DOCUMENTS).values(row).on_conflict_do_nothing())
            document = await self._one(connection, DOCUMENTS.c.digest == new.digest)
            if document is None:
                raise library_unavailable()  # Deleted between two statements: the next try finds it gone.
            if made.rowcount == 0:
                if document.status != "failed":
                    return document, False
                again = update(DOCUMENTS).where(DOCUMENTS.c.id == document.id).values(status="waiting", error=None)
                await connection.execute(again)
                document = replace(document, status="waiting", error=None)
            # Before the commit: a row without its file could never be read.
            await self._threads.run(self._folder.keep, file, self._shelf, document.id)
        return document, made.rowcount == 1

    async def get(self, document: str) -> Document | None:
        async with self._database.reading() as connection:
            return await self._one(connection, DOCUMENTS.c.id == _plain(document))

    async def newest(self, limit: int, before: str | None, status: str | None) -> list[Document]:
        asked = select(*_COLUMNS).where(self._mine)
        if status is not None:
            asked = asked.where(DOCUMENTS.c.status == status)
        if before is not None:
            seen = select(DOCUMENTS.c.created, DOCUMENTS.c.id).where(self._mine, DOCUMENTS.c.id == _plain(before))
            asked = asked.where(tuple_(DOCUMENTS.c.created, DOCUMENTS.c.id) < seen.scalar_subquery())
        asked = asked.order_by(DOCUMENTS.c.created.desc(), DOCUMENTS.c.id.desc()).limit(limit)
        async with self._database.reading() as connection:
            return [Document(*row) for row in await connection.execute(asked)]

    async def passages(self, document: str, after: int, limit: int) -> list[tuple[int, Passage]]:
        its = (PASSAGES.c.shelf == self._shelf, PASSAGES.c.document == _plain(document), PASSAGES.c.number > after)
        asked = select(PASSAGES.c.number, PASSAGES.c.text, PASSAGES.c.heading, PASSAGES.c.page).where(*its)
        async with self._database.reading() as connection:
            rows = await connection.execute(asked.order_by(PASSAGES.c.number).limit(limit))
            return [(number, Passage(text, heading, page)) for number, text, heading, page in rows]

    async def rename(self, document: str, title: str) -> Document | None:
        its = (self._mine, DOCUMENTS.c.id == _plain(document))
        async with self._database.writing() as connection:
            await connection.execute(update(DOCUMENTS).where(*its).values(title=_plain(title)))
            return await self._one(connection, DOCUMENTS.c.id == _plain(document))

    async def delete(self, document: str) -> bool:
        assert self._folder is not None, "who deletes documents has their files"
        async with self._database.writing() as connection:
            done = await connection.execute(delete(DOCUMENTS).where(self._mine, DOCUMENTS.c.id == _plain(document)))
        if done.rowcount == 1:
            await self._threads.run(self._folder.forget, self._shelf, document)
        return done.rowcount == 1

    async def finish(self, document: str, passages: Sequence[Passage], pages: int, now: float) -> None:
        size = sum(len(passage.text) for passage in passages)
        told = {"status": "ready", "pages": pages, "passages": len(passages), "characters": size, "updated": now}
        waits = (self._mine, DOCUMENTS.c.id == document, DOCUMENTS.c.status == "waiting")
        rows = await self._threads.run(_rows, self._shelf, document, passages)
        async with self._database.writing() as connection:
            if (await connection.execute(update(DOCUMENTS).where(*waits).values(told))).rowcount == 0:
                return
            for first in range(0, len(rows), _AT_ONCE):
                await connection.execute(insert(PASSAGES), rows[first : first + _AT_ONCE])

    async def fail(self, document: str, error: str, now: float) -> None:
        waits = (self._mine, DOCUMENTS.c.id == document, DOCUMENTS.c.status == "waiting")
        async with self._database.writing() as connection:
            told = {"status": "failed", "error": _plain(error), "updated": now}
            await connection.execute(update(DOCUMENTS).where(*waits).values(told))

    async def counts(self) -> dict[str, Any]:
        columns = DOCUMENTS.c
        figures = {
            "documents": func.count(),
            "waiting": func.count().filter(columns.status == "waiting"),
            "failed": func.count().filter(columns.status == "failed"),
            "passages": func.sum(columns.passages),
            "characters": func.sum(columns.characters),
            "bytes": func.sum(columns.bytes),
        }
        async with self._database.reading() as connection:
            row = (await connection.execute(select(*figures.values()).where(self._mine))).one()
        return {name: int(value or 0) for name, value in zip(figures, row, strict=True)}

    async def search(self, question: str, limit: int, only: Sequence[str] = ()) -> list[Found]:
        looked_for = terms(question)
        if not looked_for:
            return []
        asked = {
            "terms": looked_for, "any": any_of(self._shelf, looked_for), "shelf": self._shelf, "most": limit,
            "only": [_plain(one) for one in only],
        }  # fmt: skip
        async with self._database.reading() as connection:
            return [Found(*row) for row in await connection.execute(_SEARCH, asked)]

    async def _one(self, connection: AsyncConnection, condition: Any) -> Document | None:
        row = (await connection.execute(select(*_COLUMNS).where(self._mine, condition))).first()
        return None if row is None else Document(*row)


def _rows(shelf: str, document: str, passages: Sequence[Passage]) -> list[dict[str, Any]]:
    return [
        {
            "document": document, "number": number, "shelf": shelf, "page": one.page, "heading": _plain(one.heading),
            "text": _plain(one.text), "size": len(one.text), "words": vector(shelf, one),
        }
        for number, one in enumerate(passages)
    ]  # fmt: skip


def _plain(value: str) -> str:
    """``value`` as PostgreSQL can hold it: it has no character 0."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
