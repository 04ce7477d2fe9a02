"""What clients ask for, checked, and what they are told. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator

from services.users.records import Session, User

__all__ = ["LoginRequest", "PasswordRequest", "RefreshRequest", "RegisterRequest", "profile", "session_document"]

_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s.\x00-\x1f]+(\.[^@\s.\x00-\x1f]+)*")
_CONFIG = ConfigDict(extra="ignore", frozen=True)


def _email(text: str) -> str:
    address = text.strip().casefold()
    if not _EMAIL.fullmatch(address):
        raise ValueError("must be an e-mail address")
    return address


def _encodable(text: str) -> str:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("holds a character that cannot be stored")
    return text


Email = Annotated[str, Field(max_length=254), AfterValidator(_email), AfterValidator(_encodable)]
NewPassword = Annotated[str, Field(min_length=8, max_length=256), AfterValidator(_encodable)]
Password = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_encodable)]
Username = Annotated[str, Field(min_length=3, max_length=64, pattern=r"^[\w.-]+$"), AfterValidator(_encodable)]


class RegisterRequest(BaseModel):
    """A new account. Its username can be left out."""

    model_config = _CONFIG | ConfigDict(
        json_schema_extra={
            "example": {"username": "testuser", "email": "test@example.com", "password": "securepass123"}
        }
    )

    email: Email
    password: NewPassword
    username: Username | None = None


class LoginRequest(BaseModel):
    """An e-mail address or a username, and the password."""

    model_config = _CONFIG | ConfigDict(
        json_schema_extra={"example": {"email": "test@example.com", "password": "securepass123"}}
    )

    email: str | None = Field(None, max_length=254)
    username: str | None = Field(None, max_length=254)
    password: Password

    @model_validator(mode="after")
    def _names_somebody(self) -> LoginRequest:
        if not (self.login and _encodable(self.login)):
            raise ValueError("email or username must be there")
        return self

    @property
    def login(self) -> str:
        """Whom it names, as it is compared."""
        return (self.email or self.username or "").strip().casefold()


class RefreshRequest(BaseModel):
    """A refresh token."""

    model_config = _CONFIG

    token: str = Field(validation_alias=AliasChoices("refreshToken", "refresh_token"), min_length=1, max_length=4096)


class PasswordRequest(BaseModel):
    """A change of password."""

    model_config = _CONFIG

    current: Password = Field(validation_alias=AliasChoices("currentPassword", "current_password"))
    new: NewPassword = Field(validation_alias=AliasChoices("newPassword", "new_password"))


def profile(user: User) -> dict[str, Any]:
    """A user as he is told of himself."""
    return {
        "id": user.id,
        "email": user.email,
        "username": user.username,
        "roles": list(user.roles),
        "createdAt": _time(user.created_at),
    }


def session_document(session: Session, current: str) -> dict[str, Any]:
    """A session as its user sees it."""
    return {
        "id": session.id,
        "current": session.id == current,
        "createdAt": _time(session.created_at),
        "refreshedAt": _time(session.refreshed_at),
        "expiresAt": _time(session.expires_at),
        "userAgent": session.user_agent,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
