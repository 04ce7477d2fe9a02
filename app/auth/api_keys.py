"""API keys of the served formats: texts that stand for a user, for programs that hold no tokens. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from app.auth.identity import Identity
from app.config import ServedKeyConfig

__all__ = ["ApiKeys"]


class ApiKeys:
    """Finds a key by its SHA-256: how much of a guess was right takes no time."""

    def __init__(self, keys: Mapping[str, ServedKeyConfig]) -> None:
        self._owners = {
            _digest(entry.key.get_secret_value()): Identity(
                user_id=entry.user or f"key:{name}", company_id=entry.company
            )
            for name, entry in keys.items()
        }

    def owner(self, key: str) -> Identity | None:
        """Return whose ``key`` is; None for what is none."""
        return self._owners.get(_digest(key)) if self._owners else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
