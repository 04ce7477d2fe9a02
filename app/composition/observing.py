"""Who is told of what ends: the figures and the access log."""

from __future__ import annotations

import asyncio
from functools import partial
from time import time_ns

from app.composition.measures import Tallies
from app.config import Config
from app.generations.channels import channel_of
from app.http.sockets.proxy import PassedOn
from app.observe.access_log import AccessLog
from app.observe.lines import Lines
from app.observe.outcomes import Ended, GenerationOutcome, GenerationOutcomes, Outcome, Outcomes
from app.observe.tracing import PUBLISH, Tracing, create_tracing
from app.ws.session import Session

__all__ = ["Observing"]


class Observing:
    """Made before the parts that tell it. Close it after them."""

    def __init__(self, config: Config, node: str, version: str) -> None:
        """Raises :exc:`~app.errors.ConfigError` where spans are wanted and their extra is missing."""
        self.tracing = create_tracing(config.tracing, version, node)
        server = config.server
        self.tallies = Tallies()
        self.lines = Lines()
        writes = server.log_level in ("debug", "info")
        self._log = AccessLog(server.access_log, server.log_format, self.lines) if writes else None
        self.outcomes = Outcomes(self.tallies.request)
        """Are told of requests that are passed on."""
        self.own = Outcomes(self.tallies.request)
        """Are told of the gateway's own."""
        self.generations = GenerationOutcomes(self.tallies.generation)
        if self._log is not None:
            self.outcomes.listen(self._log.request)
            self.own.listen(self._log.request)
            self.generations.listen(self._log.generation)
        if self.tracing is not None:
            self.outcomes.listen(_trace_request)
            self.own.listen(_trace_request)
            self.generations.listen(partial(_trace_generation, self.tracing))

    def socket_ended(self, protocol: str, session: Session, seconds: float) -> None:
        """A session is over."""
        if self._log is None:
            return
        account, identity = session.account, session.identity
        self._log.socket(
            protocol,
            account.code,
            by_client=account.by_client,
            seconds=seconds,
            connection_id=session.protocol.connection_id,
            received_frames=account.received_frames,
            received=account.received_bytes,
            sent_frames=account.sent_frames,
            sent=account.sent_bytes + account.delivered_bytes,
            client=account.client,
            user_id=identity.user_id,
            company_id=identity.company_id,
            request_id=account.request_id.decode("ascii"),
            trace_id=account.trace_id,
        )

    def passed_on_ended(self, socket: PassedOn, seconds: float) -> None:
        """A socket of a route is over."""
        code, by_client = socket.splice.ending or (1006, False)
        self.tallies.sockets.closed("passed_on", code, by_client=by_client, seconds=seconds)
        if self._log is None:
            return
        outcome, splice = socket.outcome, socket.splice
        self._log.socket(
            "passed_on",
            code,
            by_client=by_client,
            seconds=seconds,
            path=outcome.path,
            route=outcome.label,
            upstream=outcome.route.upstream,
            target=outcome.target,
            received=splice.client.received,
            sent=splice.upstream.received,
            client=outcome.context.client,
            user_id=outcome.user_id,
            company_id=outcome.company_id,
            request_id=outcome.context.id.decode("ascii"),
            trace_id=outcome.context.trace.trace_id,
        )

    async def close(self) -> None:
        """Write and send what waits."""
        self.lines.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)


def _trace_request(outcome: Outcome) -> None:
    """Write into a request's span what came of it; who began it ends it."""
    span = outcome.context.span
    if span is None:
        return
    span.rename(f"{outcome.method} {outcome.label}")
    span.note({"http.route": outcome.label, "http.response.status_code": outcome.status})
    if outcome.attempts:
        span.note(
            {
                "tidegate.upstream": outcome.route.upstream,
                "tidegate.attempts": outcome.attempts,
                "tidegate.head_seconds": outcome.head_seconds,
            }
        )
    if outcome.error or outcome.ended is Ended.GATEWAY:
        span.fail(outcome.error or outcome.ended.value)


def _trace_generation(tracing: Tracing, outcome: GenerationOutcome) -> None:
    """End a generation's span; below it is one of its publishing, from its first message to its last."""
    span = outcome.span
    if span is None:
        return
    if outcome.first_seconds is not None:
        began = time_ns() - round(max(0.0, outcome.seconds - outcome.first_seconds) * 1e9)
        published = tracing.begin(f"publish {outcome.kind}", span.trace, "producer", began=began)
        if published is not None:
            published.note({**PUBLISH, "messaging.destination.name": channel_of(outcome.id)})
            published.end()
    span.note({"tidegate.terminal": outcome.terminal, "tidegate.upstream": outcome.upstream})
    if outcome.completion_tokens is not None:
        span.note({"gen_ai.usage.output_tokens": outcome.completion_tokens})
    if outcome.first_seconds is not None:
        span.note({"tidegate.first_seconds": outcome.first_seconds})
    if outcome.code:
        span.fail(outcome.code)
    span.end()
