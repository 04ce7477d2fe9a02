"""One try of a request: leave to ask one target, a connection to it, the answer to come."""

from __future__ import annotations

from app.config import UpstreamConfig
from app.errors import UpstreamBusy, UpstreamInvalid
from app.http.request_head import StaticHeaders, known_head, request_head
from app.http.upstream_connection import UpstreamConnection
from app.http.upstream_response import UpstreamResponse
from app.http.upstream_upload import length_of
from app.http.upstreams.plan import Request
from app.http.upstreams.target import Ticket

__all__ = ["Attempt"]


class Attempt:
    """Sent by :meth:`put` at once, or by :meth:`ask`, which also waits: for a connection, and for the answer's head."""

    __slots__ = ("_connection", "_patience", "_static", "answer", "began", "ticket")

    def __init__(self, ticket: Ticket, began: float, patience: float, static: StaticHeaders) -> None:
        """``began`` is in seconds (monotonic), ``patience`` in seconds to the answer's head from the time of sending.
        ``static`` are the upstream's own headers."""
        self.ticket = ticket
        self.began = began
        self.answer: UpstreamResponse | None = None
        """None as long as nothing was sent."""
        self._connection: UpstreamConnection | None = None
        self._patience = patience
        self._static = static

    def put(self, request: Request, *, resendable: bool) -> bool:
        """Send on an idle connection; False where there is none, and for what :meth:`ask` will raise."""
        connection = self.ticket.target.take_idle(resendable)
        if connection is None:
            return False
        try:
            self._send(connection, request)
        except ValueError:
            connection.close()
            return False
        self._connection = connection
        return True

    async def ask(self, request: Request, config: UpstreamConfig, *, resendable: bool) -> UpstreamResponse:
        """Return the answer when its head has come, of an idle connection or a new one.

        An idle one that turns out dead is replaced, once, if that is safe.
        """
        target = self.ticket.target
        if request.upgrade and len(target.tunnels) >= config.max_sockets:
            raise UpstreamBusy
        connection = self._connection or target.take_idle(resendable) or await target.connect()
        while True:
            answer = self.answer
            try:
                answer = answer or self._send(connection, request)
                await answer.head(self._patience)
                return answer
            except UpstreamInvalid:
                if not (answer is not None and _was_stale(connection, answer) and resendable):
                    raise
            except BaseException:
                connection.close()
                raise
            other = target.take_idle(True)
            if other is not None:
                other.close()  # it may be as stale as the first
            connection, self.answer = await target.connect(), None

    def _send(self, connection: UpstreamConnection, request: Request) -> UpstreamResponse:
        method, body, address = request.method, request.body, self.ticket.target.address
        if request.lines:
            head = known_head(method, address, request.path, request.lines)
        else:
            head = request_head(
                method,
                address,
                request.path,
                request.headers,
                static=self._static,
                length=len(body) if isinstance(body, bytes) else length_of(body),
                upgrade=request.upgrade,
            )
        connection.ticket = self.ticket
        self.answer = answer = connection.send(
            head,
            body,
            head_only=method == "HEAD",
            response_timeout=self._patience,
            idle_timeout=request.idle_timeout,
            upgrade=request.upgrade,
        )
        return answer


def _was_stale(connection: UpstreamConnection, answer: UpstreamResponse) -> bool:
    """Whether the upstream had closed the connection already when the request was sent."""
    return answer.received == 0 and connection.requests > 1
