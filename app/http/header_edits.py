"""The edits of header fields that a route asks for, made ready once. Pure."""

from __future__ import annotations

from collections.abc import Callable

from app.auth.headers import safe_value
from app.auth.identity import Identity
from app.config import HeadersConfig, RouteConfig
from app.http.headers import normal_name, says_who

__all__ = ["Headers", "RouteHeaders"]

Headers = list[tuple[bytes, bytes]]
Edit = Callable[[Headers], Headers]


class RouteHeaders:
    """What one route does with headers."""

    __slots__ = ("_claims", "_names", "_plain", "_request", "response")

    def __init__(self, route: RouteConfig) -> None:
        """Raises :exc:`ValueError` where an edit would say who the caller is: only a verified token says that."""
        edited = route.request_headers
        for name in (*edited.remove, *edited.set, *edited.add):
            if says_who(name.encode("ascii")):
                raise ValueError(
                    f"request_headers cannot edit {name}, which tells who the caller is; see claim_headers"
                )
        self._request = _edits(edited)
        self._plain = route.generation is not None
        """The gateway reads the answer itself."""
        self.response = _edits(route.response_headers)
        """Edits an answer's headers; None where there is nothing to edit."""
        self._claims = [(name.lower().encode("ascii"), path) for name, path in route.claim_headers.items()]
        self._names = frozenset(normal_name(name) for name, _ in self._claims)

    def request(self, headers: Headers, caller: Identity) -> Headers:
        """Return a request's headers with what the token says, and then edited.

        What the client itself wrote under the name of a claim's header, in any spelling, is gone.
        """
        if self._claims:
            headers = [field for field in headers if normal_name(field[0]) not in self._names]
            for name, path in self._claims:
                value = caller.claim(path)
                if value is not None:
                    headers.append((name, safe_value(value)))
        if self._plain:
            headers = [field for field in headers if field[0] != b"accept-encoding"]
            headers.append((b"accept-encoding", b"identity"))
        return headers if self._request is None else self._request(headers)


def _edits(config: HeadersConfig) -> Edit | None:
    """Return the function that makes the edits of ``config``; None when there are none."""
    gone = frozenset(normal_name(name.encode("ascii")) for name in (*config.remove, *config.set))
    new = [
        (name.lower().encode("ascii"), value.encode("latin-1"))
        for name, value in (*config.set.items(), *config.add.items())
    ]
    if not gone and not new:
        return None
    return lambda headers: [*(field for field in headers if normal_name(field[0]) not in gone), *new]
