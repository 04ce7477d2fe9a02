"""The targets of one upstream: which of them there are, which get requests, and which one is next.

Availability is worked out when something changes, not for each request: a request compares the time with the moment at
which the next change is due, takes what the strategy gives it, and looks at one breaker.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import NamedTuple

import structlog

from app.config import UpstreamConfig
from app.errors import ConfigError
from app.http.request_head import Address, StaticHeaders, parse_target
from app.http.upstreams.balancing import STRATEGIES
from app.http.upstreams.breaker import Breaker, BreakerState
from app.http.upstreams.health import available, may_eject
from app.http.upstreams.meter import Meter
from app.http.upstreams.resolver import Resolve, is_address
from app.http.upstreams.target import Target, Ticket
from app.observe.tasks import TaskSet

__all__ = ["Pool"]

_NEVER = float("inf")
_RESOLVE_AGAIN = 1.0
"""Seconds after which a name that could not be looked up is tried again."""
_CLOSED = BreakerState.CLOSED
_log = structlog.get_logger(__name__)


class _Endpoint(NamedTuple):
    """One entry of ``targets``: an address, or a name that has some."""

    address: Address
    weight: int


class Pool:
    """One upstream's targets. Its methods change state and return; only :meth:`resolve` waits."""

    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        tasks: TaskSet,
        *,
        tls: ssl.SSLContext | None,
        resolve: Resolve,
        random: Callable[[], float],
        meter: Meter | None,
    ) -> None:
        """Raises :exc:`~app.errors.ConfigError` for a header that cannot be sent."""
        self.name = name
        self.config = config
        self.meter = meter
        self.targets: list[Target] = []
        self.resolve_at = _NEVER
        """When names must be looked up (seconds, monotonic)."""
        self.panic = False
        self._tasks = tasks
        self._tls = tls
        self._resolve = resolve
        self._random = random
        self._strategy = STRATEGIES[config.strategy](random)
        self._usable: list[Target] = []
        self._judge_at = _NEVER
        self._retired: list[Target] = []
        self._replaced = False
        self._resolving: asyncio.Task[None] | None = None
        secrets = {header: value.get_secret_value() for header, value in config.headers.items()}
        try:
            self.static = StaticHeaders(secrets)
            self._endpoints = [_Endpoint(parse_target(url), weight) for url, weight in config.weighted_targets()]
        except ValueError as error:
            raise ConfigError(f"upstreams.{name}: {error}") from None
        self._addresses = {end: [end.address.host] for end in self._endpoints if is_address(end.address.host)}
        if len(self._addresses) < len(self._endpoints):
            self.resolve_at = 0.0
        if self._addresses:
            self._rebuild(0.0)

    # For requests.

    def admit(self, route: str, now: float, tried: Collection[Target], without: Collection[Target]) -> Ticket | float:
        """Return the leave to ask the next target, or the seconds until there may be one.

        Targets in ``tried`` are taken only if there are no others, those in ``without`` never.
        """
        if now >= self._judge_at:
            self._judge(now)
        usable = self._usable
        if without:
            usable = [target for target in usable if target not in without]
        candidates: Sequence[Target] = usable
        if tried:
            candidates = [target for target in usable if target not in tried] or usable
        patience = 0.0 if usable else max(0.0, min(self._judge_at, now + 1.0) - now)
        while candidates:
            target = candidates[0] if len(candidates) == 1 else self._strategy.pick(candidates)
            ticket = target.ticket(route)
            breaker = ticket.breaker
            if breaker is None or breaker.state is _CLOSED:
                return ticket
            if self._admits(ticket, breaker, now):
                return target.ticket(route)
            wait = breaker.retry_after(now)
            patience = min(patience, wait) if patience else wait
            usable = [other for other in usable if other is not target]
            candidates = [other for other in candidates if other is not target] or usable
        return patience

    def record(self, ticket: Ticket, ok: bool, now: float) -> None:
        """Note how a request went."""
        target, _, breaker, epoch = ticket
        if breaker is not None and breaker.record(ok, now, epoch):
            self._breaker_moved(ticket, breaker)
        if ok:
            target.health.failures = 0
        elif target.health.failed() and now >= target.health.until:
            self._eject(target, now)

    def probed(self, target: Target, good: bool, now: float) -> None:
        """Note what a probe found."""
        if target.health.probed(good, now):
            self._health_moved(target, "available" if good else "unhealthy")
            self._judge(now)

    # Names.

    async def resolve(self, now: float) -> None:
        """Look the names up, in the background if there are targets meanwhile."""
        if self._resolving is None:
            self._resolving = self._tasks.start(self._look_up(), f"names of upstream {self.name}")
            self._resolving.add_done_callback(self._resolved)
        if not self.targets:
            await asyncio.shield(self._resolving)

    # Ending.

    def retire(self) -> None:
        """Another configuration has taken the place of this one: keep no connection beyond its request."""
        self._replaced = True
        for target in self.targets:
            target.retire()

    def drained(self) -> bool:
        """Return whether no socket is left."""
        return all(target.detached_all.is_set() and not target.open for target in (*self.targets, *self._retired))

    def close(self) -> None:
        self.resolve_at, self._usable, self._judge_at = _NEVER, [], _NEVER
        for target in (*self.targets, *self._retired):
            target.retire()
            target.close()

    async def closed(self) -> None:
        """Wait until all sockets are."""
        for target in (*self.targets, *self._retired):
            await target.detached_all.wait()

    # Inside.

    def _admits(self, ticket: Ticket, breaker: Breaker, now: float) -> bool:
        admitted = breaker.admit(now, self._random())
        if breaker.epoch != ticket.epoch:
            self._breaker_moved(ticket, breaker)
        return admitted

    def _judge(self, now: float) -> None:
        self._usable, panic = available(self.targets, now, self.config.health.panic_percent)
        ends = [target.health.until for target in self.targets if target.health.until > now]
        self._judge_at = min(ends, default=_NEVER)
        if panic != self.panic:
            self.panic = panic
            _log.warning("panic: too few healthy targets, all get requests" if panic else "panic is over",
                         upstream=self.name)  # fmt: skip

    def _eject(self, target: Target, now: float) -> None:
        ejected = sum(other.health.until > now for other in self.targets)
        if not target.retired and may_eject(ejected, len(self.targets), self.config.health.max_ejected_percent):
            target.health.eject(now)
            self._health_moved(target, "ejected")
            self._judge(now)

    def _broke(self, ticket: Ticket) -> None:
        self.record(ticket, False, monotonic())

    def _health_moved(self, target: Target, state: str) -> None:
        _log.warning("target's health", upstream=self.name, target=target.label, state=state)
        if self.meter is not None:
            self.meter.health_moved(self.name, target.label, state)

    def _breaker_moved(self, ticket: Ticket, breaker: Breaker) -> None:
        target, route, state = ticket.target, ticket.route, breaker.state.value
        _log.warning("breaker", upstream=self.name, target=target.label, route=route, state=state)
        if self.meter is not None:
            self.meter.breaker_moved(self.name, target.label, route, state)

    async def _look_up(self) -> None:
        missing = False
        for end in self._endpoints:
            host = end.address.host
            if is_address(host):
                continue
            try:
                async with asyncio.timeout(self.config.connect_timeout):
                    found = list(await self._resolve(host, end.address.port))
            except (OSError, UnicodeError) as error:  # the latter for what cannot be a name
                _log.warning("name not found", upstream=self.name, host=host, error=type(error).__name__)
                found = []
            if found:
                self._addresses[end] = found
            missing = missing or not found
        now = monotonic()
        if self.resolve_at != _NEVER:
            self.resolve_at = now + (_RESOLVE_AGAIN if missing else self.config.dns_ttl)
            self._rebuild(now)

    def _resolved(self, task: asyncio.Task[None]) -> None:
        self._resolving = None

    def _rebuild(self, now: float) -> None:
        """Keep the targets that are still there, with what is known of them; begin the new ones, retire the others."""
        before = {(target.address, target.host): target for target in self.targets}
        named: set[tuple[Address, str]] = set()
        self.targets = []
        for end in self._endpoints:
            for host in self._addresses.get(end, ()):
                if (end.address, host) not in named:
                    named.add((end.address, host))
                    target = before.pop((end.address, host), None)
                    self.targets.append(target or self._new_target(end, host))
        for target in before.values():
            target.retire()
        self._retired = [target for target in (*self._retired, *before.values()) if not target.detached_all.is_set()]
        self._judge(now)

    def _new_target(self, end: _Endpoint, host: str) -> Target:
        target = Target(
            end.address, host, self.config, self._tasks, self._tls, weight=end.weight, broke=self._broke
        )  # fmt: skip
        if self._replaced:
            target.retire()
        return target
