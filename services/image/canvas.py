"""A band of a picture and the ways to lay colour on it. Pure.

``Canvas.x`` and ``y`` are the coordinates of the band's pixels; ``pixels`` is rows by columns by red, green, blue.
"""

from __future__ import annotations

import numpy as np

from services.image.noise import Field, Noise, smoothstep
from services.image.prompt import Colour, Palette, Plan

__all__ = ["Canvas"]


class Canvas:
    """``detail`` is the number of octaves; ``aspect`` is width by height; ``texel`` one pixel's height."""

    def __init__(self, plan: Plan, size: tuple[int, int], rows: range, detail: int) -> None:
        width, height = size
        self.aspect = width / height
        self.texel = 1.0 / height
        self.detail = detail
        self.noise = Noise(plan.seed)
        self.palette = plan.palette
        columns = (np.arange(width, dtype=np.float32) + 0.5) / height
        lines = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) / height
        self.x, self.y = (np.ascontiguousarray(field) for field in np.meshgrid(columns, lines))
        self.pixels = np.zeros((len(rows), width, 3), np.float32)

    def ramp(self, values: Field, palette: Palette | None = None) -> Field:
        """The palette's colours along ``values`` in 0 … 1."""
        table = np.array((palette or self.palette).colours, np.float32)
        position = np.clip(values, 0.0, 1.0) * (len(table) - 1)
        index = np.minimum(position.astype(np.int32), len(table) - 2)
        part = (position - index)[..., None]
        mixed: Field = table[index] * (1.0 - part) + table[index + 1] * part
        return mixed

    def fill(self, values: Field) -> None:
        """Paint all of it by the ramp."""
        self.pixels[:] = self.ramp(values)

    def lay(self, mask: Field, colour: Colour | Field) -> None:
        """Lay a colour, or a picture, over what is there; ``mask`` says how thick, 0 … 1."""
        over = np.asarray(colour, np.float32)
        self.pixels += (over - self.pixels) * mask[..., None]

    def glow(self, mask: Field, colour: Colour) -> None:
        """Add light."""
        self.pixels += mask[..., None] * np.asarray(colour, np.float32)

    def edge(self, distance: Field) -> Field:
        """1 where ``distance`` is below 0, with an edge one pixel wide."""
        return smoothstep(-self.texel, self.texel, -distance)

    def away(self, x: float, y: float) -> Field:
        """The distance from a point."""
        return np.sqrt((self.x - x) ** 2 + (self.y - y) ** 2)

    def fractal(self, layer: int, scale: float, octaves: int | None = None) -> Field:
        """Fractal noise over the band."""
        return self.noise.fractal(layer, self.x, self.y, scale, octaves or self.detail)

    def outline(self, layer: int, scale: float) -> Field:
        """A ridge along the band, the same in each of its rows."""
        row = self.noise.ridge(layer, self.x[:1], scale, self.detail)
        return np.broadcast_to(row, self.x.shape)
