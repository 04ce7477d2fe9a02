"""Shelves: a database of SQLite for each company, in the library's folder.

Companies share nothing but the folder: a search reads one company's database, so that neither texts nor the weights
that BM25 gives to words tell anything of another one. A company's shelf is named by a hash of its id, not by the id.

A connection lives for one call. So a folder that goes away (a volume, a disk) shows at once, instead of calls that go
on into files that are nobody's any more. What was answered has been committed and synced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from services.library.folder import Folder, library_unavailable
from services.library.schema import SCHEMA, VERSION

__all__ = ["Shelves"]

_BUSY = 5.0
"""Seconds that a call waits while another one writes."""
_STEPS = 1000
_MOST_STEPS = 200_000
"""Of SQLite's machine, in thousands, per call: some seconds. A search that takes more is given up."""


class Shelves:
    """Opens databases in ``folder``. Its methods block: they are called in threads."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """All companies' shelves. Raises ``Unavailable``."""
        self.folder.check()
        try:
            return sorted(path.stem for path in self.folder.shelves.glob("*.sqlite"))
        except OSError:
            raise library_unavailable() from None

    @contextmanager
    def reading(self, shelf: str) -> Iterator[sqlite3.Connection | None]:
        """A connection that changes nothing; None for a company that has no documents. Raises ``Unavailable``."""
        self.folder.check()
        path = self._path(shelf)
        if not path.exists():
            yield None
            return
        with _translated(), _connected(path, "rw") as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                yield None  # Whoever makes it is not done.
                return
            connection.execute("PRAGMA query_only = ON")
            yield connection

    @contextmanager
    def writing(self, shelf: str) -> Iterator[sqlite3.Connection]:
        """A transaction, committed and synced at the end. Raises ``Unavailable``; ``IntegrityError`` passes."""
        self.folder.check()
        with _translated(), _connected(self._path(shelf), "rwc") as connection:
            # Whoever finds it locked finds another who switches it: it is the file's. SQLite does not wait here.
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            try:
                if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                    _make_tables(connection)
                yield connection
            except BaseException:
                connection.rollback()
                raise
            # Committed into a folder that has gone meanwhile, it would be lost to whoever is told that it is there.
            self.folder.check()
            connection.commit()

    def _path(self, shelf: str) -> Path:
        return self.folder.shelves / f"{shelf}.sqlite"


@contextmanager
def _connected(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=_BUSY, isolation_level=None, cached_statements=16
    )
    try:
        left = [_MOST_STEPS]

        def too_long() -> int:
            left[0] -= 1
            return left[0] < 0

        connection.set_progress_handler(too_long, _STEPS)
        yield connection
    finally:
        connection.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except (sqlite3.Error, OSError):
        raise library_unavailable() from None


def _make_tables(connection: sqlite3.Connection) -> None:
    statement = ""
    # One by one: executescript would commit the transaction.
    for line in SCHEMA.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute(f"PRAGMA user_version = {VERSION}")
