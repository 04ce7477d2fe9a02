"""What the routes do: accounts, passwords, tokens and attempts put together."""

from __future__ import annotations

import time
import uuid
from typing import Any

from starlette.requests import Request

from services.users.accounts import Accounts
from services.users.attempts import Attempts
from services.users.passwords import Passwords
from services.users.records import User
from services.users.requests import LoginRequest, PasswordRequest, RegisterRequest, profile
from services.users.revocations import Revocations
from services.users.tokens import Access, Tokens, digest
from services.web.errors import Overloaded, Unauthorized, Unavailable

__all__ = ["Desk"]


class Desk:
    """One service's work. Every method raises ``Unavailable`` when the database can't be reached."""

    def __init__(
        self, accounts: Accounts, passwords: Passwords, tokens: Tokens, attempts: Attempts, revocations: Revocations
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._tokens = tokens
        self._attempts = attempts
        self._revocations = revocations

    async def register(self, request: Request, asked: RegisterRequest) -> dict[str, Any]:
        """Make an account and sign in. Raises ``Conflict``."""
        hashed = await self._passwords.hash(asked.password)
        user = await self._accounts.add(asked.email, asked.username, hashed, time.time())
        return await self._signed_in(request, user)

    async def login(self, request: Request, asked: LoginRequest) -> dict[str, Any]:
        """Begin a session. Raises ``Unauthorized``, ``Overloaded`` after too many wrong passwords."""
        address = _address(request)
        self._allow(asked.login, address)
        try:
            user = await self._accounts.find(asked.login)
            right, newer = await self._passwords.verify(asked.password, user.password_hash if user else None)
        except Unavailable:
            self._attempts.undecided(asked.login, address)
            raise
        if user is None or not right:
            raise Unauthorized("The e-mail address or the password is wrong.")
        self._attempts.succeeded(asked.login, address)
        if newer is not None:
            await self._accounts.set_password(user.id, newer, time.time())
        return await self._signed_in(request, user)

    async def refresh(self, token: str) -> dict[str, Any]:
        """The next tokens for a refresh token. One that was exchanged before ends its session: ``Unauthorized``."""
        now = time.time()
        session = self._tokens.read_refresh(token, now)
        following = self._tokens.refresh(session, now)
        expires = now + self._tokens.refresh_seconds
        user = await self._accounts.rotate(session, digest(token), digest(following), expires, now)
        if user is None:
            await self._revocations.tell()
            raise Unauthorized("This session has ended, as its refresh token was used before. Sign in.")
        return self._told(user, session, following, now)

    async def logout(self, session: str, user_id: str | None = None) -> bool:
        """End a session. Returns whether it was alive; returns when the gateway has closed its sockets, if it can."""
        ended = await self._accounts.close(session, time.time(), user_id)
        if ended:
            await self._revocations.tell()
        return ended

    def session_of(self, token: str) -> str:
        """The session of a refresh token. Raises ``Unauthorized``."""
        return self._tokens.read_refresh(token, time.time())

    async def signed_in(self, request: Request) -> tuple[Access, User]:
        """Who asks, by his access token. Raises ``Unauthorized``, also where the session has ended."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("Send your access token: Authorization: Bearer …")
        access = self._tokens.read_access(token.strip(), time.time())
        user = await self._accounts.get(access.user)
        if user is None or not await self._accounts.is_alive(access.session, time.time()):
            raise Unauthorized("This session has ended. Sign in.")
        return access, user

    async def change_password(self, request: Request, asked: PasswordRequest) -> None:
        """Store another password; the user's other sessions end. Raises ``Unauthorized``, ``Overloaded``."""
        access, user = await self.signed_in(request)
        address = _address(request)
        self._allow(user.email, address)
        right, _ = await self._passwords.verify(asked.current, user.password_hash)
        if not right:
            raise Unauthorized("The current password is wrong.", "currentPassword")
        self._attempts.succeeded(user.email, address)
        await self._accounts.set_password(user.id, await self._passwords.hash(asked.new), time.time())
        await self._accounts.close_others(user.id, access.session, time.time())
        await self._revocations.tell()

    async def sessions(self, user: User) -> Any:
        """A user's sessions."""
        return await self._accounts.sessions(user.id, time.time())

    def _allow(self, login: str, address: str) -> None:
        now = time.monotonic()
        if seconds := self._attempts.wait(login, address, now):
            raise Overloaded("There were too many wrong passwords. Try again later.", retry_after=seconds)
        self._attempts.failed(login, address, now)

    async def _signed_in(self, request: Request, user: User) -> dict[str, Any]:
        now = time.time()
        session = uuid.uuid4().hex
        token = self._tokens.refresh(session, now)
        agent = request.headers.get("user-agent", "")
        await self._accounts.open(user.id, session, digest(token), now + self._tokens.refresh_seconds, agent, now)
        return self._told(user, session, token, now)

    def _told(self, user: User, session: str, refresh: str, now: float) -> dict[str, Any]:
        """The answer with tokens, under the names of both conventions that clients know."""
        access = self._tokens.access(user.id, session, user.email, user.username, user.roles, now)
        seconds = int(self._tokens.access_seconds)
        return {
            "accessToken": access, "refreshToken": refresh, "tokenType": "Bearer", "expiresIn": seconds,
            "access_token": access, "refresh_token": refresh, "token_type": "bearer", "expires_in": seconds,
            "user": profile(user),
        }  # fmt: skip


def _address(request: Request) -> str:
    """Where a try comes from: as the gateway says, which puts the caller first and lets nobody else write there."""
    told = request.headers.get("x-forwarded-for", "").split(",")[0].strip()
    return told or (request.client.host if request.client else "")
