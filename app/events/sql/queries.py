"""What is asked of the stored events: per user, per service, of the whole system, and who used how much when.

Each question is one statement over an index. Times are aware; ``since`` is included, ``until`` is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Date, case, cast, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.events.sql.tables import EVENTS

__all__ = ["Span", "Totals", "of_service", "of_system", "of_user", "usage"]

By = Literal["service", "user_id", "company_id", "model", "status", "error_code", "upstream"]


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when; None for no bound."""

    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the span as conditions of a statement."""
        time = EVENTS.c.timestamp
        since = [] if self.since is None else [time >= self.since]
        return since if self.until is None else [*since, time < self.until]


@dataclass(frozen=True, slots=True)
class Totals:
    """What a group of events comes to. Times are milliseconds; None without events."""

    events: int
    errors: int
    users: int
    """Different ones; those who did not sign in are none."""
    average_ms: float | None
    longest_ms: float | None
    prompt_tokens: int
    completion_tokens: int


async def of_user(
    engine: AsyncEngine, user_id: str, span: Span = Span(), *, company_id: str | None = None
) -> dict[str, Totals]:
    """Return the totals of one user by service. User ids are unique within a company: name it where there are some."""
    conditions = [EVENTS.c.user_id == user_id, *span.conditions()]
    if company_id is not None:
        conditions.append(EVENTS.c.company_id == company_id)
    return await _grouped(engine, EVENTS.c.service, conditions)


async def of_service(
    engine: AsyncEngine, service: str, span: Span = Span(), *, by: By = "status"
) -> dict[str | None, Totals]:
    """Return the totals of one service by ``by``."""
    return await _grouped(engine, EVENTS.c[by], [EVENTS.c.service == service, *span.conditions()])


async def of_system(engine: AsyncEngine, span: Span = Span()) -> tuple[Totals, dict[str, Totals]]:
    """Return the totals of everything, and those by service."""
    async with engine.connect() as connection:
        rows = (await connection.execute(select(*_columns()).where(*span.conditions()))).all()
    return _totals(rows[0]._mapping), await _grouped(engine, EVENTS.c.service, span.conditions())


async def usage(
    engine: AsyncEngine, span: Span = Span(), *, by: By = "service"
) -> Sequence[tuple[str, str | None, Totals]]:
    """Return the totals of each day (``2026-01-31``, UTC) and each value of ``by``, the days in their order."""
    day: ColumnElement[Any] = (
        func.strftime("%Y-%m-%d", EVENTS.c.timestamp)
        if engine.dialect.name == "sqlite"
        else cast(func.timezone("UTC", EVENTS.c.timestamp), Date)
    )
    statement = (
        select(day.label("day"), EVENTS.c[by].label("name"), *_columns())
        .where(*span.conditions())
        .group_by(day, EVENTS.c[by])
        .order_by(day, EVENTS.c[by])
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(statement)).all()
    return [(str(row._mapping["day"]), row._mapping["name"], _totals(row._mapping)) for row in rows]


async def _grouped(
    engine: AsyncEngine, column: ColumnElement[Any], conditions: Sequence[ColumnElement[bool]]
) -> dict[Any, Totals]:
    statement = select(column.label("name"), *_columns()).where(*conditions).group_by(column).order_by(column)
    async with engine.connect() as connection:
        rows = (await connection.execute(statement)).all()
    return {row._mapping["name"]: _totals(row._mapping) for row in rows}


def _columns() -> list[ColumnElement[Any]]:
    columns = EVENTS.c
    return [
        func.count().label("events"),
        func.coalesce(func.sum(case((columns.status == "error", 1), else_=0)), 0).label("errors"),
        func.count(columns.user_id.distinct()).label("users"),
        func.avg(columns.latency_ms).label("average_ms"),
        func.max(columns.latency_ms).label("longest_ms"),
        func.coalesce(func.sum(columns.prompt_tokens), 0).label("prompt_tokens"),
        func.coalesce(func.sum(columns.completion_tokens), 0).label("completion_tokens"),
    ]


def _totals(row: Mapping[Any, Any]) -> Totals:
    return Totals(
        events=int(row["events"]),
        errors=int(row["errors"]),
        users=int(row["users"]),
        average_ms=None if row["average_ms"] is None else float(row["average_ms"]),
        longest_ms=None if row["longest_ms"] is None else float(row["longest_ms"]),
        prompt_tokens=int(row["prompt_tokens"]),
        completion_tokens=int(row["completion_tokens"]),
    )
