"""``tidegate events``: the database of events is made and asked by hand."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from app.config import load_config
from app.errors import ConfigError, TidegateError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.events.sql.queries import Totals

__all__ = ["application"]

_TIMEOUT = 30.0
"""Seconds for connecting to a database."""

application = typer.Typer(
    help="Look after the database of analytics events.",
    epilog="Example: tidegate events report --config gateway.toml --days 7",
    no_args_is_help=True,
)

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="The gateway's TOML file.")]
Url = Annotated[str | None, typer.Option(help="The database; without it, that of the configuration's sink.")]


@application.command(epilog="Example: tidegate events migrate --config gateway.toml")
def migrate(config: ConfigFile = None, url: Url = None) -> None:
    """Make the table of events, or bring it to the form that this version writes."""
    found = _url(config, url)
    database = _database()

    async def run() -> tuple[str | None, str]:
        engine = database.connect(found, _TIMEOUT)
        try:
            before, newest = await database.revision(engine)
            await database.migrate(engine)
            return before, newest
        except database.FAILURES as error:
            raise TidegateError(f"the database cannot be migrated: {_first_line(error)}") from None
        finally:
            await engine.dispose()

    before, newest = asyncio.run(run())
    if before == newest:
        print(f"The table is at revision {newest}, the newest.")
    else:
        print(f"The table is at revision {newest} now" + (f", from {before}." if before else ": it was made."))


@application.command(epilog="Example: tidegate events report --days 7 --user 42")
def report(
    config: ConfigFile = None,
    url: Url = None,
    days: Annotated[float, typer.Option(help="How many days back.", min=0.001)] = 1.0,
    user: Annotated[str | None, typer.Option(help="Of one user alone, by service.")] = None,
    service: Annotated[str | None, typer.Option(help="Of one service alone, by error.")] = None,
) -> None:
    """Print what was asked of the services, and what it came to."""
    found = _url(config, url)
    database = _database()

    async def run() -> dict[str, Totals]:
        engine = database.connect(found, _TIMEOUT)
        try:
            return await _ask(engine, datetime.now(UTC) - timedelta(days=days), user, service)
        except database.FAILURES as error:
            raise TidegateError(f"the database cannot be asked: {_first_line(error)}") from None
        finally:
            await engine.dispose()

    _show(asyncio.run(run()))


async def _ask(engine: AsyncEngine, since: datetime, user: str | None, service: str | None) -> dict[str, Totals]:
    from app.events.sql.queries import Span, of_service, of_system, of_user  # noqa: PLC0415

    span = Span(since)
    if user is not None:
        return await of_user(engine, user, span)
    if service is not None:
        return {
            name or "success": total
            for name, total in (await of_service(engine, service, span, by="error_code")).items()
        }
    total, services = await of_system(engine, span)
    return {**services, "all": total}


def _show(rows: dict[str, Totals]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("events", "errors", "users", "average ms", "longest ms", "prompt tokens", "completion tokens"):
        table.add_column(name, justify="right")
    for label, row in rows.items():
        times = ("-" if ms is None else f"{ms:.1f}" for ms in (row.average_ms, row.longest_ms))
        table.add_row(label, str(row.events), str(row.errors), str(row.users), *times, str(row.prompt_tokens),
                      str(row.completion_tokens))  # fmt: skip
    Console().print(table)


def _url(config: Path | None, url: str | None) -> str:
    if url is not None:
        return url
    urls = [sink.url for sink in load_config(config, os.environ).events.sinks if sink.kind == "sql"]
    found = urls[0] if urls else None
    if found is None:
        raise ConfigError(
            "which database? Name one with --url, or configure a sink of kind sql under [[events.sinks]]."
        )
    return found.get_secret_value()


def _database() -> Any:
    try:
        from app.events.sql import database  # noqa: PLC0415  (the other commands need no SQLAlchemy)
    except ImportError as error:
        raise ConfigError(
            f"a package is missing ({error.name}). Install what databases need: pip install 'tidegate[sql]'"
        ) from error
    return database


def _first_line(error: BaseException) -> str:
    """Return what went wrong, without a statement and its values."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else 'no reason given'}"
