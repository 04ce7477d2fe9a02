"""The users service as an ASGI application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from starlette.requests import Request

from services.database.database import Database
from services.users.accounts import Accounts
from services.users.attempts import Attempts
from services.users.desk import Desk
from services.users.passwords import Passwords
from services.users.requests import LoginRequest, PasswordRequest, RefreshRequest, RegisterRequest, profile
from services.users.requests import session_document as document
from services.users.revocations import Revocations
from services.users.settings import UsersSettings
from services.users.tokens import Tokens
from services.web.application import health_answer, service_application
from services.web.errors import NotFound

__all__ = ["create_app", "open_database"]

_DESCRIPTION = """Registers users and signs them in: access tokens for the gateway, good for minutes, and refresh tokens
that are exchanged at each use. A logout closes the session's sockets on every replica of the gateway."""


def open_database(settings: UsersSettings) -> Database:
    """The service's database, which is migrated when it is first asked."""
    return Database(settings.database_url, "users", Path(__file__).parent / "migrations")


def create_app(settings: UsersSettings | None = None) -> FastAPI:
    """The users service. Without ``settings``, the defaults: the environment is read by ``__main__`` alone."""
    settings = settings or UsersSettings()
    database = open_database(settings)
    accounts = Accounts(database, settings.sessions_per_user)
    passwords = Passwords(settings.hash_workers, settings.hash_queue, settings.hash_memory)
    access, refresh = settings.access_minutes * 60, settings.refresh_days * 86_400
    secret = settings.jwt_secret.get_secret_value()
    tokens = Tokens(secret, access, refresh, settings.issuer, settings.audience)
    key = settings.gateway_key.get_secret_value() if settings.gateway_key else None
    revocations = Revocations(accounts, settings.gateway_url, key, access)
    desk = Desk(accounts, passwords, tokens, Attempts(settings.login_failures, settings.login_window), revocations)

    async def stop() -> None:
        await revocations.close()
        passwords.close()
        await database.close()

    def health() -> dict[str, Any]:
        return {"service": "users"}

    checks = {"database": database.check}
    app = service_application(
        "Tidegate users", _DESCRIPTION, settings.body_limit, health, revocations.start, stop, checks
    )

    @app.get("/", tags=["health"], response_model=None)
    async def about() -> Response:
        """That the service is there, and its health."""
        return await health_answer({"service": "users", "docs": "/docs"}, checks)

    app.include_router(_signing_in(desk))
    app.include_router(_signed_in(desk))
    return app


def _signing_in(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/auth", tags=["auth"])

    @router.post("/register", status_code=201)
    async def register(request: Request, response: Response, asked: RegisterRequest) -> dict[str, Any]:
        """Makes an account and signs in; 409 when the address or the name is taken."""
        return await desk.register(_uncached(request, response), asked)

    @router.post("/login")
    async def login(request: Request, response: Response, asked: LoginRequest) -> dict[str, Any]:
        """Begins a session; 401 for a wrong password as for an unknown user, 429 after too many."""
        return await desk.login(_uncached(request, response), asked)

    @router.post("/refresh")
    async def refresh(request: Request, response: Response, asked: RefreshRequest) -> dict[str, Any]:
        """Exchanges a refresh token for the next two tokens. Used twice, it ends the session: 401."""
        _uncached(request, response)
        return await desk.refresh(asked.token)

    @router.post("/logout")
    async def logout(request: Request, asked: RefreshRequest | None = None) -> dict[str, Any]:
        """Ends the session of the refresh token, or else of the access token; its sockets are closed."""
        if asked is not None:
            await desk.logout(desk.session_of(asked.token))
        else:
            access, _ = await desk.signed_in(request)
            await desk.logout(access.session)
        return {"success": True}

    return router


def _signed_in(desk: Desk) -> APIRouter:
    router = APIRouter(tags=["me"])

    @router.get("/users/me")
    @router.get("/auth/profile")
    async def me(request: Request) -> dict[str, Any]:
        """The account of whoever asks."""
        _, user = await desk.signed_in(request)
        return profile(user)

    @router.post("/auth/password")
    async def password(request: Request, asked: PasswordRequest) -> dict[str, Any]:
        """Changes the password; all other sessions end."""
        await desk.change_password(request, asked)
        return {"success": True}

    @router.get("/auth/sessions")
    async def sessions(request: Request) -> dict[str, Any]:
        """Where one is signed in, the newest first."""
        access, user = await desk.signed_in(request)
        return {"sessions": [document(session, access.session) for session in await desk.sessions(user)]}

    @router.delete("/auth/sessions/{session_id}")
    async def end(request: Request, session_id: str) -> dict[str, Any]:
        """Signs out somewhere else."""
        _, user = await desk.signed_in(request)
        if not await desk.logout(session_id, user.id):
            raise NotFound("There is no such session.", "session_id")
        return {"success": True}

    return router


def _uncached(request: Request, response: Response) -> Request:
    """Have no cache keep tokens (RFC 6749, section 5.1)."""
    response.headers["cache-control"] = "no-store"
    return request
