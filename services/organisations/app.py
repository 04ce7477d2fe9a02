"""The organisations service as an ASGI application."""

from __future__ import annotations

import hmac
import time
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Depends, FastAPI
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from starlette.requests import Request

from services.database.database import Database
from services.organisations.register import USER_EVENTS, Register
from services.organisations.settings import OrganisationsSettings
from services.organisations.tables import OUTBOX
from services.topics.outbox import Outbox
from services.users.accounts import Accounts
from services.users.app import open_database
from services.users.attempts import Attempts
from services.users.desk import Desk
from services.users.passwords import Passwords
from services.users.requests import Email, LoginRequest, RefreshRequest, RegisterRequest, profile
from services.users.revocations import Revocations
from services.users.tokens import Tokens
from services.web.application import service_application
from services.web.errors import Forbidden, NotFound, Unauthorized

__all__ = ["create_app"]

_DESCRIPTION = """Signs users in who belong to organisations: tokens are for one of them, which can be changed. Services
ask below /auth, with a key. What happens is told to Kafka."""
_AUTH_EVENTS = "auth-events"
_CONFIG = ConfigDict(extra="ignore", frozen=True)
Role = Literal["owner", "admin", "member"]


class OrganisationRequest(BaseModel):
    """A new organisation."""

    model_config = _CONFIG

    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")


class SwitchRequest(BaseModel):
    """The organisation that tokens shall be for."""

    model_config = _CONFIG

    org: str = Field(validation_alias=AliasChoices("org_id", "organization_id", "orgId"), min_length=1, max_length=64)


class InviteRequest(BaseModel):
    """Whom to invite, as what."""

    model_config = _CONFIG

    email: Email
    role: Role = "member"


class AcceptRequest(BaseModel):
    """An invitation's token."""

    model_config = _CONFIG

    token: str = Field(min_length=1, max_length=200)


class RoleRequest(BaseModel):
    """Another role."""

    model_config = _CONFIG

    role: Role


