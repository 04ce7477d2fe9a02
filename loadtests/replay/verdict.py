"""What came of a replay, as one JSON object; what makes it fail; how it compares with another one. Pure.

The keys are for scripts: they stay. Times are in milliseconds. ``valid`` is false where the load's own making, and not
the server, may be what was measured; ``doubts`` says why.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from loadtests.replay.crew import Outcome
from loadtests.replay.options import Options
from loadtests.replay.tally import TIMES, Tally

__all__ = ["BadCondition", "Condition", "Verdict", "compare", "failing", "make_verdict", "read_condition"]

Verdict = dict[str, Any]
_SHARES = (50.0, 90.0, 99.0, 99.9)
_LAG = 20.0
"""Milliseconds by which a process may be late, at the 99th percentile."""
_BUSY = 0.9
"""Share of a core that a process may use."""
_SLOW = 1.5
"""Times the planned time that a run may take."""
_SKEW = -1.0
"""Milliseconds of age below which a token came before it was sent: two clocks."""
_SHORT = {"EADDRNOTAVAIL": "ports", "EMFILE": "descriptors", "ENFILE": "descriptors"}
_SECRETS = ("jwt_secret", "headers", "claims", "token_command")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "!=": operator.ne, "==": operator.eq,
}  # fmt: skip


class BadCondition(Exception):
    """A condition that can't be read, or that asks for what there is not."""


class Condition:
    """One of ``--fail-if``: ``lost>0``, ``added_p99>50ms``, ``delivered<99.9%``."""

    def __init__(self, text: str, key: str, symbol: str, limit: float, *, share: bool) -> None:
        self.text = text
        self._key = key
        self._symbol = symbol
        self._limit = limit
        self._share = share

    def holds(self, verdict: Verdict) -> bool:
        """Return whether it is so. Raises :exc:`BadCondition` for a key that a verdict does not have."""
        value = verdict.get(self._key)
        if not isinstance(value, int | float):
            raise BadCondition(
                f"{self.text!r}: a verdict has no figure {self._key!r}; see --json for those that it has"
            )
        if self._share:
            value = 100 * value / verdict["expected"] if verdict.get("expected") else 100.0
        return _OPERATORS[self._symbol](value, self._limit)


def read_condition(text: str) -> Condition:
    """Read a condition. Raises :exc:`BadCondition`."""
    match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|==|!=|>|<)\s*([0-9.]+)\s*(us|µs|ms|s|%)?\s*", text)
    try:
        if match is None:
            raise ValueError
        number = float(match[3])
    except ValueError:
        raise BadCondition(f"{text!r} is no condition: lost>0, added_p99>50ms, delivered<99.9%") from None
    unit = match[4] or ""
    return Condition(text, match[1], match[2], number * {"us": 0.001, "µs": 0.001, "s": 1000.0}.get(unit, 1.0),
                     share=unit == "%")  # fmt: skip


def make_verdict(options: Options, outcome: Outcome) -> Verdict:
    """Add up what all processes saw, and say what it is worth."""
    tally = Tally()
    for result in outcome.results:
        tally.merge(result.tally)
    doubts, warnings = _doubts(tally, outcome)
    expected = tally.delivered + tally.lost
    told = {name: value for name, value in asdict(options).items() if name not in _SECRETS and value not in (None, [])}
    return {
        "tidegate_verdict": 1,
        "valid": not doubts,
        "doubts": doubts,
        "warnings": warnings,
        **tally.summary(),
        "expected": expected,
        "delivered_share": tally.delivered / expected if expected else 1.0,
        "resumes": tally.resumes_right + tally.resumes_partial + tally.resumes_failed,
        "receipts": tally.receipts_right + tally.receipts_wrong,
        "gaps_announced": tally.gaps,
        "divergence_count": tally.divergences.total(),
        "refused": tally.refusals.total(),
        "bytes_per_message": tally.bytes_in / tally.messages if tally.messages else 0.0,
        "seconds": outcome.wall,
        "messages_per_second": tally.messages / outcome.wall if outcome.wall else 0.0,
        **_percentiles(tally),
        "close_codes": dict(tally.close_codes),
        "gap_reasons": dict(tally.gap_reasons),
        "refusals": dict(tally.refusals),
        "errors": dict(tally.errors),
        "divergences": dict(tally.divergences),
        "generator": [
            {"cpu_share": each.cpu / each.wall if each.wall else 0.0, "memory": each.memory,
             "lag_p99": each.tally.times["lag"].percentile(99) / 1000, "cut_off": each.cut_off}
            for each in outcome.results
        ],
        "servers": outcome.servers,
        "restarts": [asdict(each) for each in outcome.restarts],
        "options": told,
        **tally.as_json(),
    }  # fmt: skip


