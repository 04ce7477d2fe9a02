"""The table: one row a figure, gateway beside floor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

__all__ = ["Figure", "Limit", "Row", "number", "pair", "table", "typical", "write_between"]

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
_REASONS = 3
"""So many are written down of why a scenario's figures are doubtful."""
_HEADS = ("what", "gateway", "floor", "ratio", "target", "met", "rounds")


@dataclass(frozen=True, slots=True)
class Figure:
    """What one round gave, and why it may be wrong."""

    value: float
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limit:
    """A target: at most, or ``least``, so many times the floor, or so much, which may have a ``name``."""

    value: float
    times_floor: bool = False
    name: str = ""
    least: bool = False

    @property
    def sign(self) -> str:
        return "≥" if self.least else "≤"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``floor`` and ``ratio`` are None where there is nothing to compare with."""

    what: str
    unit: str
    gateway: float
    floor: float | None = None
    ratio: float | None = None
    limit: Limit | None = None
    doubts: tuple[str, ...] = ()
    rounds: str = "1 of 1"
    """How many rounds were sound, so that the figures are theirs."""
    peers: Mapping[str, Figure | None] = field(default_factory=dict)
    """What other servers came to, by their names; None: it is not there."""

    def beside(self, peers: Mapping[str, Sequence[Figure]]) -> Row:
        """Return this row with the rounds of other servers beside it; one without rounds is not there."""
        return replace(self, peers={name: typical(figures) for name, figures in peers.items()})

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None when there is none, or nothing to compare with."""
        if self.limit is None:
            return None
        value = self.ratio if self.limit.times_floor else self.gateway
        if value is None:
            return None
        return value >= self.limit.value if self.limit.least else value <= self.limit.value


def pair(what: str, unit: str, gateway: Sequence[Figure], floor: Sequence[Figure], limit: Limit | None = None) -> Row:
    """Return the row of a figure from the rounds of both. The ratio is the median of the rounds' own ratios.

    Rounds in which either side is doubtful are left out. When no other is left they count, with their doubts.
    """
    rounds = list(zip(gateway, floor, strict=True))
    sound = [(ours, theirs) for ours, theirs in rounds if not (ours.doubts or theirs.doubts)]
    used = sound or rounds
    ratios = [ours.value / theirs.value for ours, theirs in used if theirs.value]
    doubts = [] if sound else [doubt for both in rounds for one in both for doubt in one.doubts]
    return Row(
        what,
        unit,
        median(ours.value for ours, _ in used),
        median(theirs.value for _, theirs in used),
        median(ratios) if ratios else None,
        limit,
        tuple(dict.fromkeys(doubts)),
        f"{len(sound)} of {len(rounds)}",
    )


def typical(figures: Sequence[Figure]) -> Figure | None:
    """Return the median of the sound ones; of all, with their doubts, where none is sound. None without any."""
    if not figures:
        return None
    sound = [figure.value for figure in figures if not figure.doubts]
    if sound:
        return Figure(median(sound))
    doubts = dict.fromkeys(doubt for figure in figures for doubt in figure.doubts)
    return Figure(median(figure.value for figure in figures), tuple(doubts))


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown tables that can be read as they are: the gateway and its floor, and then those that
    have other servers beside them; below, what is doubtful."""
    lines = _aligned([_HEADS, *[_cells(row) for row in rows]])
    for some in _with_same_peers(rows):
        names = list(dict.fromkeys(name for row in some for name in row.peers))
        heads = ("beside other servers", "gateway", "floor", *names)
        lines += ["", *_aligned([heads, *[_beside(row, names) for row in some]])]
    if doubts := _doubts(rows):
        lines += ["", "(!) Not to be relied on, for no round was sound; whether a target is met is open:", "", *doubts]
    return "\n".join(lines)


def write_between(path: Path, text: str) -> None:
    """Put ``text`` between the markers of ``path``. Raises ``ValueError`` when it has none."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no line {BEGIN!r} with a line {END!r} after it")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def _doubts(rows: Sequence[Row]) -> list[str]:
    """Return one line for each scenario and server that has doubtful figures, with the first few reasons."""
    reasons: dict[str, tuple[str, ...]] = {}
    for row in rows:
        what = row.what.partition(":")[0]
        if row.doubts:
            reasons.setdefault(what, row.doubts)
        for name, figure in row.peers.items():
            if figure is not None and figure.doubts:
                reasons.setdefault(f"{what}, {name}", figure.doubts)
    return [
        f"- {name}: {'; '.join(some[:_REASONS])}{'; …' if len(some) > _REASONS else ''}"
        for name, some in reasons.items()
    ]


def _cells(row: Row) -> tuple[str, ...]:
    limit = row.limit
    target = ""
    if limit is not None:
        target = limit.name or (f"{limit.value:g} × floor" if limit.times_floor else f"{limit.value:.3g}")
        target = f"{limit.sign} {target}"
    met = "" if limit is None else "?" if row.doubts or row.met is None else "yes" if row.met else "no"
    return (
        f"{row.what}, {row.unit}".rstrip(", ") + (" (!)" if row.doubts else ""),
        number(row.gateway),
        "" if row.floor is None else number(row.floor),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        target,
        met,
        row.rounds,
    )


def _with_same_peers(rows: Sequence[Row]) -> list[list[Row]]:
    """Return those that have other servers beside them, together where they share any."""
    groups: list[list[Row]] = []
    for row in filter(lambda row: row.peers, rows):
        for group in groups:
            if any(row.peers.keys() & other.peers.keys() for other in group):
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def _beside(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    """Return the cells of a row with a figure of each of ``names``: empty where it has no part, a dash where it is not
    installed."""
    cells = []
    for name in names:
        figure = row.peers.get(name)
        told = "" if name not in row.peers else "–"
        cells.append(told if figure is None else number(figure.value) + (" (!)" if figure.doubts else ""))
    return (*_cells(row)[:3], *cells)


def _aligned(cells: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
             for line in cells]  # fmt: skip
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines


def number(value: float) -> str:
    """Return three figures of ``value``, or all of a large one; a question mark for what is none."""
    if not math.isfinite(value):
        return "?"
    if value == 0 or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"
