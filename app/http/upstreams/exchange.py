"""Sends a request until it has an answer or must not be sent any more.

Three layers, each of which the plain case passes through without a detour: *send* decides about tries one after the
other (``retries`` has the rules), *try once* finds a target that can be connected to, an *attempt* uses one connection.
A hedged read races two tries. The plainest case needs none of them to wait: *begin* has it sent, and *answered* notes
that it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from app.errors import (
    CircuitOpen,
    NotImplementedHere,
    UpstreamBusy,
    UpstreamDown,
    UpstreamError,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from app.http.upstream_response import ClosedEarly, UpstreamResponse
from app.http.upstreams.attempt import Attempt
from app.http.upstreams.hedging import Latencies
from app.http.upstreams.plan import Request, plan_of
from app.http.upstreams.pool import Pool
from app.http.upstreams.racing import Outcome, race
from app.http.upstreams.retries import Budget, Failure, pause_before_retry, retry_after_seconds
from app.http.upstreams.target import Target, Ticket
from app.observe.tasks import TaskSet

__all__ = ["Exchange"]

_NOT_SET_UP = "The service that would answer this is not set up here."
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
        self.plan = plan_of(pool.config)
        """Of requests that come by no route."""
        self.idle_timeout = pool.config.idle_timeout
        self._pool = pool
        self.config = self._config = pool.config
        self.static = pool.static
        """Headers that go with every request."""
        self._timeout = pool.config.response_timeout
        self._try_timeout = min(self._timeout, retries.try_timeout or self._timeout)
        self._tasks = tasks
        self._random = random
        self._retries = Budget(retries.budget_percent, retries.budget_min)
        self._hedges = Budget(hedge.budget_percent, 1.0 if hedge.budget_percent else 0.0)
        self._latencies: dict[str, Latencies] = {}
        """By route; there are as many as routes in the configuration, at most."""

    def begin(self, request: Request) -> Attempt | None:
        """Begin to send a request, at once: hand the try on to :meth:`send`, or to :meth:`answered` if that is all.

        It has no answer to come where no connection is idle. None where nothing was done, for somebody must be waited
        for first, or nobody may be asked.
        """
        began, pool = monotonic(), self._pool
        if began >= pool.resolve_at:
            return None
        ticket = pool.admit(request.plan.name, began, (), ())
        if not isinstance(ticket, Ticket):
            return None
        self._retries.deposit()
        attempt = self._attempt(ticket, request, began)
        attempt.put(request, resendable=request.resendable)
        return attempt

    @property
    def quickest(self) -> float:
        """Seconds that the head of an answer is waited for, at least."""
        return self._try_timeout

    async def send(self, request: Request, begun: Attempt | None = None) -> UpstreamResponse:
        """Return the answer when its head has come. What is raised is as :meth:`HttpTransport.request` says.

        ``begun`` is what :meth:`begin` has returned for it.
        """
        if begun is None:
            self._retries.deposit()
        try:
            hedged = request.plan.hedge and request.hedgeable
            answer = await (self._race(request) if hedged else self._try_once(request, begun))
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
                if pause is None or not self._retries.withdraw(monotonic()):
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

    def answered(self, attempt: Attempt, request: Request, answer: UpstreamResponse) -> None:
        """Note that a try has got its answer's head."""
        now, pool, ticket = monotonic(), self._pool, attempt.ticket
        ok = answer.status < 500
        pool.record(ticket, ok, now)
        if not ok:
            request.tried += (ticket.target,)
        request.asked(ticket.target.label, now - attempt.began)
        if pool.meter is not None:
            pool.meter.answered(pool.name, ticket.target.label, request.plan.name, answer.status, now - attempt.began)

    async def _try_once(self, request: Request, attempt: Attempt | None = None) -> UpstreamResponse:
        """Ask the next target; if it cannot be connected to, so that nothing was sent, the one after it, and so on.

        Raises :exc:`_TryFailed`, and :exc:`~app.errors.UpstreamUnreachable` or one of its kinds when no target may be
        asked now.
        """
        pool = self._pool
        refused: tuple[Target, ...] = ()
        cause: UpstreamUnreachable | None = None
        while True:
            if attempt is None:
                began = monotonic()
                if began >= pool.resolve_at:
                    await pool.resolve(began)
                ticket = pool.admit(request.plan.name, began, request.tried, refused)
                if not isinstance(ticket, Ticket):
                    raise self._nobody(ticket, cause)
                attempt = self._attempt(ticket, request, began)
            try:
                answer = await attempt.ask(request, self._config, resendable=request.resendable)
            except UpstreamUnreachable as error:
                cause = self._not_asked(attempt, request, error, cause)
                refused += (attempt.ticket.target,)
                attempt = None
            except BaseException as error:
                self._note_failure(attempt, request, error)
                if not isinstance(error, UpstreamError):
                    raise
                raise _TryFailed(self._failure(error, request), error) from error
            else:
                self.answered(attempt, request, answer)
                return answer

    def _attempt(self, ticket: Ticket, request: Request, began: float) -> Attempt:
        if request.outcome is not None:
            request.outcome.attempts += 1
        if request.plan.hedge:
            request.tried += (ticket.target,)  # already: the other leg of a race must see it
        patience = self._try_timeout if request.resendable else self._timeout
        return Attempt(ticket, began, patience, self._pool.static)

    def _not_asked(
        self, attempt: Attempt, request: Request, error: UpstreamUnreachable, before: Exception | None
    ) -> UpstreamUnreachable:
        """Note that there was no connection; return what to tell the client if there is none to any other target."""
        if not isinstance(error, UpstreamBusy):
            self._failed(attempt, request, Failure.CONNECT)
            return error
        _abandon(attempt.ticket)
        return before if isinstance(before, UpstreamUnreachable) else error

    def _note_failure(self, attempt: Attempt, request: Request, error: BaseException) -> None:
        """Note a request that got no answer, unless it was the client who broke it off."""
        late = request.deadline is not None and (
            asyncio.get_running_loop().time() >= request.deadline - _DEADLINE_SLACK
        )
        if isinstance(error, UpstreamError):
            self._failed(attempt, request, self._failure(error, request))
        elif isinstance(error, asyncio.CancelledError) and late:
            self._failed(attempt, request, Failure.TIMEOUT)
        else:
            _abandon(attempt.ticket)

    def _nobody(self, patience: float, cause: UpstreamUnreachable | None) -> Exception:
        if isinstance(cause, UpstreamBusy):
            return cause
        if cause is not None:
            return _TryFailed(Failure.CONNECT, cause)
        if not self._config.targets:
            return NotImplementedHere(_NOT_SET_UP)
        if not self._pool.targets:
            down = UpstreamDown if self._config.unreachable_status == 503 else UpstreamUnreachable
            return _TryFailed(Failure.CONNECT, down())
        return CircuitOpen(retry_after=patience)

    def _failure(self, error: UpstreamError, request: Request) -> Failure:
        if isinstance(error, UpstreamTimeout):
            cut_short = self._try_timeout < self._timeout and request.resendable
            return Failure.TRY_TIMEOUT if cut_short else Failure.TIMEOUT
        return (
            Failure.INVALID
            if isinstance(error, UpstreamInvalid) and not isinstance(error, ClosedEarly)
            else Failure.CUT
        )

    def _failed(self, attempt: Attempt, request: Request, failure: Failure) -> None:
        now, ticket, began = monotonic(), attempt.ticket, attempt.began
        pool, route = self._pool, request.plan.name
        request.tried += (ticket.target,)
        pool.record(ticket, False, now)
        request.asked(ticket.target.label, now - began)
        if pool.meter is not None:
            pool.meter.failed(pool.name, ticket.target.label, route, failure.value, now - began)

    # Two tries at once.

    async def _race(self, request: Request) -> UpstreamResponse:
        latencies = self._latencies.setdefault(request.plan.name, Latencies())
        self._hedges.deposit()
        outcome, hedge_won = await race(
            lambda: self._tasks.start(self._leg(request, latencies), "try"),
            self._config.hedge.delay or latencies.p95(),
            lambda: self._hedges.withdraw(monotonic()),
        )
        if hedge_won is not None and self._pool.meter is not None:
            self._pool.meter.hedged(self._pool.name, request.plan.name, hedge_won)
        if isinstance(outcome, UpstreamResponse):
            return outcome
        raise outcome

    async def _leg(self, request: Request, latencies: Latencies) -> Outcome:
        """Return what came of a try, an error as well: it is the race's, not the task's."""
        began = monotonic()
        try:
            return await self._try_once(request)
        except Exception as error:
            return error
        finally:
            latencies.add(monotonic() - began)  # of a loser as well: its answer would have come even later


def _abandon(ticket: Ticket) -> None:
    """A request says nothing about its target: the client broke it off, or it was never sent."""
    if ticket.breaker is not None:
        ticket.breaker.abandon(ticket.epoch)