def compare(verdict: Verdict, baseline: Verdict, tolerance: float) -> list[tuple[str, float, float, bool]]:
    """Return for each figure its name, the baseline's and the new value, and whether that is worse.

    Figures that count faults are worse when they are more; times when they are more than ``tolerance`` (a share, plus
    half a millisecond) above. Throughput and the like are only told.
    """
    faults = ("lost", "doubled", "reordered", "leaked", "unfinished", "receipts_wrong", "resumes_failed",
              "resumes_partial", "gaps", "epoch_changes", "unanswered", "refused", "lost_sockets",
              "divergence_count")  # fmt: skip
    rows = [(name, _figure(baseline, name), _figure(verdict, name)) for name in faults]
    found = [(name, before, now, now > before) for name, before, now in rows]
    for name in TIMES:
        for share in ("p50", "p99"):
            key = f"{name}_{share}"
            if key in baseline and key in verdict:
                before, now = _figure(baseline, key), _figure(verdict, key)
                found.append((key, before, now, now > before * (1 + tolerance) + 0.5))
    for name in ("delivered", "messages_per_second", "bytes_per_message"):
        found.append((name, _figure(baseline, name), _figure(verdict, name), False))
    return found


def _figure(verdict: Verdict, name: str) -> float:
    value = verdict.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def _percentiles(tally: Tally) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, histogram in tally.times.items():
        if not histogram.buckets:
            continue
        for share, value in zip(_SHARES, histogram.percentiles(_SHARES), strict=True):
            found[f"{name}_p{share:g}".replace(".", "")] = value / 1000
        found[f"{name}_max"] = histogram.most / 1000
        found[f"{name}_mean"] = histogram.mean / 1000
    return found


def _doubts(tally: Tally, outcome: Outcome) -> tuple[list[str], list[str]]:
    """Return what makes the run void, and what is merely worth knowing."""
    doubts = [f"a process failed: {each}" for each in outcome.failures]
    warnings: list[str] = []
    if not tally.connected:
        doubts.append("nothing was connected")
    elif not tally.messages:
        doubts.append("nothing was received")
    if tally.doubled > 0.005 * max(1, tally.delivered):
        doubts.append("more was delivered than was sent (over 100 %)")
    for number, result in enumerate(outcome.results):
        doubts += _saturation(f"process {number}", result.cpu / max(result.wall, 1e-9), result.tally)
        if result.wall > _SLOW * result.planned + 10 and not outcome.interrupted:
            warnings.append(f"process {number} took {result.wall:.0f} s; planned were {result.planned:.0f} s")
        if result.cut_off:
            warnings.append(f"process {number} had to cut off {result.cut_off} users")
    if tally.times["added"].buckets and tally.times["added"].least / 1000 < _SKEW:
        doubts.append(f"tokens came {-tally.times['added'].least / 1000:.1f} ms before they were sent: clocks differ")
    doubts += [f"{what} ran short ({name})" for name, what in _SHORT.items() if tally.refusals.get(name)]
    if any(name.startswith("this program failed") for name in tally.divergences):
        doubts.append("this program failed: see divergences")
    warnings += [f"{each.command}: exit status {each.code}" for each in outcome.restarts if each.code]
    if outcome.interrupted:
        warnings.append("it was interrupted")
    return doubts, warnings


def _saturation(name: str, cpu: float, tally: Tally) -> Sequence[str]:
    found = []
    if cpu > _BUSY:
        found.append(f"{name} of the generator used {cpu:.0%} of its core: take more processes")
    if (lag := tally.times["lag"].percentile(99) / 1000) > _LAG:
        found.append(f"{name} of the generator was {lag:.0f} ms late at the 99th percentile: take more processes")
    return found


def failing(verdict: Mapping[str, Any], conditions: Sequence[Condition]) -> list[str]:
    """Return the conditions that hold. Raises :exc:`BadCondition`."""
    return [condition.text for condition in conditions if condition.holds(dict(verdict))]
