"""A circuit breaker: one for each target and route. Pure.

::

              share of failures ≥ threshold                      a failure
              (of enough requests), or                   ┌────────────────────┐
              so many in a row                           ▼                    │
    CLOSED ──────────────────────────────────────────▶ OPEN ── cool-down ─▶ HALF_OPEN
      ▲                                                  ▲                    │ good answers in a row
      │                    share of failures ≥ threshold │                    ▼
      └───────── the ramp is over ─────────────────── RECOVERING ◀────────────┘

While open nothing is sent. Half open lets a few requests through at once, as probes. Recovering lets a share through
that grows from a tenth to all of them: a service that just came back must not be run over by everybody at the same
moment. Each return to OPEN from HALF_OPEN doubles the cool-down.

A failure is: no connection, no answer in time, an answer that is none or is cut off, a status of 5xx. What a client did
(a 4xx, going away) is not, nor is a request that the gateway itself refused.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

__all__ = ["MOVES", "Breaker", "BreakerRules", "BreakerState"]

_SLOTS = 10
"""The window is counted in so many parts; what is older than a window is forgotten part by part."""
_RAMP_START = 0.1
"""The share of requests that the ramp begins with: from nothing nothing could be learnt."""


class BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RECOVERING = "recovering"


MOVES: dict[BreakerState, frozenset[BreakerState]] = {
    BreakerState.CLOSED: frozenset({BreakerState.OPEN}),
    BreakerState.OPEN: frozenset({BreakerState.HALF_OPEN}),
    BreakerState.HALF_OPEN: frozenset({BreakerState.OPEN, BreakerState.RECOVERING}),
    BreakerState.RECOVERING: frozenset({BreakerState.OPEN, BreakerState.CLOSED}),
}
"""The legal moves."""


class BreakerRules(Protocol):
    """The numbers; :class:`app.config.BreakerConfig` holds them. Times are seconds."""

    @property
    def window(self) -> float: ...
    @property
    def threshold(self) -> float: ...
    @property
    def min_requests(self) -> int: ...
    @property
    def consecutive_failures(self) -> int: ...
    @property
    def cool_down(self) -> float: ...
    @property
    def max_cool_down(self) -> float: ...
    @property
    def probes(self) -> int: ...
    @property
    def ramp(self) -> float: ...


class Breaker:
    """Call :meth:`admit` before a request; if it lets it through, exactly one of :meth:`record`, :meth:`abandon`."""

    __slots__ = ("_bad", "_cool_down", "_good_probes", "_in_row", "_probing", "_rules", "_since", "_slot", "_total",
                 "_width", "epoch", "state")  # fmt: skip

    def __init__(self, rules: BreakerRules) -> None:
        self.state = BreakerState.CLOSED
        self.epoch = 0
        """How often the state has changed: an answer counts only in the epoch in which its request was admitted."""
        self._rules = rules
        self._width = rules.window / _SLOTS
        self._slot = 0
        self._total = [0] * _SLOTS
        self._bad = [0] * _SLOTS
        self._in_row = 0
        self._since = 0.0
        self._cool_down = min(rules.cool_down, rules.max_cool_down)
        self._probing = 0
        self._good_probes = 0

    def admit(self, now: float, random: float) -> bool:
        """Return whether a request may be sent. ``random`` is from 0 up to 1."""
        if self.state is BreakerState.OPEN and now >= self._since + self._cool_down:
            self._move(BreakerState.HALF_OPEN, now)
        if self.state is BreakerState.RECOVERING and now >= self._since + self._rules.ramp:
            self._cool_down = min(self._rules.cool_down, self._rules.max_cool_down)
            self._move(BreakerState.CLOSED, now)
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.HALF_OPEN:
            if self._probing >= self._rules.probes:
                return False
            self._probing += 1
            return True
        if self.state is BreakerState.RECOVERING:
            return random < max(_RAMP_START, (now - self._since) / self._rules.ramp)
        return False

    def record(self, ok: bool, now: float, epoch: int) -> bool:
        """Note how a request of ``epoch`` went; return whether the state changed."""
        if epoch != self.epoch:
            return False  # it was sent in another state: what it says is old
        if self.state is BreakerState.HALF_OPEN:
            return self._record_probe(ok, now)
        slot = int(now / self._width)
        if slot != self._slot:
            self._turn_to(slot)
        self._total[slot % _SLOTS] += 1
        if ok:
            self._in_row = 0
            return False
        self._in_row += 1
        self._bad[slot % _SLOTS] += 1
        if not self._fails_too_often():
            return False
        self._move(BreakerState.OPEN, now)
        return True

    def abandon(self, epoch: int) -> None:
        """The client went away before the answer: nothing was learnt."""
        if epoch == self.epoch and self.state is BreakerState.HALF_OPEN:
            self._probing -= 1

    def retry_after(self, now: float) -> float:
        """Return the seconds after which a request that was refused has a chance."""
        if self.state is BreakerState.OPEN:
            return max(0.0, self._since + self._cool_down - now)
        return min(1.0, self._rules.cool_down)

    def _record_probe(self, ok: bool, now: float) -> bool:
        self._probing -= 1
        if not ok:
            self._cool_down = min(self._rules.max_cool_down, self._cool_down * 2)
            self._move(BreakerState.OPEN, now)
            return True
        self._good_probes += 1
        if self._good_probes < self._rules.probes:
            return False
        self._move(BreakerState.RECOVERING, now)
        return True

    def _turn_to(self, slot: int) -> None:
        """Forget the parts of the window that have passed."""
        for passed in range(max(self._slot + 1, slot - _SLOTS + 1), slot + 1):
            self._total[passed % _SLOTS] = self._bad[passed % _SLOTS] = 0
        self._slot = slot

    def _fails_too_often(self) -> bool:
        rules = self._rules
        if 0 < rules.consecutive_failures <= self._in_row:
            return True
        total = sum(self._total)
        return total >= rules.min_requests and sum(self._bad) >= rules.threshold * total

    def _move(self, state: BreakerState, now: float) -> None:
        assert state in MOVES[self.state], f"{self.state} does not become {state}"
        self.state = state
        self.epoch += 1
        self._since = now
        self._probing = self._good_probes = self._in_row = 0
        self._total = [0] * _SLOTS
        self._bad = [0] * _SLOTS
