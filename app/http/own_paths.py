"""Where the gateway itself answers. Pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["OWN_PATHS", "SERVER_API_PATHS", "OwnPaths"]

OWN_PATHS = (
    "/health",
    "/health/*",
    "/metrics",
    "/api/v1/ws",
    "/api/v1/ws/*",
    "/api/v1/generations",
    "/api/v1/generations/*",
    "/api/v1/auth/logout",
    "/api/v1/webhooks/*",
    "/api/v1/diag/*",
    "/api/v1/usage",
    "/connection/*",
    "/emulation",
    "/docs",
    "/docs/*",
    "/redoc",
    "/openapi.json",
    "/playground/*",
)
"""In the form of a route's path."""
SERVER_API_PATHS = tuple(
    f"/api/{method}"
    for method in (
        "batch",
        "broadcast",
        "channels",
        "disconnect",
        "history",
        "history_remove",
        "info",
        "presence",
        "presence_stats",
        "publish",
        "refresh",
        "revoke",
        "subscribe",
        "unsubscribe",
    )
)
"""Those of the server API, which is only there with a key."""


class OwnPaths:
    """A set of paths. A route takes one of them only if it names the very path, not by a name or ``/*`` in its own."""

    def __init__(self, paths: Iterable[str] = OWN_PATHS) -> None:
        every = tuple(paths)
        self._exact = frozenset(path for path in every if not path.endswith("/*"))
        self._prefixes = tuple(path[:-1] for path in every if path.endswith("/*"))

    def __contains__(self, path: str) -> bool:
        """Whether the gateway answers at ``path``, which is in its normal form."""
        return path in self._exact or path.startswith(self._prefixes)

    @property
    def patterns(self) -> list[str]:
        """What the set was made of, in the form of a route's path, in order."""
        return sorted([*self._exact, *(f"{prefix}*" for prefix in self._prefixes)])

    def label(self, path: str) -> str:
        """Return the pattern that ``path`` is in, of which there are as many as were given; ``none`` for none."""
        if path in self._exact:
            return path
        return next((f"{prefix}*" for prefix in self._prefixes if path.startswith(prefix)), "none")
