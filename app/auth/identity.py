"""Who a caller is, as a verified token says it."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ANONYMOUS", "Identity"]


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller. ``user_id`` is None for the anonymous one; ``expires_at`` is in seconds since 1970, None for never."""

    user_id: str | None = None
    company_id: str | None = None
    email: str | None = None
    roles: tuple[str, ...] = ()
    token_id: str | None = None
    expires_at: float | None = None
    scopes: tuple[str, ...] = ()
    claims: tuple[tuple[str, str], ...] = ()
    """Further claims that the configuration asks for, each a path and its value as text."""
    session_id: str | None = None
    """The login that the token belongs to."""
    issued_at: float | None = field(default=None, compare=False)
    """In seconds since 1970."""
    digest: str | None = field(default=None, compare=False)
    """The token's SHA-256 in hexadecimal: its name where it has no other."""

    def __hash__(self) -> int:
        return hash((self.user_id, self.token_id))  # Not of all: it is computed for each request.

    @property
    def anonymous(self) -> bool:
        return self.user_id is None

    def claim(self, path: str) -> str | None:
        """Return the claim at ``path``; None when the token has none, or nobody asked for it."""
        return next((value for name, value in self.claims if name == path), None)


ANONYMOUS = Identity()
