"""Passes WebSockets on: who asks is looked at as for a request, then the two sides are joined.

The upstream's handshake comes first. So a client whose upstream refuses, or cannot be reached, is told so by HTTP.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from secrets import token_bytes
from typing import NamedTuple, Protocol

import structlog
from starlette.types import Receive, Scope, Send

from app.auth.identity import ANONYMOUS, Identity
from app.auth.service_keys import ServiceKeys
from app.config import RealtimeConfig, RouteConfig
from app.errors import PermissionDenied, TidegateError, TokenRevoked, UpstreamError
from app.http.access import authorize
from app.http.callers import Verifier
from app.http.headers import request_headers
from app.http.limits import admit_request, telling
from app.http.routes import Match
from app.http.sockets.handshake import Offer, asked_headers, check_answer, read_offer
from app.http.sockets.refusals import pass_refusal, refuse_socket, told_headers
from app.http.sockets.splice import Clockwork, Splice, Terms
from app.http.transport import HttpTransport
from app.http.tunnel import Tunnel
from app.http.upstream_response import UpstreamResponse
from app.http.upstreams.kafka.answer import KafkaAnswer
from app.limits.limits import Limits
from app.observe.outcomes import Ended, Outcome, Outcomes
from app.observe.request_context import context_of

__all__ = ["ClientSocket", "PassedOn", "SocketProxy"]

EXTENSION = "tidegate.connection"
"""Key of the scope's ``extensions`` under which the client's connection is."""
_SWITCHED = 101
_REVOKED = TokenRevoked.close_code or 4501
_log = structlog.get_logger(__name__)


class PassedOn(NamedTuple):
    """A socket that was joined, and what is known of its handshake."""

    splice: Splice
    outcome: Outcome


class ClientSocket(Protocol):
    """The client's connection."""

    def splice(self, splice: Splice) -> bool:
        """Hand all bytes that come from now on to ``splice``; False if some came before they might."""

    @property
    def direct(self) -> asyncio.Transport: ...


Held = tuple[str, ...]
"""What a socket holds of the limits of sockets."""


class Admission(Protocol):
    """The count of sockets, of whatever kind."""

    async def admit(self, held: Held = (), *, address: str | None, identity: Identity) -> Held:
        """Return what a socket from ``address`` holds. Raises ``TooManySockets``, ``BrokerUnavailable``."""

    def release(self, held: Held) -> None: ...


class TicketOffice(Protocol):
    async def redeem(self, ticket: str) -> Identity:
        """Raises :exc:`~app.errors.InvalidToken`, ``TokenExpired`` and ``BrokerUnavailable``."""


@dataclass(frozen=True, slots=True)
class _Handshake:
    """One that was let in. ``key`` is what the upstream is asked with, ``send`` what the client is answered by."""

    scope: Scope
    send: Send
    match: Match
    offer: Offer
    identity: Identity
    outcome: Outcome
    key: bytes


