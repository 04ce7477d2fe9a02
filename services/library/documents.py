"""What is asked of one company's shelf, by SQLite. All block, and raise ``Unavailable`` when the library is away."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.library.records import Document, Found, NewDocument, Passage
from services.library.shelves import Shelves
from services.library.words import match_expression

__all__ = ["ShelfOfDocuments"]

_COLUMNS = (
    "id, title, filename, kind, bytes, digest, owner, status, error, pages, passages, characters, created, updated"
)
_SEARCH = """
SELECT p.document, d.title, p.number, p.page, p.heading, p.text, -bm25(words, 2.0, 1.0) AS score
FROM words JOIN passages p ON p.id = words.rowid JOIN documents d ON d.id = p.document
WHERE words MATCH ? AND d.status = 'ready' {only} ORDER BY bm25(words, 2.0, 1.0), p.id LIMIT ?
"""
"""BM25 (k1 1.2, b 0.75) as FTS5 has it; words of a heading count twice."""


class ShelfOfDocuments:
    """The documents of the shelf named ``shelf``; what each method does is said in :mod:`services.library.port`."""

    def __init__(self, shelves: Shelves, shelf: str) -> None:
        self._shelves = shelves
        self._shelf = shelf

    def add(self, new: NewDocument, file: Path, now: float) -> tuple[Document, bool]:
        row = (*_first(new), now, now)
        with self._shelves.writing(self._shelf) as shelf:
            known = _one(shelf, "digest", new.digest)
            if known is not None:
                if known.status != "failed":
                    return known, False
                shelf.execute("UPDATE documents SET status = 'waiting', error = NULL WHERE id = ?", (known.id,))
            else:
                marks = ", ".join("?" * 9)
                columns = "id, title, filename, kind, bytes, digest, owner, created, updated, status"
                shelf.execute(f"INSERT INTO documents ({columns}) VALUES ({marks}, 'waiting')", row)  # noqa: S608
            # Before the commit: a row without its file could never be read.
            self._shelves.folder.keep(file, self._shelf, (known or new).id)
            document = _one(shelf, "id", (known or new).id)
            assert document is not None, "it was just written"
        return document, known is None

    def get(self, document: str) -> Document | None:
        with self._shelves.reading(self._shelf) as shelf:
            return None if shelf is None else _one(shelf, "id", document)

    def newest(self, limit: int, before: str | None, status: str | None) -> list[Document]:
        with self._shelves.reading(self._shelf) as shelf:
            if shelf is None:
                return []
            rows = shelf.execute(
                f"SELECT {_COLUMNS} FROM documents WHERE (?1 IS NULL OR status = ?1) "  # noqa: S608
                "AND (?2 IS NULL OR (created, id) < (SELECT created, id FROM documents WHERE id = ?2)) "
                "ORDER BY created DESC, id DESC LIMIT ?3",
                (status, before, limit),
            )
            return [Document(*row) for row in rows]

    def passages(self, document: str, after: int, limit: int) -> list[tuple[int, Passage]]:
        with self._shelves.reading(self._shelf) as shelf:
            if shelf is None:
                return []
            rows = shelf.execute(
                "SELECT number, text, heading, page FROM passages WHERE document = ? AND number > ? "
                "ORDER BY number LIMIT ?",
                (document, after, limit),
            )
            return [(number, Passage(text, heading, page)) for number, text, heading, page in rows]

    def rename(self, document: str, title: str) -> Document | None:
        with self._shelves.writing(self._shelf) as shelf:
            shelf.execute("UPDATE documents SET title = ? WHERE id = ?", (title, document))
            return _one(shelf, "id", document)

    def delete(self, document: str) -> bool:
        with self._shelves.writing(self._shelf) as shelf:
            found = shelf.execute("DELETE FROM documents WHERE id = ?", (document,)).rowcount == 1
        if found:
            self._shelves.folder.forget(self._shelf, document)
        return found

    def finish(self, document: str, passages: Sequence[Passage], pages: int, now: float) -> None:
        size = sum(len(passage.text) for passage in passages)
        with self._shelves.writing(self._shelf) as shelf:
            changed = shelf.execute(
                "UPDATE documents SET status = 'ready', pages = ?, passages = ?, characters = ?, updated = ? "
                "WHERE id = ? AND status = 'waiting'",
                (pages, len(passages), size, now, document),
            )
            if changed.rowcount == 1:
                shelf.executemany(
                    "INSERT INTO passages (document, number, page, heading, text) VALUES (?, ?, ?, ?, ?)",
                    [(document, number, one.page, one.heading, one.text) for number, one in enumerate(passages)],
                )

    def fail(self, document: str, error: str, now: float) -> None:
        with self._shelves.writing(self._shelf) as shelf:
            shelf.execute(
                "UPDATE documents SET status = 'failed', error = ?, updated = ? WHERE id = ? AND status = 'waiting'",
                (error, now, document),
            )

    def waiting(self) -> list[str]:
        """Ids of documents that wait to be read, the oldest first."""
        with self._shelves.reading(self._shelf) as shelf:
            if shelf is None:
                return []
            rows = shelf.execute("SELECT id FROM documents WHERE status = 'waiting' ORDER BY created")
            return [row[0] for row in rows]

    def counts(self) -> dict[str, Any]:
        empty = {"documents": 0, "waiting": 0, "failed": 0, "passages": 0, "characters": 0, "bytes": 0}
        with self._shelves.reading(self._shelf) as shelf:
            if shelf is None:
                return empty
            row = shelf.execute(
                "SELECT count(*), total(status = 'waiting'), total(status = 'failed'), total(passages), "
                "total(characters), total(bytes) FROM documents"
            ).fetchone()
            return dict(zip(empty, map(int, row), strict=True))

    def search(self, question: str, limit: int, only: Sequence[str] = ()) -> list[Found]:
        expression = match_expression(question)
        if not expression:
            return []
        marks = f"AND d.id IN ({', '.join('?' * len(only))})" if only else ""
        with self._shelves.reading(self._shelf) as shelf:
            if shelf is None:
                return []
            rows = shelf.execute(_SEARCH.format(only=marks), (expression, *only, limit))
            return [Found(*row) for row in rows]


def _first(new: NewDocument) -> tuple[Any, ...]:
    return (new.id, new.title, new.filename, new.kind, new.bytes, new.digest, new.owner)


def _one(shelf: sqlite3.Connection, column: str, value: str) -> Document | None:
    row = shelf.execute(f"SELECT {_COLUMNS} FROM documents WHERE {column} = ?", (value,)).fetchone()  # noqa: S608
    return None if row is None else Document(*row)
