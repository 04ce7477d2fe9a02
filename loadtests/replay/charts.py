"""Plots as inline SVG: no script, no font, no colour of their own but the page's. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["Line", "Points", "time_chart", "value_chart"]

Points = Sequence[tuple[float, float]]
Line = tuple[str, Points]
"""A label and its points, x rising."""

_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 12, 24
_STEPS = (1, 2, 5, 10)
_TICKS = 4
_MOST_POINTS = 600
"""Of a line; more are thinned out to the highest of each group, which is the one to see."""


def time_chart(title: str, unit: str, lines: Sequence[Line]) -> str:
    """Return a plot over seconds, from zero up."""
    known = [(label, _thin(points)) for label, points in lines if points]
    if not known:
        return ""
    last = max(points[-1][0] for _, points in known)
    top = max((value for _, points in known for _, value in points), default=0.0)
    ticks = _ticks(top)
    scale = ticks[-1] or 1.0
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(at: float, value: float) -> str:
        x = _LEFT + width * (at / last if last else 0.0)
        return f"{x:.1f},{_TOP + height * (1 - value / scale):.1f}"

    marks = [_grid(_TOP + height * (1 - tick / scale), _number(tick)) for tick in ticks]
    marks += [_below(_LEFT + width * share, f"{last * share:.0f} s") for share in (0.0, 0.5, 1.0)]
    paths = []
    for number, (label, points) in enumerate(known):
        where = " ".join(place(*point) for point in points)
        paths.append(f'<polyline class="l{number}" points="{where}"><title>{escape(label)}</title></polyline>')
    return _figure(title, unit, "".join(marks + paths), [label for label, _ in known])


def value_chart(title: str, unit: str, curves: Mapping[str, Sequence[tuple[str, float]]]) -> str:
    """Return a plot of percentiles, the values on a logarithmic scale."""
    known = {name: points for name, points in curves.items() if points}
    values = [value for points in known.values() for _, value in points if value > 0]
    if not values:
        return ""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    labels = [label for label, _ in next(iter(known.values()))]

    def place(index: int, value: float) -> str:
        share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        x = _LEFT + width * index / max(1, len(labels) - 1)
        return f"{x:.1f},{_TOP + height * (1 - share):.1f}"

    decades = range(low, high + 1)
    marks = [_grid(_TOP + height * (1 - (at - low) / (high - low)), _number(10.0**at)) for at in decades]
    marks += [_below(_LEFT + width * at / max(1, len(labels) - 1), label) for at, label in enumerate(labels)]
    paths = []
    for number, (name, points) in enumerate(known.items()):
        where = " ".join(place(index, value) for index, (_, value) in enumerate(points))
        paths.append(f'<polyline class="l{number}" points="{where}"><title>{escape(name)}</title></polyline>')
    return _figure(title, unit, "".join(marks + paths), list(known))


def _figure(title: str, unit: str, inside: str, labels: Sequence[str]) -> str:
    legend = "".join(f'<span><i class="l{number}"></i>{escape(label)}</span>' for number, label in enumerate(labels))
    return (
        f'<figure><figcaption>{escape(title)} <small>{escape(unit)}</small></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{inside}</svg>'
        f'<div class="legend">{legend}</div></figure>'
    )  # fmt: skip


def _grid(y: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>'
    )


def _below(x: float, label: str) -> str:
    anchor = "start" if x <= _LEFT else "end" if x >= _WIDTH - _RIGHT - 1 else "middle"
    return f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{escape(label)}</text>'


def _ticks(top: float) -> list[float]:
    """Return round values from 0 to at least ``top``."""
    if top <= 0:
        return [0.0, 1.0]
    rough = top / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in _STEPS if each * power >= rough * 0.999)
    return [step * number for number in range(math.ceil(top / step - 1e-9) + 1)]


def _number(value: float) -> str:
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def _thin(points: Points) -> Points:
    if len(points) <= _MOST_POINTS:
        return points
    size = -(-len(points) // _MOST_POINTS)
    return [max(points[at : at + size], key=lambda point: point[1]) for at in range(0, len(points), size)]