class SocketProxy:
    """Serves handshakes that the route table matched."""

    def __init__(
        self,
        transport: HttpTransport,
        verifier: Verifier,
        service_keys: ServiceKeys,
        tickets: TicketOffice,
        admission: Admission,
        limits: Limits,
        config: RealtimeConfig,
        *,
        origin_allowed: Callable[[Sequence[tuple[bytes, bytes]]], bool],
        clock: Callable[[], float],
        clockwork: Clockwork,
        delay: Callable[[], float],
        outcomes: Outcomes | None = None,
        ended: Callable[[PassedOn, float], None] = lambda socket, seconds: None,
    ) -> None:
        """``outcomes`` are told of handshakes that were refused; ``ended`` of each socket's end, and how many seconds
        it was open."""
        self._outcomes = outcomes or Outcomes()
        self._ended = ended
        self._transport = transport
        self._verifier = verifier
        self._service_keys = service_keys
        self._tickets = tickets
        self._admission = admission
        self._limits = limits
        self._config = config
        self._origin_allowed = origin_allowed
        self._clock = clock
        self._clockwork = clockwork
        self._delay = delay
        self._open: dict[Splice, PassedOn] = {}
        self.opened = 0
        """Sockets so far that were joined."""

    def __len__(self) -> int:
        """How many sockets are joined now."""
        return len(self._open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, match: Match) -> None:
        """Serve one handshake, of scope type ``websocket``. The socket lives on by itself."""
        limits = self._limits  # those of the match: there may be others by the time they are asked
        await receive()
        context, route = context_of(scope), match.route.config
        request_id = context.id
        outcome = Outcome(context, route, match.route.label, "GET", match.path)
        answer: UpstreamResponse | KafkaAnswer | None = None
        holding = ExitStack()
        try:
            offer = read_offer(
                scope["headers"],
                scope["subprotocols"],
                scope["query_string"],
                credentials=route.auth != "none",
                query_token=self._config.query_token,
            )
            if not self._origin_allowed(scope["headers"]):
                raise PermissionDenied("This origin is not allowed. Add it to server.allowed_origins.")
            identity = await self._identify(route, offer, scope["headers"])
            outcome.user_id, outcome.company_id = identity.user_id, identity.company_id
            if route.limits:
                verdict = await admit_request(limits, scope, match.route, identity)
                holding.callback(limits.release, verdict)
                send = telling(send, verdict)
                if verdict.refusal is not None:
                    raise verdict.refusal
            held = await self._admission.admit(address=context.client, identity=identity)
            holding.callback(self._admission.release, held)
            key = base64.b64encode(token_bytes(16))
            handshake = _Handshake(scope, send, match, offer, identity, outcome, key)
            answer = await self._ask(handshake)
            if answer.tunnel is None:
                await pass_refusal(answer, send, match.route.headers, outcome)
            else:
                await self._join(handshake, answer, answer.tunnel, holding)
        except TidegateError as error:
            failed = isinstance(error, UpstreamError)
            outcome.ended, outcome.error = Ended.UPSTREAM if failed else Ended.REFUSED, error.code
            outcome.status = outcome.status or error.status
            if failed:
                _log.warning("upstream failed", upstream=route.upstream, code=error.code,
                             request_id=request_id.decode("ascii"), cause=repr(error.__cause__))  # fmt: skip
            await refuse_socket(send, error, request_id)
        finally:
            holding.close()
            if answer is not None and answer.tunnel is None:
                answer.abort()
            if outcome.status != _SWITCHED:
                self._outcomes.tell(outcome)

    def reload(self, limits: Limits) -> None:
        """Take other limits, from the next handshake on."""
        self._limits = limits

    def end_revoked(self, revoked: Callable[[Identity], bool]) -> None:
        """Close the sockets of those whose token is not taken any more."""
        for splice in [splice for splice in self._open if revoked(splice.identity)]:
            splice.end(_REVOKED, "token revoked")

    async def _identify(self, route: RouteConfig, offer: Offer, received: Sequence[tuple[bytes, bytes]]) -> Identity:
        if route.auth == "service":
            self._service_keys.check(received)
        if route.auth in ("none", "service"):
            return ANONYMOUS
        identity = ANONYMOUS
        if offer.credential is not None:
            kind, value = offer.credential
            read = self._tickets.redeem if kind == "ticket" else self._verifier.verified
            identity = await read(value)
        authorize(route, identity)
        return identity

    async def _ask(self, handshake: _Handshake) -> UpstreamResponse | KafkaAnswer:
        """Send the handshake on; return when its answer's head has come."""
        match, offer, outcome = handshake.match, handshake.offer, handshake.outcome
        route, identity = match.route.config, handshake.identity
        headers = request_headers(
            handshake.scope["headers"], outcome.context, identity, keep_authorization=route.keeps_authorization
        )
        headers = asked_headers(match.route.headers.request(headers, identity), offer, handshake.key)
        path = match.path
        if offer.query:
            path = f"{path}?{offer.query.decode('ascii')}"
        plan = replace(self._transport.plan(route), hedge=False)
        return await self._transport.request(
            route.upstream, "GET", path, headers, plan=plan, upgrade=True, outcome=outcome
        )

    async def _join(
        self, handshake: _Handshake, answer: UpstreamResponse | KafkaAnswer, tunnel: Tunnel, holding: ExitStack
    ) -> None:
        """Join the two sockets, unless the client is gone already. What they are ``holding`` is freed at their end."""
        offer, outcome, route = handshake.offer, handshake.outcome, handshake.match.route.config
        joined = False
        try:
            subprotocol = check_answer(answer.headers, offer, handshake.key) or offer.marker
            headers = told_headers(answer, outcome.context.id)
            if (edit := handshake.match.route.headers.response) is not None:
                headers = edit(headers)
            connection: ClientSocket = handshake.scope["extensions"][EXTENSION]
            await handshake.send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers})
            if connection.direct.is_closing():
                return
            outcome.status = _SWITCHED
            ends = holding.pop_all().close
            splice = Splice(
                handshake.identity,
                connection.direct,
                tunnel.transport,
                limit=route.socket_message_limit,
                terms=self._terms(route),
                clock=self._clock,
                clockwork=self._clockwork,
                delay=self._delay,
                on_end=partial(self._parted, ends),
            )
            self._open[splice] = PassedOn(splice, outcome)
            self.opened += 1
            joined = True
            clean = connection.splice(splice)
            tunnel.carry(splice.upstream)
            if not clean:
                splice.end(1002, "a message came before the handshake was answered")
        finally:
            if not joined:
                tunnel.close()

    def _parted(self, ends: Callable[[], None], splice: Splice) -> None:
        socket = self._open.pop(splice)
        ends()
        self._ended(socket, socket.outcome.seconds())

    def _terms(self, route: RouteConfig) -> Terms:
        realtime = self._config
        return Terms(
            realtime.ping_interval,
            realtime.pong_timeout,
            route.socket_idle_timeout or inf,
            route.socket_lifetime or inf,
        )
