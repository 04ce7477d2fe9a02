"""The scenes. Each is a function of its canvas alone, so that any band of it can be painted by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from services.image.canvas import Canvas
from services.image.noise import Field, smoothstep

__all__ = ["PAINTERS"]

_SKY, _RIDGES, _WATER, _STARS, _DETAIL = 100, 200, 300, 400, 500


def _sky(canvas: Canvas, horizon: float) -> tuple[float, float]:
    """Paint a sky with a sun and clouds down to ``horizon``; returns where the sun stands."""
    *_, light, bright = canvas.palette.colours
    canvas.fill(0.15 + 0.75 * np.clip(canvas.y / horizon, 0, 1) ** 1.4)
    where, height, size = canvas.noise.numbers(_SKY, 3)
    sun = (canvas.aspect * (0.2 + 0.6 * where), horizon * (0.35 + 0.5 * height))
    distance = canvas.away(*sun)
    canvas.glow(0.5 * np.exp(-distance * 5.0), light)
    canvas.lay(canvas.edge(distance - (0.035 + 0.04 * size)), bright)
    clouds = canvas.noise.fractal(_SKY + 10, canvas.x, canvas.y * 2.6, 3.0, canvas.detail + 1)
    canvas.lay(0.55 * smoothstep(0.52, 0.78, clouds) * (canvas.y < horizon), canvas.ramp(0.55 + clouds * 0.4))
    return sun


def _mountains(canvas: Canvas) -> None:
    first, wet, *_ = canvas.noise.numbers(_RIDGES, 3)
    horizon = 0.62 + 0.08 * first
    _sky(canvas, horizon)
    haze = np.array(canvas.palette.colours[3], np.float32)
    for index in range(5):
        near = index / 4
        base = 0.42 + 0.14 * index
        top = base + 0.1 - canvas.outline(_RIDGES + 10 * index, 1.2 + index * 0.55) * (0.34 - 0.03 * index)
        rock = canvas.noise.fractal(_DETAIL + 10 * index, canvas.x, canvas.y * 1.6, 9.0, canvas.detail)
        body = canvas.ramp(0.52 - 0.5 * near + 0.22 * (rock - 0.5))
        body += (haze - body) * (0.55 * (1.0 - near))
        snow = smoothstep(0.0, 0.09, top + 0.1 * rock - canvas.y + 0.02) * (0.75 if index < 2 else 0.0)
        body += (np.array(canvas.palette.colours[4], np.float32) - body) * snow[..., None]
        canvas.lay(canvas.edge(top - canvas.y), body)
    if wet > 0.45:
        _water(canvas, 0.86, 0.6)


def _water(canvas: Canvas, line: float, strength: float) -> None:
    depth = np.clip((canvas.y - line) / (1.0 - line), 0, 1)
    waves = canvas.noise.fractal(_WATER, canvas.x * 5.0, canvas.y * 60.0, 1.0, min(canvas.detail, 4))
    canvas.lay(strength * canvas.edge(line - canvas.y), canvas.ramp(0.62 - 0.45 * depth + 0.35 * (waves - 0.5)))


def _ocean(canvas: Canvas) -> None:
    (rough,) = canvas.noise.numbers(_WATER + 50, 1)
    horizon = 0.48
    sun_x, _ = _sky(canvas, horizon)
    depth = np.clip((canvas.y - horizon) / (1.0 - horizon), 0.0, 1.0)
    far = 1.0 / (depth + 0.08)
    warp = canvas.noise.fractal(_WATER + 20, canvas.x * far, far * 4.0, 1.0, 3)
    swell = canvas.noise.fractal(_WATER, canvas.x * far * 1.6 + warp, far * (5.0 + 6.0 * rough), 1.0, canvas.detail)
    sea = canvas.ramp(0.5 - 0.38 * depth + 0.5 * (swell - 0.5))
    canvas.lay(canvas.edge(horizon - canvas.y), sea)
    below = canvas.y > horizon
    path = np.exp(-(((canvas.x - sun_x) / (0.05 + 0.25 * depth)) ** 2)) * smoothstep(0.5, 0.72, swell) * below
    canvas.glow(0.9 * path, canvas.palette.colours[4])
    foam = smoothstep(0.66, 0.82, swell) * smoothstep(0.25, 0.9, depth)
    canvas.lay(0.7 * foam, canvas.palette.colours[4])


def _space(canvas: Canvas) -> None:
    warp = canvas.fractal(_SKY, 2.0)
    gas = canvas.noise.fractal(_SKY + 20, canvas.x + warp * 1.3, canvas.y - warp * 1.1, 1.8, canvas.detail + 1)
    thin = smoothstep(0.32, 0.85, gas)
    canvas.pixels[:] = np.array(canvas.palette.colours[0], np.float32) * 0.35
    canvas.lay(0.85 * thin, canvas.ramp(0.2 + gas * 0.9))
    for layer, scale in ((_STARS, 90.0), (_STARS + 1, 45.0)):
        _stars(canvas, layer, scale)
    across, down, size, *_ = canvas.noise.numbers(_STARS + 9, 4)
    _planet(canvas, canvas.aspect * (0.2 + 0.6 * across), 0.25 + 0.5 * down, 0.1 + 0.16 * size)


def _stars(canvas: Canvas, layer: int, scale: float) -> None:
    column, row = np.floor(canvas.x * scale), np.floor(canvas.y * scale)
    # At whole coordinates the noise is its lattice: one number for each cell.
    chance = canvas.noise.value(layer + 20, column, row)
    shift_x, shift_y = canvas.noise.value(layer + 30, column, row), canvas.noise.value(layer + 40, column, row)
    dx, dy = canvas.x * scale - column - 0.2 - 0.6 * shift_x, canvas.y * scale - row - 0.2 - 0.6 * shift_y
    width = max(0.06, canvas.texel * scale * 0.6)
    canvas.glow(np.exp(-(dx * dx + dy * dy) / width**2) * (chance > 0.8) * chance, canvas.palette.colours[4])


def _planet(canvas: Canvas, x: float, y: float, radius: float) -> None:
    u, v = (canvas.x - x) / radius, (canvas.y - y) / radius
    inside = u * u + v * v
    height = np.sqrt(np.clip(1.0 - inside, 0.0, 1.0))
    light = np.clip(-0.55 * u - 0.45 * v + 0.7 * height, 0.02, 1.0)
    bands = canvas.noise.fractal(_DETAIL, u * 0.7 + 9.0, v * 2.6 + height, 1.7, canvas.detail)
    canvas.glow(0.35 * np.exp(-8.0 * np.abs(np.sqrt(inside) - 1.0)) * (inside > 1.0), canvas.palette.colours[3])
    canvas.lay(canvas.edge((np.sqrt(inside) - 1.0) * radius), canvas.ramp(0.25 + 0.8 * bands) * light[..., None])


def _city(canvas: Canvas) -> None:
    _sky(canvas, 0.8)
    street = 0.86
    for index in range(3):
        count = 9.0 + 5.0 * index
        column = np.floor(canvas.x * count + index * 0.37)
        tall = canvas.noise.value(_RIDGES + index, column, np.full_like(column, index))
        gap = np.abs(canvas.x * count + index * 0.37 - column - 0.5)
        roof = street - (0.68 - 0.16 * index) * (0.25 + 0.75 * tall * tall)
        wall = canvas.edge(np.maximum(roof - canvas.y, (gap - 0.46) / count)) * (canvas.y < street)
        canvas.lay(wall, canvas.ramp(np.full_like(canvas.x, 0.34 - 0.14 * index) + 0.1 * (street - canvas.y)))
        _windows(canvas, wall, count * 5.0, index, column)
    _reflection(canvas, street)


def _windows(canvas: Canvas, wall: Field, density: float, layer: int, column: Field) -> None:
    cx, cy = np.floor(canvas.x * density), np.floor(canvas.y * density * 0.8)
    lit = canvas.noise.value(_DETAIL + layer, cx, cy)
    u, v = canvas.x * density - cx, canvas.y * density * 0.8 - cy
    pane = (np.abs(u - 0.5) < 0.26) & (np.abs(v - 0.5) < 0.3)
    kind = canvas.noise.value(_DETAIL + 60 + layer, column, column)
    canvas.lay(0.9 * wall * pane * (lit > 0.62), canvas.ramp(0.6 + 0.4 * kind))
    canvas.glow(0.12 * wall * smoothstep(0.55, 0.8, lit), canvas.palette.colours[2])


def _reflection(canvas: Canvas, street: float) -> None:
    below = canvas.edge(street - canvas.y)
    depth = np.clip((canvas.y - street) / (1.0 - street), 0.0, 1.0)
    shimmer = canvas.noise.fractal(_WATER, canvas.x * 14.0, canvas.y * 90.0, 1.0, min(canvas.detail, 4))
    column = canvas.noise.value(_WATER + 9, np.floor(canvas.x * 14.0), np.zeros_like(canvas.x))
    canvas.lay(below, canvas.ramp(0.1 + 0.4 * shimmer * column * (1.0 - 0.5 * depth)))
    canvas.glow(0.5 * below * smoothstep(0.6, 0.9, shimmer * 0.5 + column * 0.5), canvas.palette.colours[2])


def _forest(canvas: Canvas) -> None:
    _sky(canvas, 0.75)
    for index in range(5):
        near = index / 4
        count = 26.0 - 4.0 * index
        column = np.floor(canvas.x * count + index * 0.41)
        tall = canvas.noise.value(_RIDGES + index, column, np.full_like(column, index))
        centre = np.abs(canvas.x * count + index * 0.41 - column - 0.5)
        ground = 0.62 + 0.1 * index + 0.05 * canvas.outline(_RIDGES + 50 + index, 1.1)
        top = ground - (0.16 + 0.22 * near) * (0.45 + 0.75 * tall)
        level = np.clip((canvas.y - top) / (ground - top), 0.0, 1.0)
        # The branches of a fir: a saw along the height makes the cone's edge jagged.
        saw = (level * (7.0 + 3.0 * tall)) % 1.0
        rough = canvas.noise.value(_DETAIL + index, canvas.x * 160.0, canvas.y * 160.0) if canvas.detail > 3 else 0.5
        cone = centre - level * (0.3 + 0.12 * saw + 0.1 * (rough - 0.5)) - 0.01
        shade = canvas.ramp(np.full_like(canvas.x, 0.55 - 0.5 * near) + 0.08 * (saw - 0.5))
        canvas.lay(canvas.edge(np.maximum(cone / count, top - canvas.y)) * (canvas.y < ground + 0.01), shade)
        canvas.lay(canvas.edge(ground - canvas.y), canvas.ramp(np.full_like(canvas.x, 0.5 - 0.48 * near)))
        fog = canvas.noise.fractal(_SKY + 40 + index, canvas.x, canvas.y * 3.0, 2.0, canvas.detail)
        canvas.lay(0.3 * (1.0 - near) * smoothstep(0.4, 0.8, fog), canvas.palette.colours[3])


def _flow(canvas: Canvas) -> None:
    first = canvas.fractal(_DETAIL, 1.6)
    second = canvas.fractal(_DETAIL + 20, 1.6)
    folded = canvas.noise.fractal(_DETAIL + 40, canvas.x + 2.4 * first, canvas.y + 2.4 * second, 1.5, canvas.detail + 1)
    strands = 0.5 + 0.5 * np.sin((folded * 7.0 + first * 3.0) * np.pi)
    canvas.fill(0.05 + 0.75 * folded + 0.25 * strands * second)
    canvas.glow(0.35 * smoothstep(0.86, 1.0, strands) * first, canvas.palette.colours[3])


def _fractal(canvas: Canvas) -> None:
    angle, zoom, turn = canvas.noise.numbers(_DETAIL, 3)
    c = 0.7885 * np.exp(1j * (0.35 + 5.6 * angle))
    size = 2.4 + 0.9 * zoom
    z = ((canvas.x - canvas.aspect / 2) + 1j * (canvas.y - 0.5)).astype(np.complex64) * size * np.exp(1j * turn)
    escaped = np.zeros(z.shape, np.float32)
    rounds = 16 * canvas.detail
    alive = np.ones(z.shape, bool)
    for number in range(rounds):
        z[alive] = z[alive] * z[alive] + np.complex64(c)
        gone = alive & (np.abs(z) > 16.0)
        escaped[gone] = number + 1.0 - np.log2(np.log(np.abs(z[gone])))
        alive &= ~gone
    value = np.sqrt(np.clip(escaped, 0.0, None) / rounds)
    canvas.fill(np.where(alive, 0.02, 0.12 + 0.9 * value))
    canvas.glow(0.4 * smoothstep(0.6, 1.0, value), canvas.palette.colours[4])


def _mosaic(canvas: Canvas) -> None:
    (many,) = canvas.noise.numbers(_DETAIL, 1)
    scale = 6.0 + 9.0 * many
    column, row = np.floor(canvas.x * scale), np.floor(canvas.y * scale)
    nearest = np.full(canvas.x.shape, 9.0, np.float32)
    second, tone = nearest.copy(), np.zeros_like(nearest)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            cx, cy = column + dx, row + dy
            px = cx + canvas.noise.value(_DETAIL + 1, cx, cy)
            py = cy + canvas.noise.value(_DETAIL + 2, cx, cy)
            distance = np.sqrt((canvas.x * scale - px) ** 2 + (canvas.y * scale - py) ** 2)
            own = canvas.noise.fractal(_DETAIL + 5, px / scale, py / scale, 1.6, 3)
            tone = np.where(distance < nearest, own + 0.2 * (px - cx - 0.5), tone)
            second = np.minimum(second, np.maximum(distance, nearest))
            nearest = np.minimum(nearest, distance)
    grain = canvas.fractal(_DETAIL + 30, 14.0)
    canvas.fill(0.1 + 1.0 * tone + 0.12 * (grain - 0.5) - 0.1 * nearest)
    canvas.lay(1.0 - smoothstep(0.02, 0.07, second - nearest), canvas.palette.colours[0])


PAINTERS: Mapping[str, Callable[[Canvas], None]] = MappingProxyType(
    {
        "mountains": _mountains,
        "ocean": _ocean,
        "space": _space,
        "city": _city,
        "forest": _forest,
        "fractal": _fractal,
        "mosaic": _mosaic,
        "flow": _flow,
    }
)
"""By the scene's name."""
