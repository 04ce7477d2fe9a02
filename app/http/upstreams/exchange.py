"""Sends a request until it has an answer or must not be sent any more.

Three layers, each of which the plain case passes through without a detour: *send* decides about tries one after the
other (``retries`` has the rules), *try once* finds a target that can be connected to, *ask* uses one connection. A
hedged read races two tries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.errors import (
    CircuitOpen,
    UpstreamBusy,
    UpstreamError,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from app.http.request_head import request_head
from app.http.upstream_connection import UpstreamConnection
from app.http.upstream_response import ClosedEarly, UpstreamResponse
from app.http.upstreams.hedging import Latencies
from app.http.upstreams.plan import Request
from app.http.upstreams.pool import Pool
from app.http.upstreams.retries import Budget, Failure, pause_before_retry, retry_after_seconds
from app.http.upstreams.target import Target, Ticket
from app.observe.tasks import TaskSet

__all__ = ["Exchange"]

_DEADLINE_SLACK = 0.005
"""Seconds: a loop's timer may fire so much before its time."""


class _TryFailed(Exception):
    """A try got no answer: how it went wrong, and what the client is told if there is no other."""

    def __init__(self, failure: Failure, error: UpstreamError) -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.error = error


class Exchange:
    """All requests to one upstream."""

    def __init__(self, pool: Pool, tasks: TaskSet, random: Callable[[], float]) -> None:
        retries, hedge = pool.config.retries, pool.config.hedge
        self._pool = pool
        self._config = pool.config
        self._tasks = tasks
        self._random = random
        self._retries = Budget(retries.budget_percent, retries.budget_min)
        self._hedges = Budget(hedge.budget_percent, 1.0 if hedge.budget_percent else 0.0)
        self._latencies: dict[str, Latencies] = {}
        """By route; there are as many as routes in the configuration, at most."""

    async def send(self, request: Request) -> UpstreamResponse:
        """Return the answer when its head has come. What is raised is as :meth:`HttpTransport.request` says."""
        self._retries.deposit()
        try:
            answer = await (self._race(request) if request.hedgeable else self._try_once(request))
        except _TryFailed as failed:
            return await self._send_again(request, None, failed)
        if answer.status >= 500 and answer.status in self._config.retries.statuses:
            return await self._send_again(request, answer, None)
        return answer

    # One try after the other.

    async def _send_again(
        self, request: Request, answer: UpstreamResponse | None, failed: _TryFailed | None
    ) -> UpstreamResponse:
        """Try again as often as may be. The client gets the last answer that there was, or else the last error."""
        failure = failed.failure if failed is not None else Failure.STATUS
        try:
            for retries in range(request.plan.retries):
                pause = self._pause(request, failure, retries, answer)
                if pause is None or not self._retries.withdraw(asyncio.get_running_loop().time()):
                    break
                await asyncio.sleep(pause)
                if self._pool.meter is not None:
                    self._pool.meter.retried(self._pool.name, request.plan.name, failure.value)
                try:
                    newer = await self._try_once(request)
                except _TryFailed as error:
                    failed, failure = error, error.failure
                    continue
                except UpstreamUnreachable:
                    break  # nobody is left to ask: the first failure is what there is to tell
                if answer is not None:
                    answer.abort()
                answer = newer
                if answer.status not in self._config.retries.statuses:
                    break
                failure = Failure.STATUS
        except BaseException:
            if answer is not None:
                answer.abort()
            raise
        if answer is not None:
            return answer
        assert failed is not None, "a request that is tried again failed or was answered"
        raise failed.error

    def _pause(self, request: Request, failure: Failure, retries: int, answer: UpstreamResponse | None) -> float | None:
        retry_after = None
        if failure is Failure.STATUS and answer is not None:
            values = [value for name, value in answer.headers if name == b"retry-after"]
            retry_after = retry_after_seconds(values[0]) if values else None
        return pause_before_retry(
            self._config.retries,
            failure,
            resendable=request.resendable,
            retries=retries,
            retry_after=retry_after,
            random=self._random(),
        )

    async def _try_once(self, request: Request) -> UpstreamResponse:
        """Ask the next target; if it cannot be connected to, so that nothing was sent, the one after it, and so on.

        Raises :exc:`_TryFailed`, and :exc:`~app.errors.UpstreamUnreachable` or one of its kinds when no target may be
        asked now.
        """
        pool, route = self._pool, request.plan.name
        loop = asyncio.get_running_loop()
        refused: list[Target] = []
        cause: UpstreamUnreachable | None = None
        while True:
            began = loop.time()
            if began >= pool.resolve_at:
                await pool.resolve(began)
            ticket = pool.admit(route, began, request.tried, refused)
            if not isinstance(ticket, Ticket):
                raise self._nobody(ticket, cause)
            target = ticket.target
            request.tried.append(target)
            try:
                answer = await self._ask(ticket, request)
            except UpstreamBusy as error:
                self._abandon(ticket)
                cause = cause or error
            except UpstreamUnreachable as error:
                self._failed(ticket, request, Failure.CONNECT, began)
                cause = error
            except UpstreamError as error:
                failure = self._failure(error, request)
                self._failed(ticket, request, failure, began)
                raise _TryFailed(failure, error) from error
            except asyncio.CancelledError:
                if request.deadline is not None and loop.time() >= request.deadline - _DEADLINE_SLACK:
                    self._failed(ticket, request, Failure.TIMEOUT, began)  # it was not the client who gave up
                else:
                    self._abandon(ticket)
                raise
            except BaseException:
                self._abandon(ticket)
                raise
            else:
                now = loop.time()
                pool.record(ticket, route, answer.status < 500, now)
                if pool.meter is not None:
                    pool.meter.answered(pool.name, target.label, route, answer.status, now - began)
                return answer
            refused.append(target)

    async def _ask(self, ticket: Ticket, request: Request) -> UpstreamResponse:
        """Use an idle connection or a new one. An idle one that turns out dead is replaced, once, if that is safe."""
        target, method, body = ticket.target, request.method, request.body
        length = len(body) if isinstance(body, bytes) else None
        timeout = self._config.response_timeout
        if self._config.retries.try_timeout is not None and request.resendable:
            timeout = min(timeout, self._config.retries.try_timeout)
        connection = target.take_idle(request.resendable) or await target.connect()
        while True:
            answer: UpstreamResponse | None = None
            try:
                head = request_head(
                    method, target.address, request.path, request.headers, static=self._pool.static, length=length
                )
                connection.ticket = ticket
                answer = connection.send(
                    head,
                    body,
                    head_only=method == "HEAD",
                    response_timeout=timeout,
                    idle_timeout=request.idle_timeout,
                )
                await answer.head(timeout)
                return answer
            except UpstreamInvalid:
                if not (answer is not None and _was_stale(connection, answer) and request.resendable):
                    raise
            except BaseException:
                connection.close()
                raise
            if target.idle:
                target.take_idle(True).close()  # type: ignore[union-attr]  # it may be as stale as the other
            connection = await target.connect()

    def _nobody(self, patience: float, cause: UpstreamUnreachable | None) -> Exception:
        if isinstance(cause, UpstreamBusy):
            return cause
        if cause is not None:
            return _TryFailed(Failure.CONNECT, cause)
        if not self._pool.targets:
            return _TryFailed(Failure.CONNECT, UpstreamUnreachable())
        return CircuitOpen(retry_after=patience)

    def _failure(self, error: UpstreamError, request: Request) -> Failure:
        if isinstance(error, UpstreamTimeout):
            tried = self._config.retries.try_timeout
            cut_short = tried is not None and tried < self._config.response_timeout and request.resendable
            return Failure.TRY_TIMEOUT if cut_short else Failure.TIMEOUT
        return (
            Failure.INVALID
            if isinstance(error, UpstreamInvalid) and not isinstance(error, ClosedEarly)
            else Failure.CUT
        )

    def _failed(self, ticket: Ticket, request: Request, failure: Failure, began: float) -> None:
        now = asyncio.get_running_loop().time()
        pool, route = self._pool, request.plan.name
        pool.record(ticket, route, False, now)
        if pool.meter is not None:
            pool.meter.failed(pool.name, ticket.target.label, route, failure.value, now - began)

    def _abandon(self, ticket: Ticket) -> None:
        if ticket.breaker is not None:
            ticket.breaker.abandon(ticket.epoch)

    # Two tries at once.

    async def _race(self, request: Request) -> UpstreamResponse:
        """Try; after the delay try beside it. The first good answer wins, the other is cancelled."""
        latencies = self._latencies.setdefault(request.plan.name, Latencies())
        delay = self._config.hedge.delay or latencies.p95()
        self._hedges.deposit()
        legs = [self._tasks.start(self._leg(request, latencies), "try")]
        try:
            done, pending = await asyncio.wait(legs, timeout=delay)
            hedged = not done and self._hedges.withdraw(asyncio.get_running_loop().time())
            if hedged:
                legs.append(self._tasks.start(self._leg(request, latencies), "hedge"))
                pending = set(legs)
            best = _best(legs)
            while pending and (best is None or not _good(best)):
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                best = _best(legs)
        except BaseException:
            best = None
            raise
        finally:
            for leg in legs:
                if leg is not best:
                    leg.cancel()
                    leg.add_done_callback(_drop)
        assert best is not None, "no leg is pending, so all of them have ended"
        if hedged and self._pool.meter is not None:
            self._pool.meter.hedged(self._pool.name, request.plan.name, best is legs[1])
        outcome = _outcome(best)
        if isinstance(outcome, UpstreamResponse):
            return outcome
        raise outcome

    async def _leg(self, request: Request, latencies: Latencies) -> UpstreamResponse | Exception:
        """Return what came of a try, an error as well: it is the race's, not the task's."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await self._try_once(request)
        except Exception as error:
            return error
        finally:
            latencies.add(loop.time() - began)  # of a loser as well: its answer would have come even later


_Leg = asyncio.Task[UpstreamResponse | Exception]


def _outcome(leg: _Leg) -> UpstreamResponse | Exception:
    return UpstreamTruncated() if leg.cancelled() else leg.result()  # cancelled: the gateway ends


def _good(leg: _Leg) -> bool:
    outcome = _outcome(leg)
    return isinstance(outcome, UpstreamResponse) and outcome.status < 500


def _best(legs: list[_Leg]) -> _Leg | None:
    """Return the ended leg whose outcome is best: a good answer, else any answer, else an error, else None."""
    ended = [leg for leg in legs if leg.done()]
    return max(ended, key=lambda leg: (_good(leg), isinstance(_outcome(leg), UpstreamResponse)), default=None)


def _drop(leg: _Leg) -> None:
    """Nobody reads this answer."""
    if not leg.cancelled():
        outcome = leg.result()
        if isinstance(outcome, UpstreamResponse):
            outcome.abort()


def _was_stale(connection: UpstreamConnection, answer: UpstreamResponse) -> bool:
    """Whether the upstream had closed the connection already when the request was sent."""
    return answer.received == 0 and connection.requests > 1
