"""The reverse proxy: one request of a client becomes one request to an upstream, both bodies streamed.

What happens, in order: who asks (401), how large it is (413), headers cleaned and ours set, sent, answered. Before the
answer has begun an error is a problem document; after that the client's connection is cut, never ended cleanly. When
the client goes away the upstream's connection is closed at once.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from app.auth.identity import Identity
from app.auth.service_keys import ServiceKeys
from app.errors import TidegateError
from app.http.answers import answer_itself, or_refuse, pass_on
from app.http.cache.flight import Answer
from app.http.cached_routes import CachedRoutes
from app.http.callers import Callers, Verifier
from app.http.client_watch import ClientWatch, Watches
from app.http.lanes import Lanes
from app.http.limits import admit_request, telling
from app.http.metering import TokenMeter, read_ahead, uncompressed
from app.http.onward import onward_headers, repeated_headers, target_of
from app.http.passage import Client, Passage
from app.http.request_body import received_body
from app.http.routes import Match, Route
from app.http.tracked import TrackedAnswer, Tracker, as_client, let_in
from app.http.transport import HttpTransport
from app.http.uploads.body import checked_body
from app.http.upstreams.plan import Request
from app.limits.callers import counted_caller
from app.limits.limits import Limits, Verdict
from app.observe.outcomes import Outcome, Outcomes
from app.observe.request_context import context_of

__all__ = ["Proxy"]


_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110 section 9.2.1), and so no cache."""


class _Begun(NamedTuple):
    """A request without a task."""

    scope: Scope
    match: Match
    client: Client
    identity: Identity
    outcome: Outcome


class _Admitted(NamedTuple):
    """Who asks, and what was taken for it of the limits."""

    identity: Identity
    limits: Limits | None
    verdict: Verdict | None
    meter: TokenMeter | None


