"""The reverse proxy: one request of a client becomes one request to an upstream, both bodies streamed.

What happens, in order: who asks (401), how large it is (413), headers cleaned and ours set, sent, answered. Before the
answer has begun an error is a problem document; after that the client's connection is cut, never ended cleanly. When
the client goes away the upstream's connection is closed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog
from starlette.types import Receive, Scope, Send

from app.auth.bearer import bearer_token
from app.auth.identity import ANONYMOUS, Identity
from app.auth.service_keys import ServiceKeys
from app.config import RouteConfig
from app.errors import BadRequest, TidegateError, Unauthenticated, UpstreamError
from app.http.aborted import ResponseAborted
from app.http.access import authorize
from app.http.cache.flight import Answer
from app.http.cached_routes import CachedRoutes
from app.http.client_watch import ClientGone, ClientWatch, Watches
from app.http.header_edits import RouteHeaders
from app.http.headers import request_headers, response_headers
from app.http.limits import admit_request, telling
from app.http.metering import TokenMeter, read_ahead, uncompressed
from app.http.problems import problem
from app.http.request_body import received_body
from app.http.routes import Match, Route
from app.http.tracked import TrackedAnswer, Tracker, as_client
from app.http.transport import HttpTransport
from app.http.uploads.body import checked_body
from app.http.upstreams.plan import Plan
from app.limits.limits import Limits
from app.observe.outcomes import Ended, Outcome, Outcomes
from app.observe.request_context import context_of

__all__ = ["Proxy", "Verifier", "send_problem"]

_BODILESS = frozenset({204, 205, 304})
_log = structlog.get_logger(__name__)


class Verifier(Protocol):
    """Tells who a token belongs to."""

    async def verified(self, token: str) -> Identity:
        """Raises :exc:`~app.errors.Unauthenticated` or one of its kinds for a token that is not valid now.

        It waits only for an issuer's fresh keys. Raises :exc:`~app.errors.KeysUnavailable` without any.
        """

    def check(self, identity: Identity) -> None:
        """Raises :exc:`~app.errors.TokenRevoked` when what was verified before was revoked since."""


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
        self._service_keys = service_keys or ServiceKeys()
        self._transport = transport
        self._verifier = verifier
        self._limits = limits
        self._body_limit = body_limit
        self._cached = cached
        self._outcomes = outcomes or Outcomes()
        self._tracker = tracker
        self._watches = Watches()
        self._plans: dict[int, tuple[Route, Plan]] = {}
        """By the route's index; of routes of an earlier table there may be some."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send, match: Match) -> None:
        """Serve one request of scope type ``http``.

        Raises :exc:`~app.http.aborted.ResponseAborted` when the upstream failed after the answer had begun.
        """
        context, route = context_of(scope), match.route
        outcome = Outcome(context, route.config, route.label, scope["method"], match.path)
        limits, verdict, meter, failure = self._limits, None, None, None
        try:
            identity = await self._identify(match.route.config, scope["headers"])
            outcome.user_id, outcome.company_id = identity.user_id, identity.company_id
            if self._counts_tokens(route):
                call, receive = await read_ahead(scope, receive)
                if call is not None:
                    meter, scope = TokenMeter(call), uncompressed(scope)
            if route.config.limits:
                assert limits is not None, "a route with limits needs somebody who counts"
                wanted = None if meter is None else meter.wanted
                verdict = await admit_request(limits, scope, route, identity, wanted)
                send = telling(send, verdict)
                if verdict.refusal is not None:
                    raise verdict.refusal
            if route.config.answer is not None:
                await _answer_itself(route, send, outcome)
                return
            tracked = route.config.generation is not None
            client, scope, receive = (
                await as_client(route.config, scope, receive) if tracked else (None, scope, receive)
            )
            with ClientWatch(self._watches, receive) as watch:
                response = await self._forward(scope, receive, match, identity, watch, outcome)
                response = response if meter is None else meter.read(response, limits, verdict)
                response = self._followed(response, route.config, identity, client)
                try:
                    await _answer(response, send, watch, route.headers, outcome)
                except TidegateError as error:  # also of the request's body, which may still be on its way
                    failed = isinstance(error, UpstreamError)
                    outcome.ended, outcome.error = Ended.UPSTREAM if failed else Ended.REFUSED, error.code
                    _log.warning("answer broke off", upstream=route.config.upstream, code=error.code,
                                 request_id=context.id.decode("ascii"))  # fmt: skip
                    raise ResponseAborted from None
                finally:
                    response.abort()
        except ClientGone:
            outcome.ended = Ended.CLIENT
        except TidegateError as error:
            failure = error
            await _refuse(send, error, outcome)
        finally:
            if meter is not None:
                meter.settle(limits, verdict, outcome, failure)
            elif limits is not None and verdict is not None:
                limits.release(verdict)
            self._outcomes.tell(outcome)

    def _counts_tokens(self, route: Route) -> bool:
        config, limits = route.config, self._limits
        if config.answer is not None:
            return False
        return config.count_tokens or (limits is not None and limits.counts_tokens(config.limits))

    def reload(self, limits: Limits, body_limit: int, cached: CachedRoutes | None) -> None:
        """Take other limits and routes with a cache, from the next request on."""
        self._limits, self._body_limit, self._cached = limits, body_limit, cached

    async def close(self) -> None:
        """Stop watching clients. Requests in flight are the server's to end."""
        await self._watches.close()

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
        headers = request_headers(
            received,
            outcome.context,
            identity,
            keep_authorization=route.keeps_authorization,
            keep_service_key=route.forward_service_key,
        )
        headers = match.route.headers.request(headers, identity)
        body = await received_body(dict(received), receive, watch, route.body_limit or self._body_limit, outcome)
        if route.upload is not None:
            body = await checked_body(route.upload, received, body)
        path = match.path
        if scope["query_string"]:
            path = f"{path}?{_query(scope['query_string'])}"
        plan = self._plan(match.route)
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

    def _followed(self, response: Answer, route: RouteConfig, identity: Identity, client: str | None) -> Answer:
        """Return the answer, a copy of which is looked at where it begins a job."""
        if route.generation is None or self._tracker is None:
            return response
        return TrackedAnswer(response, self._tracker, route, identity, client)

    def _plan(self, route: Route) -> Plan:
        known = self._plans.get(route.index)
        if known is None or known[0] is not route:
            known = self._plans[route.index] = (route, self._transport.plan(route.config))
        return known[1]

    async def _identify(self, route: RouteConfig, received: Sequence[tuple[bytes, bytes]]) -> Identity:
        if route.auth == "service":
            self._service_keys.check(received)
        if route.auth in ("none", "service"):
            return ANONYMOUS
        token = bearer_token(received)
        if route.auth == "upstream":
            if token is None:
                raise Unauthenticated(route.missing_token or None)
            return ANONYMOUS
        identity = ANONYMOUS if token is None else await self._verifier.verified(token)
        authorize(route, identity)
        return identity


