"""Organisations, who belongs to them in which role, and invitations, as they are stored.

Roles are ``owner``, ``admin`` and ``member``. Owners and admins invite and remove; nobody gives or takes a role above
his own, and an organisation keeps an owner. Each change is stored with the event that tells of it.
"""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.database.database import Database
from services.organisations.tables import ACTIVE, INVITES, MEMBERS, ORGANISATIONS
from services.topics.outbox import Outbox
from services.users.tokens import digest
from services.web.errors import Conflict, Forbidden, Gone, NotFound

__all__ = ["EVENTS", "RANKS", "USER_EVENTS", "Register"]

EVENTS = "organization-events"
USER_EVENTS = "user-events"
RANKS = {"member": 0, "admin": 1, "owner": 2}


class Register:
    """Every method raises ``Unavailable`` when the database can't be reached."""

    def __init__(self, database: Database, outbox: Outbox, invite_seconds: float) -> None:
        self._database, self._outbox, self._invite_seconds = database, outbox, invite_seconds

    async def create(self, name: str, user: str) -> dict[str, Any]:
        """Found an organisation, whose owner ``user`` is; it becomes the active one where there is none."""
        org, now = uuid.uuid4().hex, time.time()
        async with self._database.writing() as connection:
            await connection.execute(insert(ORGANISATIONS).values(id=org, name=name, created_at=now))
            await self._join(connection, org, user, "owner")
            await self._outbox.add(connection, EVENTS, "organization_created", user, org_id=org, name=name)
        return {"id": org, "name": name, "created_at": now, "role": "owner"}

    async def get(self, org: str) -> dict[str, Any]:
        """Raises ``NotFound``."""
        async with self._database.reading() as connection:
            return await _organisation(connection, org)

    async def of_user(self, user: str) -> list[dict[str, Any]]:
        """The organisations of a user, the oldest first."""
        columns = (ORGANISATIONS.c.id, ORGANISATIONS.c.name, ORGANISATIONS.c.created_at, MEMBERS.c.role)
        joined = select(*columns).join(MEMBERS, MEMBERS.c.org_id == ORGANISATIONS.c.id)
        async with self._database.reading() as connection:
            rows = await connection.execute(
                joined.where(MEMBERS.c.user_id == user).order_by(ORGANISATIONS.c.created_at)
            )
            return [dict(row._mapping) for row in rows]

    async def active(self, user: str) -> str | None:
        """The organisation that a user's tokens are for."""
        async with self._database.reading() as connection:
            found = await connection.execute(select(ACTIVE.c.org_id).where(ACTIVE.c.user_id == user))
            return found.scalar_one_or_none()

    async def switch(self, org: str, user: str) -> None:
        """Make an organisation the active one. Raises ``Forbidden`` for those that are not the user's."""
        async with self._database.writing() as connection:
            await _role(connection, org, user)
            await _activate(connection, org, user)
            await self._outbox.add(connection, USER_EVENTS, "organization_switched", user, org_id=org)

    async def members(self, org: str, user: str | None) -> list[dict[str, Any]]:
        """Who belongs to it, where ``user`` does, or a service asks (None). Raises ``Forbidden``, ``NotFound``."""
        async with self._database.writing() as connection:
            if user is None:
                await _organisation(connection, org)
            else:
                await _role(connection, org, user)
            columns = (MEMBERS.c.user_id, MEMBERS.c.role, MEMBERS.c.joined_at)
            rows = await connection.execute(
                select(*columns).where(MEMBERS.c.org_id == org).order_by(MEMBERS.c.joined_at)
            )
            found = [dict(row._mapping) for row in rows]
            await self._outbox.add(connection, EVENTS, "members_listed", user or "service", org_id=org)
        return found

    async def invite(self, org: str, user: str, email: str, role: str) -> dict[str, Any]:
        """Invite an address; the token is told once, here. Raises ``Forbidden``."""
        token, invite, expires = secrets.token_urlsafe(32), uuid.uuid4().hex, time.time() + self._invite_seconds
        values = {
            "id": invite, "org_id": org, "email": email, "role": role, "token_hash": digest(token),
            "invited_by": user, "expires_at": expires,
        }  # fmt: skip
        async with self._database.writing() as connection:
            await _may(connection, org, user, role)
            await connection.execute(insert(INVITES).values(values))
            await self._outbox.add(connection, EVENTS, "user_invited", user, org_id=org, invite_id=invite, role=role)
        return {"id": invite, "org_id": org, "email": email, "role": role, "token": token, "expires_at": expires}

    async def accept(self, token: str, user: str, email: str) -> dict[str, Any]:
        """Join by an invitation, once. Raises ``NotFound``, ``Gone``, ``Forbidden`` for another's."""
        now = time.time()
        async with self._database.writing() as connection:
            row = (await connection.execute(select(INVITES).where(INVITES.c.token_hash == digest(token)))).first()
            if row is None:
                raise NotFound("There is no such invitation.", "token")
            if row.email != email:
                raise Forbidden("The invitation is for another address.")
            unused = (INVITES.c.id == row.id, INVITES.c.accepted_at.is_(None), INVITES.c.expires_at > now)
            taken = await connection.execute(update(INVITES).where(*unused).values(accepted_at=now))
            if taken.rowcount == 0:
                raise Gone("The invitation was used, or has run out.")
            if await _rank(connection, row.org_id, user) is not None:
                raise Conflict("You belong to this organisation already.")
            await self._join(connection, row.org_id, user, row.role)
            about = {"org_id": row.org_id, "invite_id": row.id, "role": row.role}
            await self._outbox.add(connection, EVENTS, "invite_accepted", user, **about)
            return {**await _organisation(connection, row.org_id), "role": row.role}

    async def remove(self, org: str, user: str, member: str) -> None:
        """End a membership: one's own, or that of somebody not above oneself. Raises ``Forbidden``, ``Conflict``."""
        async with self._database.writing() as connection:
            await self._over(connection, org, user, member, leaving=user == member)
            await connection.execute(delete(MEMBERS).where(MEMBERS.c.org_id == org, MEMBERS.c.user_id == member))
            await connection.execute(delete(ACTIVE).where(ACTIVE.c.org_id == org, ACTIVE.c.user_id == member))
            await self._outbox.add(connection, EVENTS, "member_removed", user, org_id=org, member_id=member)

    async def set_role(self, org: str, user: str, member: str, role: str) -> None:
        """Give another role. Raises ``Forbidden``, ``Conflict`` for the last owner."""
        async with self._database.writing() as connection:
            await _may(connection, org, user, role)
            await self._over(connection, org, user, member, leaving=False, stays_owner=role == "owner")
            mine = (MEMBERS.c.org_id == org, MEMBERS.c.user_id == member)
            await connection.execute(update(MEMBERS).where(*mine).values(role=role))
            about = {"org_id": org, "member_id": member, "role": role}
            await self._outbox.add(connection, EVENTS, "member_role_updated", user, **about)

    async def _join(self, connection: AsyncConnection, org: str, user: str, role: str) -> None:
        values = {"org_id": org, "user_id": user, "role": role, "joined_at": time.time()}
        await connection.execute(insert(MEMBERS).values(values))
        if (await connection.execute(select(ACTIVE.c.org_id).where(ACTIVE.c.user_id == user))).first() is None:
            await _activate(connection, org, user)

    async def _over(
        self,
        connection: AsyncConnection,
        org: str,
        user: str,
        member: str,
        *,
        leaving: bool,
        stays_owner: bool = False,
    ) -> None:
        """Raise unless ``user`` may change what ``member`` is, and an owner stays."""
        own = await _role(connection, org, user)
        rank = await _rank(connection, org, member)
        if rank is None:
            raise NotFound("There is no such member.", "user_id")
        if not leaving and (RANKS[own] < RANKS["admin"] or rank > RANKS[own]):
            raise Forbidden("Your role does not allow this.")
        if rank == RANKS["owner"] and not stays_owner:
            owners = select(func.count()).where(MEMBERS.c.org_id == org, MEMBERS.c.role == "owner")
            if (await connection.execute(owners)).scalar_one() < 2:
                raise Conflict("An organisation keeps an owner. Make somebody else one first.")


