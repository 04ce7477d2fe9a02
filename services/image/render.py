"""A picture, step by step, from coarse to fine. Pure but for the encoding of PNG.

Each step paints the whole scene anew at a higher resolution and with more octaves of detail, in bands of rows, so that
memory stays small and a caller can stop between two bands. The last step is the picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.image.canvas import Canvas
from services.image.noise import Noise
from services.image.prompt import Plan
from services.image.scenes import PAINTERS

__all__ = ["Step", "png_of", "render", "steps_share"]

Pixels = NDArray[np.uint8]
_BAND = 65_536
"""Pixels of a band."""
_FINEST = 6
"""Octaves of the last step."""


@dataclass(frozen=True, slots=True)
class Step:
    """One finished step. ``pixels`` is rows by columns by red, green, blue."""

    number: int
    total: int
    pixels: Pixels


def steps_share(steps: int) -> list[float]:
    """For each step its part of the final height: from an eighth to all of it."""
    return [1.0] if steps == 1 else [0.125 ** (1.0 - index / (steps - 1)) for index in range(steps)]


def render(plan: Plan, size: tuple[int, int], steps: int, band_done: Callable[[float], None]) -> Iterator[Step]:
    """The steps of a picture of ``size``, width and height in pixels.

    ``band_done`` is told after each band which part of all work is done, 0 … 1; what it raises ends the work.
    """
    sizes = [(max(8, round(size[0] * share)), max(8, round(size[1] * share))) for share in steps_share(steps)]
    sizes[-1] = size
    work = sum(width * height for width, height in sizes)
    done = 0
    for index, (width, height) in enumerate(sizes):
        detail = _FINEST if index == steps - 1 else 2 + (_FINEST - 2) * index // steps
        rows = max(4, _BAND // width)
        pixels = np.empty((height, width, 3), np.uint8)
        for start in range(0, height, rows):
            band = range(start, min(start + rows, height))
            pixels[band.start : band.stop] = _paint(plan, (width, height), band, detail)
            done += len(band) * width
            band_done(done / work)
        yield Step(index + 1, steps, _pixelated(pixels) if plan.style == "pixel" else pixels)


def png_of(pixels: Pixels, longest: int | None = None) -> bytes:
    """A PNG, made smaller where its longer side is over ``longest``."""
    image = Image.fromarray(pixels)
    if longest is not None:
        image.thumbnail((longest, longest))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _paint(plan: Plan, size: tuple[int, int], rows: range, detail: int) -> Pixels:
    canvas = Canvas(plan, size, rows, detail)
    PAINTERS[plan.scene](canvas)
    _finish(canvas, plan.style)
    return (np.clip(canvas.pixels, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _finish(canvas: Canvas, style: str) -> None:
    """What a style does to the finished scene, and a vignette for all."""
    grey = canvas.pixels @ np.array((0.3, 0.59, 0.11), np.float32)
    if style == "monochrome":
        canvas.pixels[:] = grey[..., None]
    elif style == "vivid":
        canvas.pixels += (canvas.pixels - grey[..., None]) * 0.55
    elif style == "watercolor":
        paper = Noise(7).fractal(0, canvas.x, canvas.y, 40.0, 3)
        canvas.pixels[:] = 0.18 + 0.82 * canvas.pixels + 0.14 * (paper - 0.5)[..., None]
    elif style == "minimal":
        canvas.pixels[:] = np.round(canvas.pixels * 6.0) / 6.0
    middle = canvas.aspect / 2
    far = ((canvas.x - middle) / middle) ** 2 + ((canvas.y - 0.5) / 0.5) ** 2
    canvas.pixels *= (1.0 - 0.14 * np.clip(far, 0.0, 2.0))[..., None]


def _pixelated(pixels: Pixels) -> Pixels:
    """Blocks of one colour, about sixty-four to the longer side."""
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    share = 64 / max(width, height)
    small = image.resize((max(1, round(width * share)), max(1, round(height * share))), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.NEAREST))
