"""The figures that have other servers beside them, as bars: one SVG file a figure, readable on light and on dark."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from loadtests.bench.report import Figure, Row, number

__all__ = ["Bar", "Plot", "plots", "write_plots"]

_SERVERS = {"native protocol": "Tidegate, native", "Centrifuge JSON": "Tidegate, Centrifuge"}
_BASE = " (floor: without)"
"""Is in the name of a figure whose floor is what it is added to, and no server's own."""
_WIDTH, _LEFT, _RIGHT, _TOP, _LINE, _MARGIN = 760, 180, 90, 62, 26, 14
_CLIPPED = 8.0
"""So many times the gateway's own figure is the longest bar; longer ones are broken, and their number says the rest."""
_STYLE = """
.page { fill: #fff }
text { font: 13px system-ui, sans-serif; fill: #1f2937 } .title { font-weight: 600; font-size: 15px }
.unit, .value { fill: #6b7280 } .peer { fill: #9ca3af } .floor { fill: #cbd5e1 } .ours { fill: #0f766e }
.break { stroke: #fff; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117 }
  text { fill: #e5e7eb } .unit, .value { fill: #9ca3af } .peer { fill: #6b7280 } .floor { fill: #374151 }
  .ours { fill: #2dd4bf } .break { stroke: #0d1117 }
}"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One server's figure. ``kind`` is ``ours``, ``floor`` or ``peer``."""

    name: str
    value: float
    kind: str = "peer"
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure of several servers; ``more`` is better where it is a rate."""

    title: str
    unit: str
    bars: Sequence[Bar]
    more: bool = False

    @property
    def file(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") + ".svg"


def plots(rows: Iterable[Row]) -> list[Plot]:
    """Return a plot for each figure that has other servers beside it; both protocols of the gateway share one.

    One without a bar that is longer than nothing is none.
    """
    found: dict[tuple[str, str], list[Bar]] = {}
    for row in rows:
        if not row.peers:
            continue
        title, protocol = _without_protocol(row.what)
        bars = found.setdefault((title, row.unit), [])
        if not bars:
            bars += _beside(row)
        bars.append(Bar(_SERVERS.get(protocol, "Tidegate"), row.gateway, "ours", bool(row.doubts)))
    return [
        Plot(title, unit, sorted(bars, key=lambda bar: bar.value, reverse=unit == "1/s"), more=unit == "1/s")
        for (title, unit), bars in found.items()
        if len(bars) > 1 and all(math.isfinite(bar.value) for bar in bars) and any(bar.value for bar in bars)
    ]


def _beside(row: Row) -> list[Bar]:
    """Return the bars of the others that have a figure."""
    figures = [(name, figure, "peer") for name, figure in row.peers.items()]
    if row.floor is not None and _BASE not in row.what:
        figures.append(("the floor", Figure(row.floor, row.doubts), "floor"))
    return [
        Bar(name, figure.value, kind, bool(figure.doubts))
        for name, figure, kind in figures
        if figure is not None and math.isfinite(figure.value)
    ]


def write_plots(folder: Path, rows: Iterable[Row]) -> list[Plot]:
    """Write the plots of ``rows`` into ``folder``, in place of all that were there; return them."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    drawn = plots(rows)
    for plot in drawn:
        (folder / plot.file).write_text(draw(plot))
    return drawn


def draw(plot: Plot) -> str:
    """Return ``plot`` as an SVG document."""
    ours = max(bar.value for bar in plot.bars if bar.kind == "ours")
    longest = max(bar.value for bar in plot.bars)
    most = _CLIPPED * ours or longest
    scale = (_WIDTH - _LEFT - _RIGHT) / (min(longest, most) or 1)
    height = _TOP + _LINE * len(plot.bars) + 12
    doubtful = "(!) not to be relied on" if any(bar.doubtful for bar in plot.bars) else ""
    unit = ", ".join(filter(None, (plot.unit, "more is better" if plot.more else "less is better", doubtful)))
    title = escape(plot.title)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}">',
        f'<style>{_STYLE}</style><rect class="page" width="{_WIDTH}" height="{height}" rx="6"/>',
        f'<text class="title" x="{_MARGIN}" y="24">{title}</text>',
        f'<text class="unit" x="{_MARGIN}" y="46">{escape(unit)}</text>',
        *[_bar(bar, _TOP + _LINE * place, scale, most) for place, bar in enumerate(plot.bars)],
    ]
    return "\n".join([*lines, "</svg>\n"])


def _bar(bar: Bar, top: int, scale: float, most: float) -> str:
    length = max(1.0, min(bar.value, most) * scale)
    middle = top + 13
    value = number(bar.value) + (" (!)" if bar.doubtful else "")
    parts = [
        f'<text x="{_LEFT - 10}" y="{middle + 4}" text-anchor="end">{escape(bar.name)}</text>',
        f'<rect class="{bar.kind}" x="{_LEFT}" y="{top + 3}" width="{length:.1f}" height="18" rx="2"/>',
        f'<text class="value" x="{_LEFT + length + 8:.1f}" y="{middle + 4}">{value}</text>',
    ]
    if bar.value > most:
        x = _LEFT + length - 24
        parts.append(f'<path class="break" d="M{x:.1f} {top + 24} l8 -24 m6 0 l-8 24"/>')
    return "".join(parts)


def _without_protocol(what: str) -> tuple[str, str]:
    for protocol in _SERVERS:
        if f", {protocol}" in what:
            return what.replace(f", {protocol}", ""), protocol
    return what.replace(_BASE, ""), ""
