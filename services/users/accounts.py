"""Users and sessions as they are stored.

A session is a family of refresh tokens, of which one counts. Exchanging it for the next is one conditional statement,
so that of two that come at once one is too late, and a token that is too late ends the session: either it was stolen,
or somebody else got what its owner should have got.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Row, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.database.database import Database
from services.users.records import Ended, Session, User
from services.users.tables import SESSIONS, USERS
from services.web.errors import Conflict

__all__ = ["Accounts"]


class Accounts:
    """All users and sessions. Every method raises ``Unavailable`` when the database can't be reached."""

    def __init__(self, database: Database, sessions_per_user: int) -> None:
        self._database = database
        self._most = sessions_per_user

    async def add(self, email: str, username: str | None, password_hash: str, now: float) -> User:
        """Make an account. Raises ``Conflict`` when the address or the name is taken."""
        user = User(uuid.uuid4().hex, email, username, (), now, password_hash)
        values = {
            "id": user.id, "email": email, "username": username, "username_key": folded(username),
            "password_hash": password_hash, "roles": "", "created_at": now, "updated_at": now,
        }  # fmt: skip
        try:
            async with self._database.writing() as connection:
                await connection.execute(insert(USERS).values(values))
        except IntegrityError:
            raise Conflict("There is an account with this e-mail address or username.") from None
        return user

    async def find(self, login: str) -> User | None:
        """The account of an e-mail address or a username."""
        key = folded(login)
        return await self._user(or_(USERS.c.email == key, USERS.c.username_key == key))

    async def get(self, user_id: str) -> User | None:
        """An account by its id."""
        return await self._user(USERS.c.id == user_id)

    async def set_password(self, user_id: str, password_hash: str, now: float) -> None:
        """Store another hash."""
        values = {"password_hash": password_hash, "updated_at": now}
        async with self._database.writing() as connection:
            await connection.execute(update(USERS).where(USERS.c.id == user_id).values(values))

    async def grant(self, email: str, role: str) -> bool:
        """Give a role. Returns whether there is such an account."""
        user = await self.find(email)
        if user is None:
            return False
        roles = ",".join(dict.fromkeys((*user.roles, role)))
        async with self._database.writing() as connection:
            await connection.execute(update(USERS).where(USERS.c.id == user.id).values(roles=roles))
        return True

    async def open(
        self, user_id: str, session: str, token_hash: str, expires_at: float, agent: str, now: float
    ) -> None:
        """Begin a session; the user's oldest end where there are too many."""
        values = {
            "id": session, "user_id": user_id, "token_hash": token_hash, "created_at": now, "refreshed_at": now,
            "expires_at": expires_at, "told": True, "user_agent": agent[:200],
        }  # fmt: skip
        async with self._database.writing() as connection:
            await connection.execute(insert(SESSIONS).values(values))
            # Never itself: of two in one moment the order is not known.
            older = select(SESSIONS.c.id).where(_of(user_id), _alive(now), SESSIONS.c.id != session)
            surplus = older.order_by(SESSIONS.c.created_at.desc()).offset(self._most - 1)
            await _revoke(connection, SESSIONS.c.id.in_(surplus), "too many", now)

    async def rotate(self, session: str, token_hash: str, next_hash: str, expires_at: float, now: float) -> User | None:
        """Let ``next_hash`` count in place of ``token_hash``, or end the session when that does not count any more.

        Returns the session's user; None where the token was too late.
        """
        current = (SESSIONS.c.id == session, SESSIONS.c.token_hash == token_hash, _alive(now))
        values = {"token_hash": next_hash, "refreshed_at": now, "expires_at": expires_at}
        async with self._database.writing() as connection:
            done = await connection.execute(update(SESSIONS).where(*current).values(values))
            if done.rowcount == 0:
                await _revoke(connection, (SESSIONS.c.id == session) & _alive(now), "reused", now)
                return None
            joined = select(USERS).join(SESSIONS, SESSIONS.c.user_id == USERS.c.id).where(SESSIONS.c.id == session)
            return _as_user((await connection.execute(joined)).one())

    async def is_alive(self, session: str, now: float) -> bool:
        """Whether a session is neither ended nor run out."""
        async with self._database.reading() as connection:
            found = await connection.execute(select(SESSIONS.c.id).where(SESSIONS.c.id == session, _alive(now)))
            return found.first() is not None

    async def sessions(self, user_id: str, now: float) -> list[Session]:
        """A user's sessions, the newest first."""
        columns = (SESSIONS.c[name] for name in ("id", "created_at", "refreshed_at", "expires_at", "user_agent"))
        statement = select(*columns).where(_of(user_id), _alive(now)).order_by(SESSIONS.c.created_at.desc())
        async with self._database.reading() as connection:
            return [Session(*row) for row in await connection.execute(statement)]

    async def close(self, session: str, now: float, user_id: str | None = None) -> bool:
        """End a session, of this user where one is named. Returns whether it was alive."""
        condition = (SESSIONS.c.id == session) & _alive(now)
        if user_id is not None:
            condition &= _of(user_id)
        async with self._database.writing() as connection:
            return await _revoke(connection, condition, "logout", now) > 0

    async def close_others(self, user_id: str, session: str, now: float) -> None:
        """End all of a user's sessions but one."""
        async with self._database.writing() as connection:
            await _revoke(connection, _of(user_id) & (SESSIONS.c.id != session) & _alive(now), "password", now)

    async def untold(self, limit: int) -> Sequence[Ended]:
        """Sessions that were ended and of which the gateway has not heard, the oldest first."""
        statement = select(SESSIONS.c.id, SESSIONS.c.revoked_at).where(SESSIONS.c.told.is_(False))
        async with self._database.reading() as connection:
            rows = await connection.execute(statement.order_by(SESSIONS.c.revoked_at).limit(limit))
            return [Ended(*row) for row in rows]

    async def told(self, sessions: Sequence[str]) -> None:
        """The gateway has heard of these."""
        async with self._database.writing() as connection:
            await connection.execute(update(SESSIONS).where(SESSIONS.c.id.in_(sessions)).values(told=True))

    async def forget(self, before: float) -> int:
        """Delete sessions that ran out before ``before``, and of which the gateway knows. Returns how many."""
        gone = (SESSIONS.c.expires_at < before, SESSIONS.c.told.is_(True))
        async with self._database.writing() as connection:
            return (await connection.execute(delete(SESSIONS).where(*gone))).rowcount

    async def count(self) -> int:
        """How many accounts there are."""
        async with self._database.reading() as connection:
            return int((await connection.execute(select(func.count()).select_from(USERS))).scalar_one())

    async def _user(self, condition: ColumnElement[bool]) -> User | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(USERS).where(condition).limit(1))).first()
            return None if row is None else _as_user(row)


def folded(name: str | None) -> str | None:
    """How addresses and names are compared."""
    return None if name is None else name.strip().casefold()


async def _revoke(connection: AsyncConnection, condition: ColumnElement[bool], reason: str, now: float) -> int:
    values = {"revoked_at": now, "reason": reason, "told": False}
    return (await connection.execute(update(SESSIONS).where(condition).values(values))).rowcount


def _of(user_id: str) -> ColumnElement[bool]:
    return SESSIONS.c.user_id == user_id


def _alive(now: float) -> ColumnElement[bool]:
    return SESSIONS.c.revoked_at.is_(None) & (SESSIONS.c.expires_at > now)


def _as_user(row: Row[tuple[object, ...]]) -> User:
    values = row._mapping
    roles = tuple(role for role in str(values["roles"]).split(",") if role)
    return User(
        str(values["id"]), str(values["email"]), values["username"], roles, float(values["created_at"]),
        str(values["password_hash"]),
    )  # fmt: skip
