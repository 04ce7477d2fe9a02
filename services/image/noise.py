"""Noise over the unit square, the same at every resolution. Pure.

A field is an array of floats by row and column. Coordinates are ``x`` from 0 to the picture's aspect and ``y`` from
0 to 1, so that a small preview shows the composition of the large picture, and a picture may be made in bands of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Field", "Noise", "smoothstep"]

Field = NDArray[Any]
"""Floats, or truth values where a mask is meant."""
_LATTICE = 256


def smoothstep(low: float, high: float, values: Field) -> Field:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    smooth: Field = t * t * (3.0 - 2.0 * t)
    return smooth


class Noise:
    """Value noise from one seed: each layer is a field of its own."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lattices: dict[int, Field] = {}

    def value(self, layer: int, x: Field, y: Field) -> Field:
        """Smooth noise in 0 … 1 with one lattice point per unit, periodic after 256 of them."""
        lattice = self._lattice(layer)
        column, row = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
        fx, fy = x - column, y - row
        fx, fy = fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy)
        left, right = column & 255, (column + 1) & 255
        above, below = (row & 255) << 8, ((row + 1) & 255) << 8
        # Indices into the flat lattice: half the time of a pair of them.
        corner = lattice.take(above | left)
        top = corner + (lattice.take(above | right) - corner) * fx
        corner = lattice.take(below | left)
        bottom = corner + (lattice.take(below | right) - corner) * fx
        mixed: Field = top + (bottom - top) * fy
        return mixed

    def fractal(self, layer: int, x: Field, y: Field, scale: float, octaves: int) -> Field:
        """Octaves of value noise, each twice as fine and half as strong, in 0 … 1."""
        total = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
        weight, whole = 0.5, 0.0
        for octave in range(octaves):
            frequency = scale * 2.0**octave
            total += weight * self.value(layer + octave, x * frequency, y * frequency)
            whole += weight
            weight *= 0.5
        return total / np.float32(whole)

    def ridge(self, layer: int, x: Field, scale: float, octaves: int) -> Field:
        """A mountain's outline along ``x``, in 0 … 1, with sharp tops."""
        row = np.full_like(x, layer * 7.31)
        total = np.zeros_like(x)
        weight, whole = 0.5, 0.0
        for octave in range(octaves):
            frequency = scale * 2.0**octave
            total += weight * (1.0 - np.abs(2.0 * self.value(layer + octave, x * frequency, row) - 1.0))
            whole += weight
            weight *= 0.48
        return total / np.float32(whole)

    def numbers(self, layer: int, count: int) -> list[float]:
        """``count`` numbers in 0 … 1 that belong to this seed and layer."""
        return [float(number) for number in np.random.default_rng([self._seed, layer, 1]).random(count)]

    def _lattice(self, layer: int) -> Field:
        found = self._lattices.get(layer)
        if found is None:
            found = np.random.default_rng([self._seed, layer]).random((_LATTICE, _LATTICE), np.float32)
            self._lattices[layer] = found
        return found
