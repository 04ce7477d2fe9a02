"""The names by which the gateway may be asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Hosts"]


class Hosts:
    """Exact names, and ``*.example.com`` for all names below one; in lower case, without ports."""

    def __init__(self, names: Iterable[str]) -> None:
        every = tuple(names)
        self._exact = frozenset(name for name in every if not name.startswith("*."))
        self._below = tuple(name[1:] for name in every if name.startswith("*."))

    def __bool__(self) -> bool:
        """Whether any are named; otherwise all names are good."""
        return bool(self._exact or self._below)

    def __contains__(self, name: str) -> bool:
        return name in self._exact or (name.endswith(self._below) and not name.startswith("."))