class Proxy:
    """Serves requests that the route table matched. Close it where the transport is closed."""

    def __init__(
        self,
        transport: HttpTransport,
        verifier: Verifier,
        limits: Limits | None = None,
        service_keys: ServiceKeys | None = None,
        *,
        body_limit: int,
        cached: CachedRoutes | None = None,
        outcomes: Outcomes | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        """``body_limit`` (bytes) holds for routes that have none of their own. Routes with limits need ``limits``,
        those with a cache ``cached``, those whose answers begin a job ``tracker``. ``outcomes`` are told of every
        request's end.
        """
        self._callers = Callers(verifier, service_keys or ServiceKeys())
        self._transport = transport
        self._limits = limits
        self._body_limit = body_limit
        self._cached = cached
        self._outcomes = outcomes or Outcomes()
        self._tracker = tracker
        self._watches = Watches()
        self._lanes = Lanes(transport)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, match: Match) -> None:
        """Serve one request of scope type ``http``.

        Raises :exc:`~app.http.aborted.ResponseAborted` when the upstream failed after the answer had begun.
        """
        outcome = Outcome(context_of(scope), match.route.config, match.route.label, scope["method"], match.path)
        try:
            await or_refuse(self._admit(scope, receive, send, match, outcome), send, outcome)
        finally:
            self._outcomes.tell(outcome)

    def begin(self, scope: Scope, match: Match, client: Client) -> bool:
        """Serve a request whose body has come and, if all goes well, without a task.

        False where that cannot be: then nothing was done, and the request is to be served by calling this proxy.
        """
        route = match.route
        lane = None if route.config.answer is not None else self._lanes.of(route)
        if lane is None or lane.exchange is None:
            return False
        if self._cached is not None and scope["method"] not in _SAFE:
            return False  # Its answer may make another one old.
        outcome = Outcome(context_of(scope), route.config, route.label, scope["method"], match.path)
        try:
            identity = self._callers.known(route.config, scope["headers"], client.repeated)
        except TidegateError:
            return False  # Whoever waits where that helps will find the same, and tells the client.
        outcome.user_id, outcome.company_id = identity.user_id, identity.company_id
        begun = _Begun(scope, match, client, identity, outcome)
        if not route.config.limits:
            return self._send_off(begun, None)
        assert self._limits is not None, "a route with limits needs somebody who counts"
        caller, go_on = counted_caller(scope, identity), partial(self._counted, begun, self._limits)
        return self._limits.begin(route.config.limits, route.label, caller, go_on)

    def reload(self, limits: Limits, body_limit: int, cached: CachedRoutes | None) -> None:
        """Take other limits and routes with a cache, from the next request on."""
        self._limits, self._body_limit, self._cached = limits, body_limit, cached

    async def close(self) -> None:
        """Stop watching clients. Requests in flight are the server's to end."""
        await self._watches.close()

    # Private.

    def _counted(self, begun: _Begun, limits: Limits, verdict: Verdict) -> None:
        """Go on with a request that its route's limits were asked about."""
        try:
            if verdict.refusal is None and self._send_off(begun, verdict):
                return
        except Exception as error:  # The loop called, and would leave the client without an answer.
            begun.client.start(partial(_fail, error))
            return
        match, outcome = begun.match, begun.outcome
        admitted = _Admitted(begun.identity, limits, verdict, None)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            send = telling(send, verdict)
            try:
                await or_refuse(self._serve(scope, receive, send, match, admitted, outcome), send, outcome)
            finally:
                self._outcomes.tell(outcome)

        begun.client.start(serve)

    def _send_off(self, begun: _Begun, verdict: Verdict | None) -> bool:
        """Send a request on; False where that takes a task, and then nothing was done."""
        scope, match, client, identity, outcome = begun
        route, lane = match.route, self._lanes.of(match.route)
        exchange, within = lane.exchange, lane.plan.timeout
        if exchange is None or len(client.body) > (route.config.body_limit or self._body_limit):
            return False
        try:
            path = target_of(scope, match)
            headers, lines = repeated_headers(scope, route, identity, exchange.static, client.repeated)
        except TidegateError:
            return False
        outcome.received = len(client.body)
        request = Request(
            lane.plan,
            scope["method"],
            path,
            headers,
            client.body,
            exchange.idle_timeout,
            None if within is None else get_running_loop().time() + within,
            outcome=outcome,
            lines=lines,
        )
        attempt = exchange.begin(request)
        if attempt is None:
            return False
        Passage(client, route, exchange, request, attempt, outcome, self._outcomes, self._watches, verdict).wait()
        return True

    async def _admit(self, scope: Scope, receive: Receive, send: Send, match: Match, outcome: Outcome) -> None:
        """Find out who asks, take what his request needs of limits, serve it, and give it back."""
        route, limits, verdict, meter, failure = match.route, self._limits, None, None, None
        identity = await self._callers.identify(route.config, scope["headers"])
        outcome.user_id, outcome.company_id = identity.user_id, identity.company_id
        if self._counts_tokens(route):
            call, receive = await read_ahead(scope, receive)
            if call is not None:
                meter, scope = TokenMeter(call), uncompressed(scope)
        try:
            if route.config.limits:
                assert limits is not None, "a route with limits needs somebody who counts"
                wanted = None if meter is None else meter.wanted
                verdict = await admit_request(limits, scope, route, identity, wanted)
                send = telling(send, verdict)
            admitted = _Admitted(identity, limits, verdict, meter)
            failure = await or_refuse(self._serve(scope, receive, send, match, admitted, outcome), send, outcome)
        finally:
            if meter is not None:
                meter.settle(limits, verdict, outcome, failure)
            elif limits is not None and verdict is not None:
                limits.release(verdict)

    async def _serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        match: Match,
        admitted: _Admitted,
        outcome: Outcome,
    ) -> None:
        route, (identity, limits, verdict, meter) = match.route, admitted
        if verdict is not None and verdict.refusal is not None:
            raise verdict.refusal
        if route.config.answer is not None:
            await answer_itself(route, send, outcome)
            return
        client, call, tracker = None, None, self._tracker
        if route.config.generation is not None and tracker is not None:
            client, scope, receive = await as_client(route.config, scope, receive)
            call, receive = await let_in(tracker, route.config, scope, receive, identity)
        try:
            with ClientWatch(self._watches, receive) as watch:
                response = await self._forward(scope, receive, match, identity, watch, outcome)
                response = response if meter is None else meter.read(response, limits, verdict)
                if call is not None:
                    response = TrackedAnswer(response, call, route.config.path, client)
                await pass_on(response, send, watch, route.headers, outcome)
        finally:
            if call is not None:
                call.release()

    def _counts_tokens(self, route: Route) -> bool:
        config, limits = route.config, self._limits
        if config.answer is not None:
            return False
        return config.count_tokens or (limits is not None and limits.counts_tokens(config.limits))

    async def _forward(
        self,
        scope: Scope,
        receive: Receive,
        match: Match,
        identity: Identity,
        watch: ClientWatch,
        outcome: Outcome,
    ) -> Answer:
        """Return the answer when its head has come: out of the cache, or of the upstream, which is sent the request."""
        route = match.route.config
        received: Sequence[tuple[bytes, bytes]] = scope["headers"]
        headers = onward_headers(scope, match.route, identity)
        body = await received_body(dict(received), receive, watch, route.body_limit or self._body_limit, outcome)
        if route.upload is not None:
            body = await checked_body(route.upload, received, body)
        path, plan = target_of(scope, match), self._lanes.of(match.route).plan
        ask, method = self._transport.request, scope["method"]
        cached = self._cached
        if cached is None:
            return await ask(route.upstream, method, path, headers, body, plan=plan, outcome=outcome)
        cacheable = cached.request(scope, match, identity, headers, body, outcome)
        if cacheable is not None:
            return await cached.cache.answer(
                cacheable,
                lambda fields: ask(route.upstream, "GET", path, fields, plan=plan, outcome=outcome),
                lambda: ask(route.upstream, method, path, headers, plan=plan, outcome=outcome),
            )
        response = await ask(route.upstream, method, path, headers, body, plan=plan, outcome=outcome)
        await cached.answered(scope, response.status, response.headers)
        return response


async def _fail(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    raise error