async def send_problem(
    send: Send, error: TidegateError, *, request_id: bytes | None = None, allow: tuple[str, ...] = ()
) -> None:
    """Answer with the problem document of ``error``."""
    instance = None if request_id is None else f"urn:tidegate:request:{request_id.decode('ascii')}"
    status, headers, body = problem(error, instance=instance, allow=allow)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, error: TidegateError, outcome: Outcome) -> None:
    """Tell the client that there is no answer."""
    request_id, failed = outcome.context.id, isinstance(error, UpstreamError)
    outcome.ended, outcome.error = Ended.UPSTREAM if failed else Ended.REFUSED, error.code
    outcome.status = outcome.status or error.status
    if failed:
        _log.warning("upstream failed", upstream=outcome.route.upstream, code=error.code,
                     request_id=request_id.decode("ascii"), cause=repr(error.__cause__))  # fmt: skip
    await send_problem(send, error, request_id=request_id)


async def _answer_itself(route: Route, send: Send, outcome: Outcome) -> None:
    """Answer with what the configuration says."""
    answer = route.config.answer
    assert answer is not None, "the caller looked"
    body = answer.body.encode()
    headers = [(b"content-type", answer.content_type.encode("latin-1"))]
    if answer.status not in _BODILESS:
        headers.append((b"content-length", b"%d" % len(body)))
    if route.headers.response is not None:
        headers = route.headers.response(headers)
    outcome.status = answer.status
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if answer.status in _BODILESS else body
    await send({"type": "http.response.body", "body": body})
    outcome.sent, outcome.ended = len(body), Ended.COMPLETE


async def _answer(response: Answer, send: Send, watch: ClientWatch, edits: RouteHeaders, outcome: Outcome) -> None:
    """Stream the answer down. ``send`` waits while the client is slow, which pauses the upstream."""
    headers = response_headers(response.headers, response.status)
    if edits.response is not None:
        headers = edits.response(headers)
    if not response.complete:
        watch.streaming()
    outcome.status = response.status
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    while True:
        data = await response.read()
        outcome.sent += len(data)
        if response.complete:  # and read: nothing comes after a complete body
            watch.end()
            await send({"type": "http.response.body", "body": data})
            outcome.ended = Ended.COMPLETE
            return
        await send({"type": "http.response.body", "body": data, "more_body": True})


def _query(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise BadRequest("The query holds characters that must be percent-encoded.") from None
