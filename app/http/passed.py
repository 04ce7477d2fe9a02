"""What goes to an upstream of a head that a connection repeats: put together once for each route. Pure.

Between two such requests only the path, the request's id and its place in the trace differ. Who calls may differ as
well, for the same token may have been revoked or have ended since: that is found out each time, and compared here.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.auth.identity import Identity
from app.http.request_head import StaticHeaders, head_lines
from app.http.routes import Route
from app.observe.request_context import RequestContext

__all__ = ["Passed"]

Headers = Sequence[tuple[bytes, bytes]]
_ID, _PARENT = b"x-request-id", b"traceparent"


class Passed:
    """The headers for one route's upstream."""

    __slots__ = ("_after", "_before", "_caller", "_chain", "_first", "_host", "_last", "_route", "_scheme")

    def __init__(self, route: Route, caller: Identity, context: RequestContext, headers: Headers, at: int) -> None:
        """``headers`` are those of one request, with its id at the index ``at`` and its trace behind it."""
        self._route = route
        self._caller = caller
        self._chain, self._scheme, self._host = context.chain, context.scheme, context.host
        self._first, self._last = tuple(headers[:at]), tuple(headers[at + 2 :])
        self._before = self._after = b""

    @classmethod
    def of(
        cls, route: Route, caller: Identity, context: RequestContext, headers: Headers, static: StaticHeaders
    ) -> Passed | None:
        """Return what to remember of a request's ``headers``; None where a route edits what differs each time.

        ``static`` are the upstream's own.
        """
        names = [name for name, _ in headers]
        if names.count(_ID) != 1 or names.count(_PARENT) != 1 or not static.names.isdisjoint((_ID, _PARENT)):
            return None
        at = names.index(_ID)
        if headers[at][1] != context.id or headers[at + 1 : at + 2] != [(_PARENT, context.trace.traceparent)]:
            return None
        passed = cls(route, caller, context, headers, at)
        try:
            before, after = (head_lines(each, static) for each in (passed._first, passed._last))
        except ValueError:
            return None  # It cannot be sent, and whoever tries will say so.
        end = b"".join(b"\r\n" + line for line in (*after, *static.lines))
        passed._before = b"".join(line + b"\r\n" for line in before) + _ID + b": "
        passed._after = end + b"\r\n"
        return passed

    def fits(self, route: Route, caller: Identity, context: RequestContext) -> bool:
        """Whether a request with the same lines gets these headers."""
        return (
            self._route is route
            and (self._caller is caller or self._caller == caller)
            and self._chain == context.chain
            and self._scheme == context.scheme
            and self._host == context.host
        )

    def headers(self, context: RequestContext) -> tuple[Headers, bytes]:
        """Return a request's headers, and the same as lines."""
        name, parent = context.id, context.trace.traceparent
        lines = b"%b%b\r\ntraceparent: %b%b" % (self._before, name, parent, self._after)
        return (*self._first, (_ID, name), (_PARENT, parent), *self._last), lines
