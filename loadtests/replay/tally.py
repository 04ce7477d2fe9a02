"""What a process of virtual users has seen: counters, histograms and a series of seconds. They add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from loadtests.replay.histogram import Histogram

__all__ = ["KINDS", "TIMES", "Tally"]

TIMES = ("connect", "subscribe", "reply", "first_token", "inter_token", "added", "reconnect", "rest", "lag")
"""Microseconds each. ``added``: from the producer's writing of a token to its arrival here. ``lag``: by how much the
process itself was late."""
_STALL = 250_000
KINDS = 50
"""Different descriptions of one sort that are kept; a hostile server can invent any number."""
_SERIES = ("messages", "tokens", "open", "drops", "resumes", "lost", "cpu")


@dataclass(slots=True)
class Tally:
    """Plain numbers unless said otherwise."""

    second: int = 0
    """The run's present second, which the process keeps."""
    users: int = 0
    finished_users: int = 0
    connected: int = 0
    """Sockets that were opened and signed in, reconnects included."""
    open: int = 0
    """Sockets that are open now."""
    messages: int = 0
    """Received; a frame of the Centrifuge protocol can hold several."""
    bytes_in: int = 0
    bytes_out: int = 0
    commands: int = 0
    tokens: int = 0
    """Events with text."""
    delivered: int = 0
    """Offsets that came, each once; a merged message counts those that it stands for."""
    unnumbered: int = 0
    """Publications without an offset: of channels that keep no log."""
    replayed: int = 0
    """Of ``delivered``: what was caught up with."""
    lost: int = 0
    lost_at_end: int = 0
    """Of ``lost``: the last messages of channels, which no later one shows to be missing."""
    ends_checked: int = 0
    """Channels whose end was compared with what the server or others know of it."""
    ends_unchecked: int = 0
    doubled: int = 0
    reordered: int = 0
    leaked: int = 0
    """Messages with another user's data."""
    gaps: int = 0
    """Announced by the server."""
    gap_offsets: int = 0
    """What those gaps held, as far as it is known."""
    epoch_changes: int = 0
    """Logs that began anew without a word."""
    after_terminal: int = 0
    streams: int = 0
    completed: int = 0
    unfinished: int = 0
    """Generations without a terminal when their time was over."""
    receipts_right: int = 0
    receipts_wrong: int = 0
    receipts_unchecked: int = 0
    resumes_right: int = 0
    resumes_partial: int = 0
    resumes_failed: int = 0
    drops: int = 0
    """Sockets that this program broke."""
    lost_sockets: int = 0
    """Sockets that the server closed, or that broke."""
    stalls: int = 0
    """Pauses of more than 250 ms between two tokens of a stream."""
    refreshes: int = 0
    unanswered: int = 0
    """Commands and calls to which no answer came."""
    times: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in TIMES})
    gaps_between: list[int] = field(default_factory=list)
    """Microseconds between tokens, that are not in ``times`` yet: they are put there many at once, by :meth:`fold`."""
    ages: list[int] = field(default_factory=list)
    """The same of how old tokens were."""
    added_by_second: dict[int, Histogram] = field(default_factory=dict)
    series: dict[str, Counter[int]] = field(default_factory=lambda: {name: Counter() for name in _SERIES})
    """By the run's second. ``cpu``: microseconds of this program's processes."""
    close_codes: Counter[str] = field(default_factory=Counter)
    gap_reasons: Counter[str] = field(default_factory=Counter)
    """What the server has said of the gaps that it announced."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Connections that came to nothing, by why."""
    errors: Counter[str] = field(default_factory=Counter)
    """Error answers, by their code."""
    divergences: Counter[str] = field(default_factory=Counter)

    def note(self, name: str, what: str, count: int = 1) -> None:
        """Count a description: of ``close_codes``, ``gap_reasons``, ``refusals``, ``errors``, ``divergences``."""
        counter: Counter[str] = getattr(self, name)
        what = what[:160]
        counter[what if what in counter or len(counter) < KINDS else "others"] += count

    def fold(self) -> None:
        """Put what was gathered into the histograms. Call it every few milliseconds, and at the end."""
        if gaps := self.gaps_between:
            self.times["inter_token"].add_all(gaps)
            if max(gaps) > _STALL:
                self.stalls += sum(gap > _STALL for gap in gaps)
            gaps.clear()
        if self.ages:
            self.times["added"].add_all(self.ages)
            self.added_by_second.setdefault(self.second, Histogram()).add_all(self.ages)
            self.ages.clear()

    def merge(self, other: Tally) -> None:
        other.fold()
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if each.name in {"second", "gaps_between", "ages"}:
                continue
            if isinstance(mine, int):
                setattr(self, each.name, mine + theirs)
            elif isinstance(mine, Counter):
                mine.update(theirs)
            elif each.name == "series":
                for name, counter in theirs.items():
                    self.series[name].update(counter)
            else:
                _merge_times(mine, theirs)

    def summary(self) -> dict[str, int]:
        """Return the plain numbers."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "second"}
        return {name: value for name, value in values.items() if isinstance(value, int)}

    def as_json(self) -> dict[str, Any]:
        """Return all but the plain numbers."""
        return {
            "histograms": {name: histogram.as_json() for name, histogram in self.times.items()},
            "added_by_second": {str(at): each.as_json() for at, each in sorted(self.added_by_second.items())},
            "series": {name: {str(at): n for at, n in sorted(each.items())} for name, each in self.series.items()},
        }


def _merge_times(mine: dict[Any, Histogram], theirs: dict[Any, Histogram]) -> None:
    for name, histogram in theirs.items():
        mine.setdefault(name, Histogram()).merge(histogram)
