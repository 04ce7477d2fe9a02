"""The HTTP/1.1 client of the data plane: pooled connections to the configured upstreams.

Why our own: it sends what it is told and nothing twice that must not be (G10), streams both ways with back-pressure,
frees a connection the moment its request is cancelled, and costs a few microseconds per chunk (RFC 9112). What is
sent again, where to and how often is decided in ``app.http.upstreams``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from random import random as random_number
from time import monotonic
from typing import Any

from app.config import RouteConfig, UpstreamConfig
from app.http.sockets.dial import UpstreamSocket, dial
from app.http.upstream_response import UpstreamResponse
from app.http.upstreams.breaker import BreakerState
from app.http.upstreams.checker import check_regularly, is_well
from app.http.upstreams.deadline import in_time
from app.http.upstreams.exchange import Exchange
from app.http.upstreams.fetching import Fetched, fetch
from app.http.upstreams.kafka.answer import KafkaAnswer
from app.http.upstreams.kafka.exchange import KafkaExchange
from app.http.upstreams.meter import Meter
from app.http.upstreams.plan import Plan, Request, plan_of
from app.http.upstreams.pool import Pool
from app.http.upstreams.resolver import Resolve, resolve
from app.http.upstreams.tls import client_context
from app.observe.outcomes import Outcome
from app.observe.tasks import TaskSet

__all__ = ["HttpTransport"]


class HttpTransport:
    """Sends requests to named upstreams. Satisfies :class:`app.generations.sources.port.Transport`."""

    def __init__(
        self,
        upstreams: Mapping[str, UpstreamConfig],
        *,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = resolve,
        random: Callable[[], float] = random_number,
        meter: Meter | None = None,
    ) -> None:
        """``tls`` replaces the contexts that the configuration describes.

        Raises :exc:`~app.errors.ConfigError` for a header that cannot be sent and for TLS files that cannot be used.
        """
        self._tasks = TaskSet()
        self._tls = tls
        self._resolve = resolve
        self._random = random
        self._meter = meter
        self._started = False
        self._pools = {name: self._new_pool(name, config) for name, config in upstreams.items()}
        self._exchanges = {name: self._new_exchange(name, pool) for name, pool in self._pools.items()}
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._left: dict[str, Exchange | KafkaExchange] = {}
        """Of upstreams that a reload took out: requests that were on their way to one still get there."""
        self._retired: list[Pool] = []

    def start(self) -> None:
        """Begin to probe the targets of upstreams that are configured so, and to reach brokers."""
        self._started = True
        for name in self._pools:
            self._begin(name)

    def prepare(self, upstreams: Mapping[str, UpstreamConfig]) -> Callable[[], None]:
        """Return what swaps to other upstreams, at once. Raises like the constructor, before anything changes.

        An upstream whose configuration is the same keeps its connections, breakers and health. The others begin anew:
        what they had in flight, WebSockets too, ends by itself, and nothing new begins on their connections.
        """
        new = {
            name: self._new_pool(name, config)
            for name, config in upstreams.items()
            if name not in self._pools or self._pools[name].config != config
        }
        return partial(self._swap, upstreams, new)

    def plan(self, route: RouteConfig) -> Plan:
        """Return how requests of a route are sent: make it once for each route."""
        exchange = self._exchanges.get(route.upstream) or self._left[route.upstream]
        return plan_of(exchange.config, route)

    def direct(self, route: RouteConfig) -> Exchange | None:
        """Return by what requests of a route can be sent without waiting; None where that cannot be."""
        exchange = self._exchanges.get(route.upstream)
        return exchange if isinstance(exchange, Exchange) else None

    def request(
        self,
        upstream: str,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | AsyncIterable[bytes] = b"",
        *,
        idle_timeout: float | None = None,
        timeout: float | None = None,
        plan: Plan | None = None,
        upgrade: bool = False,
        outcome: Outcome | None = None,
    ) -> Coroutine[Any, Any, UpstreamResponse | KafkaAnswer]:
        """Send and return when the answer's head has come. Cancelling the call closes the connection.

        ``path`` holds the query too and is appended to the target's own. The upstream's own headers replace those of
        the same name; Host and framing are always ours: a Content-Length for bytes and for what has a ``length``,
        chunks for all else. What a body raises is raised here or by ``read()``. ``idle_timeout`` (seconds) overrides
        the upstream's, ``timeout`` (seconds to the head, with all tries) the plan's. ``upgrade`` asks for a WebSocket:
        the answer may be 101 with a ``tunnel``, which is then the caller's to close. ``outcome`` learns who was asked
        and how long it took.

        Raises :exc:`~app.errors.UpstreamUnreachable` (its kinds: :exc:`~app.errors.UpstreamBusy` when all targets have
        ``max_connections``, :exc:`~app.errors.CircuitOpen` when all breakers are open),
        :exc:`~app.errors.UpstreamTimeout`, :exc:`~app.errors.UpstreamInvalid`;
        :exc:`~app.errors.NotImplementedHere` for an optional upstream without targets; :exc:`KeyError` for an unknown
        upstream, :exc:`ValueError` for headers that cannot be sent.
        """
        exchange = self._exchanges.get(upstream) or self._left[upstream]
        plan = plan or exchange.plan
        idle = exchange.idle_timeout if idle_timeout is None else idle_timeout
        within = plan.timeout if timeout is None else timeout
        if within is None:
            return exchange.send(
                Request(plan, method, path, headers, body, idle, None, upgrade=upgrade, outcome=outcome)
            )
        deadline = asyncio.get_running_loop().time() + within
        request = Request(plan, method, path, headers, body, idle, deadline, upgrade=upgrade, outcome=outcome)
        return in_time(exchange.send(request), deadline)

    async def connect(
        self,
        upstream: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        max_size: int,
        idle_timeout: float,
        timeout: float,  # noqa: ASYNC109
    ) -> UpstreamSocket:
        """As :meth:`app.generations.sources.port.Transport.connect`."""
        return await dial(
            self.request, upstream, path, headers, max_size=max_size, idle_timeout=idle_timeout, timeout=timeout
        )

    async def probe(self, upstream: str, within: float) -> bool:
        """Return whether any target answers its ``health_path`` with less than 500 within ``within`` seconds.

        A 404 counts as up: a service without that path is there all the same. True without asking if the upstream has
        no ``health_path``.
        """
        pool, exchange = self._pools[upstream], self._exchanges[upstream]
        if isinstance(exchange, KafkaExchange):
            return await exchange.probe(within)
        if not pool.config.health_path:
            return True
        try:
            async with asyncio.timeout(within):
                now = monotonic()
                if now >= pool.resolve_at:
                    await pool.resolve(now)
        except TimeoutError:
            return False
        results = await asyncio.gather(*(is_well(pool, target, within) for target in pool.targets))
        return any(result is not False for result in results)

    async def fetch(self, upstream: str, path: str, *, etag: bytes, within: float, limit: int) -> Fetched | None:
        """As :func:`app.http.upstreams.fetching.fetch`; None also for an upstream that is not there any more."""
        pool = self._pools.get(upstream)
        return None if pool is None else await fetch(pool, path, etag=etag, within=within, limit=limit)

    def connections(self, upstream: str) -> tuple[int, int]:
        """Return how many connections to the upstream are open (or being opened), and how many of them are idle."""
        targets = self._pools[upstream].targets
        return sum(len(target.open) for target in targets), sum(len(target.idle) for target in targets)

    def away(self) -> list[str]:
        """The upstreams whose broker is not reached now. Of others nobody knows before he asks."""
        exchanges = self._exchanges.items()
        return [name for name, each in exchanges if isinstance(each, KafkaExchange) and not each.connected]

    @property
    def upstreams(self) -> list[str]:
        """The names that there are now."""
        return list(self._pools)

    def upstreams_over_kafka(self) -> list[str]:
        """Those of them that are reached over topics."""
        return [name for name, each in self._exchanges.items() if isinstance(each, KafkaExchange)]

    def figures(self, upstream: str) -> dict[str, int | bool]:
        """Return how many targets there are and are available, whether there is panic, and how many breakers are not
        closed."""
        pool, exchange = self._pools[upstream], self._exchanges[upstream]
        if isinstance(exchange, KafkaExchange):
            return exchange.figures()
        now = monotonic()
        breakers = [ticket.breaker for target in pool.targets for ticket in target.tickets.values()]
        return {
            "targets": len(pool.targets),
            "available": sum(target.health.available(now) for target in pool.targets),
            "panic": pool.panic,
            "breakers_open": sum(
                breaker is not None and breaker.state is not BreakerState.CLOSED for breaker in breakers
            ),
        }

    def gauges(self, upstream: str) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many targets are in which state, and how many connections."""
        exchange = self._exchanges[upstream]
        if isinstance(exchange, KafkaExchange):
            up = exchange.connected
            return {"available": int(up), "ejected": 0, "unhealthy": int(not up)}, {
                "busy": exchange.outstanding,
                "idle": 0,
            }
        targets, now = self._pools[upstream].targets, monotonic()
        available = sum(target.health.available(now) for target in targets)
        unhealthy = sum(not target.health.passing for target in targets)
        ejected = len(targets) - available - unhealthy
        busy, idle = sum(target.active for target in targets), sum(len(target.idle) for target in targets)
        return {"available": available, "ejected": ejected, "unhealthy": unhealthy}, {"busy": busy, "idle": idle}

    async def close(self) -> None:
        """Abort what is in flight (its readers get :exc:`~app.errors.UpstreamTruncated`) and close all sockets."""
        for exchange in (*self._exchanges.values(), *self._left.values()):
            if isinstance(exchange, KafkaExchange):
                await exchange.close()
        pools = [*self._pools.values(), *self._retired]
        for pool in pools:
            pool.close()
        await self._tasks.close()
        for pool in pools:
            await pool.closed()

    def _new_pool(self, name: str, config: UpstreamConfig) -> Pool:
        return Pool(
            name,
            config,
            self._tasks,
            tls=self._tls or client_context(name, config),
            resolve=self._resolve,
            random=self._random,
            meter=self._meter,
        )

    def _swap(self, upstreams: Mapping[str, UpstreamConfig], new: Mapping[str, Pool]) -> None:
        before, exchanges = self._pools, self._exchanges
        self._pools = {name: new.get(name) or before[name] for name in upstreams}
        self._exchanges = {
            name: self._new_exchange(name, pool) if name in new else exchanges[name]
            for name, pool in self._pools.items()
        }
        for name, pool in before.items():
            if self._pools.get(name) is pool:
                continue
            pool.retire()
            self._retired.append(pool)
            if name in self._probes:
                self._probes.pop(name).cancel()
            exchange = exchanges[name]
            if isinstance(exchange, KafkaExchange):
                self._tasks.start(exchange.retire(), "the end of an upstream over kafka")
            if name not in self._pools:
                self._left[name] = exchange
        self._retired = [pool for pool in self._retired if not pool.drained()]
        self._left = {name: exchange for name, exchange in self._left.items() if name not in self._pools}
        if self._started:
            for name in new:
                self._begin(name)

    def _new_exchange(self, name: str, pool: Pool) -> Exchange | KafkaExchange:
        if pool.config.over_kafka:
            return KafkaExchange(name, pool.config, self._tasks, self._random, self._meter)
        return Exchange(pool, self._tasks, self._random)

    def _begin(self, name: str) -> None:
        pool, exchange = self._pools[name], self._exchanges[name]
        if isinstance(exchange, KafkaExchange):
            exchange.start()
        elif pool.config.health.interval > 0:
            work = check_regularly(pool, self._random)
            self._probes[name] = self._tasks.start(work, f"health of upstream {name}")
