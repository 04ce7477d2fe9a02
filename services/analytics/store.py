"""Events as they are stored, and what is asked of them. Each question is one or two statements over an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Insert, case, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from services.analytics.requests import Event
from services.analytics.tables import EVENTS
from services.database.database import Database

__all__ = ["Store"]

_RECENT = 20
_MOST_GROUPS = 1000
"""Names come from events, which may be many: of so many the most used are told."""


class Store:
    """Times are Unix times in seconds; every method raises ``Unavailable`` when the database can't be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, events: Sequence[Event]) -> int:
        """Keep events, each once however often it comes. Returns how many were new."""
        if not events:
            return 0
        rows = [event.row() for event in {event.id: event for event in events}.values()]
        async with self._database.writing() as connection:
            return (await connection.execute(self._insert(rows))).rowcount

    async def forget(self, before: float) -> None:
        """Delete events of before that time."""
        async with self._database.writing() as connection:
            await connection.execute(delete(EVENTS).where(EVENTS.c.at < before))

    async def of_user(self, user: str, company: str, since: float) -> dict[str, Any]:
        """One user's totals, by service and by day, and his latest events. Ids are unique within a company."""
        mine = [EVENTS.c.user_id == user, EVENTS.c.at >= since]
        mine.append(EVENTS.c.company_id == company if company else EVENTS.c.company_id.is_(None))
        names = ("service", "kind", "status", "status_code", "error_code", "latency_ms", "model", "at")
        newest = select(*(EVENTS.c[name] for name in names)).where(*mine).order_by(EVENTS.c.at.desc()).limit(_RECENT)
        async with self._database.reading() as connection:
            return {
                **await _totals(connection, mine),
                "services": await _grouped(connection, EVENTS.c.service, mine),
                "days": await _grouped(connection, EVENTS.c.day, mine),
                "recent": [dict(row._mapping) for row in await connection.execute(newest)],
            }

    async def of_service(self, service: str, since: float) -> dict[str, Any]:
        """One service's totals, by day, model and error."""
        its = [EVENTS.c.service == service, EVENTS.c.at >= since]
        async with self._database.reading() as connection:
            return {
                **await _totals(connection, its),
                "days": await _grouped(connection, EVENTS.c.day, its),
                "models": await _grouped(connection, EVENTS.c.model, [*its, EVENTS.c.model.is_not(None)]),
                "error_codes": await _counted(connection, EVENTS.c.error_code, [*its, EVENTS.c.status == "error"]),
            }

    async def of_system(self, since: float) -> dict[str, Any]:
        """Everything's totals, by service, and by status."""
        span = [EVENTS.c.at >= since]
        async with self._database.reading() as connection:
            return {
                **await _totals(connection, span),
                "services": await _grouped(connection, EVENTS.c.service, span),
                "status_codes": await _counted(connection, EVENTS.c.status_code, span),
            }

    async def usage(self, since: float) -> dict[str, Any]:
        """Who much of what was used when: by day, service and model, without a word of users."""
        span = [EVENTS.c.at >= since]
        async with self._database.reading() as connection:
            return {
                **await _totals(connection, span),
                "days": await _grouped(connection, EVENTS.c.day, span),
                "services": await _grouped(connection, EVENTS.c.service, span),
                "models": await _grouped(connection, EVENTS.c.model, [*span, EVENTS.c.model.is_not(None)]),
            }

    def _insert(self, rows: list[dict[str, Any]]) -> Insert:
        dialect: Any = sqlite if self._database.is_sqlite else postgresql
        statement: Insert = dialect.insert(EVENTS).values(rows).on_conflict_do_nothing()
        return statement


def _columns() -> list[ColumnElement[Any]]:
    columns = EVENTS.c
    return [
        func.count().label("requests"),
        func.coalesce(func.sum(case((columns.status == "success", 1), else_=0)), 0).label("successes"),
        func.count(columns.user_id.distinct()).label("users"),
        func.avg(columns.latency_ms).label("average_ms"),
        func.max(columns.latency_ms).label("longest_ms"),
        func.coalesce(func.sum(columns.prompt_tokens), 0).label("prompt_tokens"),
        func.coalesce(func.sum(columns.completion_tokens), 0).label("completion_tokens"),
    ]


async def _totals(connection: AsyncConnection, conditions: Sequence[ColumnElement[bool]]) -> dict[str, Any]:
    return _told((await connection.execute(select(*_columns()).where(*conditions))).one()._mapping)


async def _grouped(
    connection: AsyncConnection, column: ColumnElement[Any], conditions: Sequence[ColumnElement[bool]]
) -> dict[str, dict[str, Any]]:
    statement = select(column.label("name"), *_columns()).where(*conditions).group_by(column)
    rows = await connection.execute(statement.order_by(func.count().desc(), column).limit(_MOST_GROUPS))
    told = {str(row._mapping["name"]): _told(row._mapping) for row in rows}
    return {name: told[name] for name in sorted(told)}


async def _counted(
    connection: AsyncConnection, column: ColumnElement[Any], conditions: Sequence[ColumnElement[bool]]
) -> dict[str, int]:
    statement = select(column.label("name"), func.count().label("times")).where(*conditions).group_by(column)
    rows = await connection.execute(statement.order_by(func.count().desc(), column).limit(_MOST_GROUPS))
    return {str(row._mapping["name"] or "none"): int(row._mapping["times"]) for row in rows}


def _told(row: Any) -> dict[str, Any]:
    requests, successes = int(row["requests"]), int(row["successes"])
    return {
        "requests": requests,
        "successes": successes,
        "errors": requests - successes,
        "success_rate": round(successes / requests, 4) if requests else None,
        "users": int(row["users"]),
        "average_response_ms": None if row["average_ms"] is None else round(float(row["average_ms"]), 2),
        "longest_response_ms": None if row["longest_ms"] is None else round(float(row["longest_ms"]), 2),
        "prompt_tokens": int(row["prompt_tokens"]),
        "completion_tokens": int(row["completion_tokens"]),
    }
