"""One kind of thing that users have: list, make, read, change, delete, each with its event."""

from __future__ import annotations

import time
import uuid
from typing import Any

from sqlalchemy import Table, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from services.database.database import Database
from services.topics.outbox import Outbox
from services.web.errors import NotFound

__all__ = ["Shelf", "id_of"]

_MOST = 1000
"""Things of one list."""
_SPACE = uuid.UUID("7d0a0f0e-6f1c-4d0e-9f58-0f3c2f8a7b11")


def id_of(user: str, correlation: str | None) -> str:
    """An id for something new: the same for a user's same request, so that one that comes twice makes one thing."""
    return uuid.uuid4().hex if correlation is None else uuid.uuid5(_SPACE, f"{user}\0{correlation}").hex


class Shelf:
    """``kind`` begins the names of its events: ``prompt_created``. Raises ``Unavailable`` with the database away."""

    def __init__(self, database: Database, outbox: Outbox, table: Table, kind: str, topic: str) -> None:
        self._database, self._outbox, self._table, self._kind, self._topic = database, outbox, table, kind, topic

    async def all(self, user: str, **where: str) -> list[dict[str, Any]]:
        """A user's, the newest first."""
        table = self._table
        mine = [table.c.user_id == user, *(table.c[name] == value for name, value in where.items())]
        asked = select(table).where(*mine).order_by(table.c.created_at.desc()).limit(_MOST)
        async with self._database.reading() as connection:
            return [_told(row._mapping) for row in await connection.execute(asked)]

    async def add(self, user: str, ident: str, **values: Any) -> dict[str, Any]:
        """Make one; what has this id already is left as it is, and told.

        Raises ``NotFound`` for a message of a conversation that has just been deleted.
        """
        table, now = self._table, time.time()
        row = {"id": ident, "user_id": user, "created_at": now, "updated_at": now, **values}
        dialect: Any = sqlite if self._database.is_sqlite else postgresql
        make = dialect.insert(table).values(row).on_conflict_do_nothing(index_elements=["id"])
        try:
            async with self._database.writing() as connection:
                # Whoever makes the same at the same time waits here, and finds it.
                if (await connection.execute(make)).rowcount == 0:
                    mine = (table.c.id == ident, table.c.user_id == user)
                    return _told((await connection.execute(select(table).where(*mine))).one()._mapping)
                await self._outbox.add(connection, self._topic, f"{self._kind}_created", user, item_id=ident)
        except IntegrityError:
            raise NotFound("There is no such conversation.") from None
        return _told(row)

    async def get(self, user: str, ident: str) -> dict[str, Any]:
        """Raises ``NotFound``, also for another's."""
        table = self._table
        async with self._database.reading() as connection:
            found = await connection.execute(select(table).where(table.c.id == ident, table.c.user_id == user))
            row = found.first()
        if row is None:
            raise NotFound(f"There is no such {self._kind}.")
        return _told(row._mapping)

    async def change(self, user: str, ident: str, **values: Any) -> dict[str, Any]:
        """Raises ``NotFound``."""
        table = self._table
        mine = (table.c.id == ident, table.c.user_id == user)
        async with self._database.writing() as connection:
            done = await connection.execute(update(table).where(*mine).values(**values, updated_at=time.time()))
            if done.rowcount:
                await self._outbox.add(connection, self._topic, f"{self._kind}_updated", user, item_id=ident)
        return await self.get(user, ident)

    async def remove(self, user: str, ident: str | None) -> None:
        """Delete one, or all of a user's (None). Raises ``NotFound`` where there is no such one."""
        table = self._table
        mine = [table.c.user_id == user] + ([] if ident is None else [table.c.id == ident])
        event = f"{self._kind}_deleted" if ident else f"{self._kind}s_deleted"
        async with self._database.writing() as connection:
            done = await connection.execute(delete(table).where(*mine))
            if ident is not None and not done.rowcount:
                raise NotFound(f"There is no such {self._kind}.")
            await self._outbox.add(connection, self._topic, event, user, item_id=ident, count=done.rowcount)


def _told(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "user_id"}
