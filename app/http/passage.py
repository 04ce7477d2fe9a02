"""A request that was sent on as soon as its head had come, and whose answer may come as quickly.

It has no task, and nothing waits for it: when the upstream has answered whole, the client has its answer before the
read of the upstream's connection returns. Whatever else happens (the answer comes in pieces, is late, broken, to be
tried again, to be compressed, the client is slow or gone) gets a task after all, which goes on from where the request
is: there is one way through the proxy, and this is its beginning with the waiting left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from starlette.types import Receive, Scope, Send

from app.http.answers import or_refuse, pass_on
from app.http.client_watch import ClientWatch, Watches
from app.http.edge.repeated import Repeated
from app.http.headers import response_headers
from app.http.known_answers import KnownAnswer
from app.http.limits import telling, told
from app.http.routes import Route
from app.http.upstream_response import UpstreamResponse
from app.http.upstreams.attempt import Attempt
from app.http.upstreams.deadline import in_time
from app.http.upstreams.exchange import Exchange
from app.http.upstreams.plan import Request
from app.limits.limits import Verdict
from app.observe.outcomes import Ended, Outcome, Outcomes

__all__ = ["Client", "Passage", "Work"]


class Work(Protocol):
    """What is left to do for a request: an application that is called once."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Client(Protocol):
    """Who asked, behind all that answers have in common."""

    repeated: Repeated | None
    """The fields of his request, if they are those of the one before it."""
    body: bytes
    """All of it."""

    def answer(
        self,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        known: KnownAnswer | None = None,
        route: object = None,
    ) -> bool:
        """Answer at once; False where that takes a task, and then nothing was done.

        What becomes of a ``known`` answer of a ``route`` is remembered, if nothing else goes into ``headers``.
        """

    def answer_again(self, known: KnownAnswer, body: bytes, route: object) -> bool:
        """Answer at once with what was remembered; False where it was not, and then nothing was done."""

    def start(self, work: Work) -> None:
        """Do ``work`` in a task of the server's."""


class Passage:
    """One request. It waits for its answer, and :class:`~app.http.client_watch.Watches` look how long that takes."""

    __slots__ = (
        "_attempt",
        "_client",
        "_exchange",
        "_outcomes",
        "_over",
        "_request",
        "_route",
        "_verdict",
        "_watches",
        "outcome",
    )

    def __init__(
        self,
        client: Client,
        route: Route,
        exchange: Exchange,
        request: Request,
        attempt: Attempt,
        outcome: Outcome,
        outcomes: Outcomes,
        watches: Watches,
        verdict: Verdict | None,
    ) -> None:
        """``verdict`` is what the route's limits said."""
        self.outcome = outcome
        self._verdict = verdict
        self._client = client
        self._route = route
        self._exchange = exchange
        self._request = request
        self._attempt = attempt
        self._outcomes = outcomes
        self._watches = watches
        self._over = False

    def wait(self) -> None:
        """Wait for the answer, or for as long as no task is worth it."""
        answer = self._attempt.answer
        if answer is None:
            self.begin()
        else:
            answer.then(self)
            self._watches.add(self)

    # What the answer calls: it takes this for a future.

    def done(self) -> bool:
        return self._over

    def set_result(self, result: None) -> None:
        """Something has come, or nothing will."""
        answer = self._attempt.answer
        assert answer is not None, "it is the answer that calls"
        if not self._finish(answer):
            self.begin()

    # What the watches call, when it has taken a while.

    def begin(self) -> None:
        """Go on with a task."""
        self._over = True
        self._watches.discard(self)
        self._client.start(self._go_on)

    # Private.

    def _finish(self, answer: UpstreamResponse) -> bool:
        """Give the client the answer, if it is whole and good; return whether that is all."""
        body, status, outcome = answer.whole, answer.status, self.outcome
        if body is None or status >= 500:
            return False
        self._over = True
        known = answer.again if self._verdict is None else None
        if known is None or not self._client.answer_again(known, body, self._route):
            headers = response_headers(answer.headers, status)
            edit = self._route.headers.response
            if edit is not None:
                headers = edit(headers)
            if self._verdict is not None:
                headers = told(headers, self._verdict)
            if not self._client.answer(status, headers, body, known, self._route):
                return False
        self._watches.discard(self)
        self._exchange.answered(self._attempt, self._request, answer)
        outcome.status, outcome.sent, outcome.ended = status, len(body), Ended.COMPLETE
        self._outcomes.tell(outcome)
        return True

    async def _go_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = send if self._verdict is None else telling(send, self._verdict)
        try:
            await or_refuse(self._rest(receive, send), send, self.outcome)
        finally:
            self._outcomes.tell(self.outcome)

    async def _rest(self, receive: Receive, send: Send) -> None:
        request = self._request
        with ClientWatch(self._watches, receive) as watch:
            watch.body_received()
            sending = self._exchange.send(request, self._attempt)
            answer = await (sending if request.deadline is None else in_time(sending, request.deadline))
            await pass_on(answer, send, watch, self._route.headers, self.outcome)