async def _organisation(connection: AsyncConnection, org: str) -> dict[str, Any]:
    row = (await connection.execute(select(ORGANISATIONS).where(ORGANISATIONS.c.id == org))).first()
    if row is None:
        raise NotFound("There is no such organisation.")
    return dict(row._mapping)


async def _rank(connection: AsyncConnection, org: str, user: str) -> int | None:
    mine = select(MEMBERS.c.role).where(MEMBERS.c.org_id == org, MEMBERS.c.user_id == user)
    role = (await connection.execute(mine)).scalar_one_or_none()
    return None if role is None else RANKS[role]


async def _role(connection: AsyncConnection, org: str, user: str) -> str:
    """The role of a member. Others learn not even whether there is such an organisation."""
    rank = await _rank(connection, org, user)
    if rank is None:
        raise Forbidden("You do not belong to this organisation.")
    return next(role for role, value in RANKS.items() if value == rank)


async def _may(connection: AsyncConnection, org: str, user: str, role: str) -> None:
    own = RANKS[await _role(connection, org, user)]
    if own < RANKS["admin"] or RANKS[role] > own:
        raise Forbidden("Your role does not allow this.")


async def _activate(connection: AsyncConnection, org: str, user: str) -> None:
    await connection.execute(delete(ACTIVE).where(ACTIVE.c.user_id == user))
    await connection.execute(insert(ACTIVE).values(user_id=user, org_id=org))
