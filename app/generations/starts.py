"""Starting a generation: checked, recognised when it is a repetition, claimed, launched."""

from __future__ import annotations

import secrets
from time import time

import orjson

from app.auth.headers import identity_headers
from app.auth.identity import Identity
from app.config import GenerationConfig, GenerationsConfig
from app.errors import BadRequest, BrokerUnavailable, IdempotencyConflict, TooManyRequests
from app.generations.channels import channel_of
from app.generations.formats import Format, format_of
from app.generations.relay import Call, Relay
from app.generations.requests import Info, Policy, StartRequest, parse_policy
from app.generations.sources.port import Transport
from app.generations.watch import Watch
from app.observe.outcomes import GenerationOutcome, GenerationOutcomes
from app.observe.tasks import TaskSet
from app.streams.broker import Keys, Ledger, OwnedStream
from app.streams.position import Position

__all__ = ["Starts"]


class Starts:
    """Fills ``relays``, by stream; each leaves it when it has ended."""

    def __init__(
        self,
        config: GenerationsConfig,
        ledger: Ledger,
        keys: Keys,
        transport: Transport,
        watch: Watch,
        relays: dict[str, Relay],
        outcomes: GenerationOutcomes,
    ) -> None:
        self.config = config
        self._ledger = ledger
        self._keys = keys
        self._transport = transport
        self._watch = watch
        self._relays = relays
        self._outcomes = outcomes
        self._tasks = TaskSet()
        self._stopped = False

    async def start(self, identity: Identity, request: StartRequest) -> tuple[str, Position]:
        """As :meth:`app.generations.service.Generations.start`."""
        kind = self._kind(request)
        wire = format_of(kind.format, kind.fields)
        body = wire.request_body(request.input, kind.model)
        policy = parse_policy(request.on_last_disconnect or self.config.on_last_disconnect)
        generation_id = f"gen_{secrets.token_urlsafe(12)}"
        if request.idempotency_key is not None:
            generation_id = await self._reserve(identity, request, generation_id)
            record = await self._ledger.record(channel_of(generation_id))
            if record is not None:
                return generation_id, Position(record.epoch, 0)
        self._check_room(identity)
        info = Info(generation_id, request.kind, identity.user_id, identity.company_id, kind.upstream, time())
        owned = await self._ledger.claim(channel_of(generation_id), info.encode())
        if isinstance(owned, OwnedStream):
            relay = Relay(
                owned,
                self._ledger,
                _call(kind, wire, body, generation_id, identity),
                GenerationOutcome(generation_id, request.kind, kind.upstream, identity.user_id, identity.company_id),
                self._outcomes,
                max_bytes=kind.max_bytes or self.config.max_bytes,
            )
            self._launch(relay, policy, attended=request.attended)
        return generation_id, Position(owned.epoch, 0)

    def stop(self) -> None:
        """Start nothing any more."""
        self._stopped = True

    async def close(self) -> None:
        """Wait for the relays, which have ended or are cancelled."""
        await self._tasks.close()

    def _launch(self, relay: Relay, policy: Policy, *, attended: bool) -> None:
        stream = relay.owned.stream
        self._relays[stream] = relay
        if policy.cancel_after is not None:
            self._watch.add(relay, policy.cancel_after, attended=attended)
        task = self._tasks.start(relay.run(self._transport), f"relay {stream}")
        task.add_done_callback(lambda _: self._relays.pop(stream, None))

    def _kind(self, request: StartRequest) -> GenerationConfig:
        kind = self.config.kinds.get(request.kind)
        if kind is None:
            known = ", ".join(sorted(self.config.kinds)) or "none"
            raise BadRequest(f"kind {request.kind[:64]!r} is not served here. Served: {known}.")
        if request.upstream is not None and request.upstream != kind.upstream:
            raise BadRequest(f"upstream {request.upstream[:64]!r} does not serve kind {request.kind!r}.")
        return kind

    async def _reserve(self, identity: Identity, request: StartRequest, generation_id: str) -> str:
        """Return the id that stands for the request's idempotency key: ``generation_id``, or an earlier one."""
        if identity.anonymous:
            raise BadRequest("idempotency_key needs a signed-in user: it is remembered for him alone.")
        key = orjson.dumps([identity.user_id, identity.company_id, request.idempotency_key]).decode()
        digest = request.digest()
        ttl = self.config.retention + self.config.kinds[request.kind].total_timeout
        standing = await self._keys.reserve(f"start:{key}", generation_id.encode() + b" " + digest, ttl)
        if standing is None:
            return generation_id
        earlier, _, asked = standing.partition(b" ")
        if asked != digest:
            raise IdempotencyConflict
        return earlier.decode()

    def _check_room(self, identity: Identity) -> None:
        if self._stopped:
            raise BrokerUnavailable("This replica is going away. Connect again.")
        if len(self._relays) >= self.config.max_running:
            raise TooManyRequests("This replica runs as many generations as it may. Try again in a moment.")
        limit = self.config.max_running_per_user
        if len(self._relays) >= limit and not identity.anonymous:
            running = sum(relay.user == identity.user_id for relay in self._relays.values())
            if running >= limit:
                raise TooManyRequests(f"{running} of your generations run already. Wait for one, or cancel one.")


def _call(kind: GenerationConfig, wire: Format, body: bytes, generation_id: str, identity: Identity) -> Call:
    """Return the upstream call. The upstream is told whose it is, as by the proxy, and under which id to report."""
    return Call(
        upstream=kind.upstream,
        path=kind.path_or_default,
        headers=(*wire.headers, (b"x-generation-id", generation_id.encode()), *identity_headers(identity)),
        body=body,
        format=wire,
        first_event_timeout=kind.first_event_timeout,
        idle_timeout=kind.idle_timeout,
        total_timeout=kind.total_timeout,
    )
