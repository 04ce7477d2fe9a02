"""The library that settings name."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from services.library.folder import Folder
from services.library.port import Library
from services.library.sqlite import SqliteLibrary
from services.web.threads import Threads

__all__ = ["PostgresUrl", "open_library", "postgres_url"]


def postgres_url(url: str) -> str:
    """Return the URL. Raises ``ValueError`` for one of another database."""
    if not url.startswith(("postgresql://", "postgres://", "postgresql+asyncpg://")):
        raise ValueError("must begin with postgresql://; without it each company has a database of SQLite")
    return url


PostgresUrl = Annotated[str, AfterValidator(postgres_url)]
"""The URL of a PostgreSQL database, as a setting."""


def open_library(folder: Folder, url: str | None, threads: Threads, *, has_files: bool) -> Library:
    """Return the library in PostgreSQL where ``url`` names one, else that of SQLite in ``folder``.

    Whoever only asks has no use for the files (``has_files``), which with PostgreSQL may be out of his reach.
    """
    if url is None:
        return SqliteLibrary(folder, threads)
    from services.library.postgres import PostgresLibrary  # noqa: PLC0415  (only who uses PostgreSQL needs a driver)

    return PostgresLibrary.at(url, folder if has_files else None, threads)
