"""Whether a target gets requests: what probes found (active) and what its answers were (passive). Pure.

A target is *available* when its probes are good and it is not ejected. Probes have thresholds both ways, so that one
lost packet changes nothing. Ejection (after failures in a row) has a back-off: the n-th in a row lasts n times as long,
up to a longest; each such time spent healthy takes one off n. No more than a share of the targets is ejected
at once, but one of several always may be. If too few targets are left, health is not believed any more (*panic*): what
looks like many dead targets is then more likely a fault that they share, and the few left would be run over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

__all__ = ["HealthRules", "Judged", "TargetHealth", "available", "may_eject"]


class HealthRules(Protocol):
    """The numbers; :class:`app.config.HealthConfig` holds them. Times are seconds."""

    @property
    def healthy_after(self) -> int: ...
    @property
    def unhealthy_after(self) -> int: ...
    @property
    def consecutive_failures(self) -> int: ...
    @property
    def ejection_time(self) -> float: ...
    @property
    def max_ejection_time(self) -> float: ...


class TargetHealth:
    """What is known of one target. A new one is believed to be well."""

    __slots__ = ("_ejections", "_probes", "_rules", "failures", "passing", "until")

    def __init__(self, rules: HealthRules) -> None:
        self.failures = 0
        """Failed requests in a row: a good answer sets it to 0."""
        self.passing = True
        """What the probes say."""
        self.until = 0.0
        """The end of the last ejection, in seconds of the caller's clock."""
        self._rules = rules
        self._ejections = 0
        self._probes = 0
        """Probes in a row that said the opposite of ``passing``."""

    def available(self, now: float) -> bool:
        return self.passing and now >= self.until

    def failed(self) -> bool:
        """Note a failed request; return whether the target should be ejected now."""
        self.failures += 1
        return 0 < self._rules.consecutive_failures <= self.failures

    def eject(self, now: float) -> None:
        """Take the target out for a time that grows with each ejection in a row."""
        assert now >= self.until, "a target that is ejected is not ejected again: its requests began before"
        rules = self._rules
        if self._ejections:
            self._ejections = max(0, self._ejections - int((now - self.until) / rules.ejection_time))
        self._ejections += 1
        self.failures = 0
        self.until = now + min(rules.max_ejection_time, rules.ejection_time * self._ejections)

    def probed(self, good: bool, now: float) -> bool:
        """Note a probe's result; return whether that changed anything. A good one that counts ends an ejection, too."""
        if good and now < self.until and self.passing:
            self._probes += 1
            if self._probes < self._rules.healthy_after:
                return False
            self._probes, self.until, self.failures = 0, now, 0
            return True
        if good == self.passing:
            self._probes = 0
            return False
        self._probes += 1
        if self._probes < (self._rules.healthy_after if good else self._rules.unhealthy_after):
            return False
        self._probes, self.passing = 0, good
        if good:
            self.until, self.failures = min(self.until, now), 0
        return True


class Judged(Protocol):
    """Something that has a health."""

    @property
    def health(self) -> TargetHealth: ...


T = TypeVar("T", bound=Judged)


def may_eject(ejected: int, total: int, max_percent: int) -> bool:
    """Return whether one more of ``total`` targets may be ejected when ``ejected`` are already.

    The only target never is: there is no better one. One of several always may be (0 percent forbids it).
    """
    if total < 2 or max_percent == 0:
        return False
    return ejected == 0 or (ejected + 1) * 100 <= total * max_percent


def available(targets: Sequence[T], now: float, panic_percent: int) -> tuple[list[T], bool]:
    """Return the targets that get requests, and whether health was left out of account (panic)."""
    healthy = [target for target in targets if target.health.available(now)]
    if len(healthy) * 100 < len(targets) * panic_percent:
        return list(targets), True
    return healthy, False
