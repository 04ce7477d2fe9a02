"""Starting a generation: checked, recognised when it is a repetition, claimed, launched."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from time import time

import orjson

from app.auth.headers import identity_headers
from app.auth.identity import Identity
from app.config import GenerationConfig
from app.errors import BadRequest, IdempotencyConflict
from app.generations.admission import Asking
from app.generations.channels import channel_of
from app.generations.formats import format_of
from app.generations.formats.prefilled import body_again
from app.generations.formats.service_request import passed_on
from app.generations.jobs import job_source, kind_place, patience_of
from app.generations.requests import Info, StartRequest, parse_policy
from app.generations.running import Running
from app.generations.sources.failover import FailoverSource, Plan
from app.generations.sources.job import Beginning
from app.generations.sources.port import Source
from app.generations.sources.stream import Call, StreamSource
from app.generations.watch import Watch
from app.limits.shares import Caller
from app.observe.trace_context import TraceContext
from app.streams.broker import Keys, Ledger, OwnedStream
from app.streams.position import Position

__all__ = ["Starts"]

_TEXTS = frozenset({"openai-chat", "openai-responses", "anthropic", "ollama", "ollama-generate", "vercel-ai"})
"""Formats of language models."""
_JSON = ((b"content-type", b"application/json"), (b"accept-encoding", b"identity"))


class Starts:
    """Begins in ``running`` what clients ask for."""

    def __init__(self, ledger: Ledger, keys: Keys, watch: Watch, running: Running) -> None:
        self._ledger = ledger
        self._keys = keys
        self._watch = watch
        self._running = running

    async def start(self, identity: Identity, request: StartRequest) -> tuple[str, Position]:
        """As :meth:`app.generations.service.Generations.start`."""
        config = self._running.config
        kind = self._kind(request)
        body = await _body(kind, request)
        policy = parse_policy(request.on_last_disconnect or config.on_last_disconnect)
        generation_id = f"gen_{secrets.token_urlsafe(12)}"
        if request.idempotency_key is not None:
            generation_id = await self._reserve(identity, request, generation_id)
            record = await self._ledger.record(channel_of(generation_id))
            if record is not None:
                return generation_id, Position(record.epoch, 0)
        self._running.check_room(identity)
        caller = request.caller or Caller(identity)
        admission = await self._running.admissions.admit(kind.limits, request.kind, caller, Asking(body), generation_id)
        meter = admission.meter(body, texts=kind.job is None and kind.format in _TEXTS)
        try:
            trace, span = self._running.traced(request.kind, generation_id, request.trace)
            info = Info(
                generation_id,
                request.kind,
                identity.user_id,
                identity.company_id,
                kind.upstream,
                time(),
                trace=None if trace is None else trace.traceparent.decode("ascii"),
                prompt=meter.call.prompt if meter.texts else None,
                spends=admission.spends,
            )
            owned = await self._ledger.claim(channel_of(generation_id), info.encode())
        except BaseException:
            meter.settle()
            raise
        if not isinstance(owned, OwnedStream):
            meter.settle()  # Its repetition was faster.
            return generation_id, Position(owned.epoch, 0)
        patience = patience_of(kind)
        if kind.failover != "off":
            patience = replace(patience, first_event=patience.total)  # The source has one for each upstream.
        relay = self._running.launch(
            owned,
            info,
            self._source(request, kind, body, generation_id, identity, trace),
            patience,
            max_bytes=kind.max_bytes,
            meter=meter,
            drain=kind.drain_after_cancel,
            span=span,
            attachments=request.attachments,
        )
        if policy.cancel_after is not None:
            self._watch.add(relay, policy.cancel_after, attended=request.attended)
        return generation_id, Position(owned.epoch, 0)

    def _kind(self, request: StartRequest) -> GenerationConfig:
        kinds = self._running.config.kinds
        kind = kinds.get(request.kind)
        if kind is None:
            known = ", ".join(sorted(kinds)) or "none"
            raise BadRequest(f"kind {request.kind[:64]!r} is not served here. Served: {known}.")
        if request.upstream is not None and request.upstream != kind.upstream:
            raise BadRequest(f"upstream {request.upstream[:64]!r} does not serve kind {request.kind!r}.")
        if request.origin is not None and kind.job is None and kind.format != "json-lines":
            raise BadRequest(f"kind {request.kind!r} takes no files of another generation.")
        return kind

    async def _reserve(self, identity: Identity, request: StartRequest, generation_id: str) -> str:
        """Return the id that stands for the request's idempotency key: ``generation_id``, or an earlier one."""
        if identity.anonymous:
            raise BadRequest("idempotency_key needs a signed-in user: it is remembered for him alone.")
        key = orjson.dumps([identity.user_id, identity.company_id, request.idempotency_key]).decode()
        digest = await request.digest()
        config = self._running.config
        ttl = config.retention + config.kinds[request.kind].total_timeout
        standing = await self._keys.reserve(f"start:{key}", generation_id.encode() + b" " + digest, ttl)
        if standing is None:
            return generation_id
        earlier, _, asked = standing.partition(b" ")
        if asked != digest:
            raise IdempotencyConflict
        return earlier.decode()

    def _source(
        self,
        request: StartRequest,
        kind: GenerationConfig,
        body: bytes,
        generation_id: str,
        identity: Identity,
        trace: TraceContext | None,
    ) -> Source:
        """Return what asks the upstream, who is told whose it is, as by the proxy, and under which id to report."""
        headers = ((b"x-generation-id", generation_id.encode()), *identity_headers(identity))
        if trace is not None:
            headers = (*headers, (b"traceparent", trace.traceparent))
            if trace.state:
                headers = (*headers, (b"tracestate", trace.state))
        if kind.job is not None:
            place = kind_place(request.kind, kind)
            beginning = Beginning(kind.path_or_default, (*_JSON, *headers), body)
            begun = partial(self._running.enter, place, generation_id)
            return job_source(place, identity, generation_id, beginning=beginning, begun=begun)
        call = _call(kind, headers, kind.upstream, body)
        if kind.failover == "off":
            return StreamSource(call)

        def again(upstream: str, prefix: str) -> Call:
            return _call(kind, headers, upstream, body_again(kind, request.input, upstream, prefix))

        return FailoverSource(call, Plan(kind.failover, kind.failover_to, kind.failover_attempts, again))


def _call(kind: GenerationConfig, headers: tuple[tuple[bytes, bytes], ...], upstream: str, body: bytes) -> Call:
    wire = format_of(kind.format_at(upstream), kind.fields)
    return Call(upstream, kind.path_at(upstream), (*wire.headers, *headers), body, wire, patience_of(kind))


async def _body(kind: GenerationConfig, request: StartRequest) -> bytes:
    """Return the body of the upstream's request, with its files' marks. Raises :exc:`~app.errors.BadRequest`."""
    if kind.job is None:
        return format_of(kind.format, kind.fields).request_body(request.input, kind.model)
    body = passed_on({**request.input, **kind.preset}, kind.model)
    if request.attachments is None or kind.job.source != "websocket":
        return body
    whole = request.attachments.spliced(body)  # It is one message, and those are sent whole.
    return whole if isinstance(whole, bytes) else b"".join([piece async for piece in whole])