class _Parts:
    """What the routes need."""

    def __init__(self, settings: OrganisationsSettings) -> None:
        self.users = open_database(settings)
        self.database = Database(settings.database_url, "organisations", Path(__file__).parent / "migrations")
        self.accounts = Accounts(self.users, settings.sessions_per_user)
        self.passwords = Passwords(settings.hash_workers, settings.hash_queue, settings.hash_memory)
        access, refresh = settings.access_minutes * 60, settings.refresh_days * 86_400
        secret = settings.jwt_secret.get_secret_value()
        self.tokens = Tokens(secret, access, refresh, settings.issuer, settings.audience)
        key = settings.gateway_key.get_secret_value() if settings.gateway_key else None
        self.revocations = Revocations(self.accounts, settings.gateway_url, key, access)
        attempts = Attempts(settings.login_failures, settings.login_window)
        self.desk = Desk(self.accounts, self.passwords, self.tokens, attempts, self.revocations)
        self.outbox = Outbox(self.database, OUTBOX, _publisher(settings), settings.outbox_limit)
        self.register = Register(self.database, self.outbox, settings.invite_days * 86_400)
        self._key = settings.service_key.get_secret_value().encode()

    async def start(self) -> None:
        await self.revocations.start()
        await self.outbox.start()

    async def stop(self) -> None:
        await self.outbox.close()
        await self.revocations.close()
        self.passwords.close()
        await self.database.close()
        await self.users.close()

    def service(self, request: Request) -> None:
        """Raise ``Forbidden`` unless a service asks."""
        shown = request.headers.get("x-internal-key") or request.headers.get("x-service-key") or ""
        if not hmac.compare_digest(shown.encode(), self._key):
            raise Forbidden("Send the services' key as X-Internal-Key.")

    async def told(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer with an access token for the user's active organisation."""
        access = self.tokens.read_access(answer["access_token"], time.time())
        user = await self.accounts.get(access.user)
        assert user is not None, "it has just signed in"
        org = await self.register.active(user.id)
        token = self.tokens.access(
            user.id, access.session, user.email, user.username, user.roles, time.time(), company=org
        )
        return {**answer, "access_token": token, "accessToken": token, "org_id": org}


def create_app(settings: OrganisationsSettings | None = None) -> FastAPI:
    """The service. Without ``settings``, the defaults: the environment is read by ``__main__`` alone."""
    settings = settings or OrganisationsSettings()
    parts = _Parts(settings)

    def health() -> dict[str, Any]:
        return {"service": "organisations", "outbox": parts.outbox.figures()}

    app = service_application(
        "Tidegate organisations", _DESCRIPTION, settings.body_limit, health, parts.start, parts.stop,
        {"database": parts.database.check},
    )  # fmt: skip
    app.include_router(_signing_in(parts))
    app.include_router(_client(parts))
    app.include_router(_organisations(parts))
    app.include_router(_internal(parts))
    return app


def _publisher(settings: OrganisationsSettings) -> Any:
    if not settings.kafka_servers:
        return None
    from services.topics.producer import Producer  # noqa: PLC0415  (only who writes events needs aiokafka)

    servers = [server.strip() for server in settings.kafka_servers.split(",")]
    return Producer(servers, "organisations", partitions=settings.topic_partitions)


def _signing_in(parts: _Parts) -> APIRouter:
    router = APIRouter(prefix="/v1/client", tags=["client"])

    async def event(answer: dict[str, Any], name: str) -> None:
        user = parts.tokens.read_access(answer["access_token"], time.time()).user
        await parts.outbox.tell(_AUTH_EVENTS, name, user)

    @router.post("/sign-up", status_code=201)
    async def sign_up(request: Request, asked: RegisterRequest) -> dict[str, Any]:
        """Makes an account and signs in; 409 when the address or the name is taken."""
        answer = await parts.told(await parts.desk.register(request, asked))
        await event(answer, "user_registered")
        return answer

    @router.post("/sign-in/password")
    async def sign_in(request: Request, asked: LoginRequest) -> dict[str, Any]:
        """Begins a session; 401 for a wrong password as for an unknown user, 429 after too many."""
        answer = await parts.told(await parts.desk.login(request, asked))
        await event(answer, "user_logged_in")
        return answer

    @router.post("/refresh_token")
    async def refresh(asked: RefreshRequest) -> dict[str, Any]:
        """Exchanges a refresh token for the next two tokens. Used twice, it ends the session: 401."""
        answer = await parts.told(await parts.desk.refresh(asked.token))
        await event(answer, "token_refreshed")
        return answer

    @router.post("/logout")
    async def logout(request: Request, asked: RefreshRequest | None = None) -> dict[str, Any]:
        """Ends the session of the refresh token, or else of the access token."""
        if asked is not None:
            session = parts.desk.session_of(asked.token)
            await parts.desk.logout(session)
            await parts.outbox.tell(_AUTH_EVENTS, "user_logged_out", "", session_id=session)
        else:
            access, user = await parts.desk.signed_in(request)
            await parts.desk.logout(access.session)
            await parts.outbox.tell(_AUTH_EVENTS, "user_logged_out", user.id, session_id=access.session)
        return {"success": True}

    return router


def _client(parts: _Parts) -> APIRouter:
    router, signed_in = APIRouter(prefix="/v1/client", tags=["client"]), parts.desk.signed_in

    @router.get("/me")
    async def me(request: Request) -> dict[str, Any]:
        """Who asks, and where he belongs."""
        _, user = await signed_in(request)
        await parts.outbox.tell(USER_EVENTS, "user_info_requested", user.id)
        org, organisations = await parts.register.active(user.id), await parts.register.of_user(user.id)
        return {**profile(user), "org_id": org, "organizations": organisations}

    @router.patch("/switch-org")
    async def switch(asked: SwitchRequest, request: Request) -> dict[str, Any]:
        """An access token for another of one's organisations, which is the active one from now on."""
        access, user = await signed_in(request)
        await parts.register.switch(asked.org, user.id)
        return await parts.told({"access_token": parts.tokens.access(
            user.id, access.session, user.email, user.username, user.roles, time.time()
        ), "token_type": "bearer", "expires_in": int(parts.tokens.access_seconds)})  # fmt: skip

    return router


def _organisations(parts: _Parts) -> APIRouter:
    router, signed_in = APIRouter(prefix="/v1", tags=["organisations"]), parts.desk.signed_in

    @router.post("/org", status_code=201)
    async def create(asked: OrganisationRequest, request: Request) -> dict[str, Any]:
        """Founds an organisation, whose owner one is."""
        _, user = await signed_in(request)
        return await parts.register.create(asked.name, user.id)

    @router.get("/org/{org}/members")
    async def members(org: str, request: Request) -> dict[str, Any]:
        """Who belongs to it."""
        _, user = await signed_in(request)
        return {"members": await parts.register.members(org, user.id)}

    @router.post("/org/{org}/invite", status_code=201)
    async def invite(org: str, asked: InviteRequest, request: Request) -> dict[str, Any]:
        """Invites an address; the token is for the inviter to hand on."""
        _, user = await signed_in(request)
        return await parts.register.invite(org, user.id, asked.email, asked.role)

    @router.post("/invite/accept")
    async def accept(asked: AcceptRequest, request: Request) -> dict[str, Any]:
        """Joins, once, with the address that was invited."""
        _, user = await signed_in(request)
        return await parts.register.accept(asked.token, user.id, user.email)

    @router.delete("/org/{org}/member/{user_id}")
    async def remove(org: str, user_id: str, request: Request) -> dict[str, Any]:
        """Ends a membership, also one's own."""
        _, user = await signed_in(request)
        await parts.register.remove(org, user.id, user_id)
        return {"success": True}

    @router.patch("/org/{org}/member/{user_id}/role")
    async def role(org: str, user_id: str, asked: RoleRequest, request: Request) -> dict[str, Any]:
        """Gives another role."""
        _, user = await signed_in(request)
        await parts.register.set_role(org, user.id, user_id, asked.role)
        return {"user_id": user_id, "role": asked.role}

    return router


def _internal(parts: _Parts) -> APIRouter:
    router = APIRouter(prefix="/auth", tags=["internal"], dependencies=[Depends(parts.service)])

    @router.get("/validate")
    async def validate(request: Request) -> dict[str, Any]:
        """Whose token it is, which the caller sends as its own; 401 where it does not count."""
        if "authorization" not in request.headers:
            raise Unauthorized("Send the token as Authorization: Bearer …")
        _, user = await parts.desk.signed_in(request)
        await parts.outbox.tell(_AUTH_EVENTS, "token_validated", user.id)
        return {"valid": True, "user_id": user.id, "org_id": await parts.register.active(user.id), **profile(user)}

    @router.get("/user/{user_id}")
    async def user(user_id: str) -> dict[str, Any]:
        """An account."""
        found = await parts.accounts.get(user_id)
        if found is None:
            raise NotFound("There is no such user.")
        await parts.outbox.tell(USER_EVENTS, "user_detail_requested", user_id)
        return profile(found)

    @router.get("/user/{user_id}/orgs")
    async def organisations(user_id: str) -> dict[str, Any]:
        """Where a user belongs."""
        await parts.outbox.tell(USER_EVENTS, "user_orgs_requested", user_id)
        return {"organizations": await parts.register.of_user(user_id)}

    @router.get("/org/{org}")
    async def organisation(org: str) -> dict[str, Any]:
        """An organisation."""
        return await parts.register.get(org)

    @router.get("/org/{org}/members")
    async def members(org: str) -> dict[str, Any]:
        """Who belongs to it."""
        return {"members": await parts.register.members(org, None)}

    return router
