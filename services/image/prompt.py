"""What a prompt's words say to the painter: a scene, a palette, a style. Pure.

Words that are known choose; of the others, a hash takes part in the picture's seed and shifts its colours, so that two
prompts that differ in one word differ in the picture.
"""

from __future__ import annotations

import colorsys
import hashlib
import re
from dataclasses import dataclass

__all__ = ["SCENES", "STYLES", "Colour", "Palette", "Plan", "plan_of"]

Colour = tuple[float, float, float]

_SCENE_WORDS = {
    "mountains": "mountain mountains alps peak peaks hill hills valley landscape canyon cliff volcano lake montaña",
    "ocean": "ocean sea beach wave waves coast island sail ship boat storm underwater mar playa",
    "space": "space galaxy star stars nebula planet planets cosmos moon universe astronaut rocket alien espacio",
    "city": "city cyberpunk skyline street urban tower towers building buildings downtown skyscraper web ciudad",
    "forest": "forest tree trees wood woods jungle park garden fox deer bear bosque",
    "fractal": "fractal mandelbrot julia spiral infinite psychedelic mathematical recursion",
    "mosaic": "mosaic crystal glass geometric polygon cubist stained tiles pattern abstract modern design",
    "flow": "flow smoke silk liquid marble fluid dream portrait cat dog face flower flowers music wind",
}
SCENES = tuple(_SCENE_WORDS)

_PALETTE_WORDS: dict[str, tuple[str, ...]] = {
    "sunset dusk evening atardecer warm": ("2b1b4d", "7a2e63", "d9533f", "f9a03f", "fde2a0"),
    "sunrise dawn morning spring": ("33456b", "7f83b0", "e8a5a0", "fbd6a4", "fff3d6"),
    "night midnight dark moonlight noche": ("05070f", "0e1a35", "1f3a63", "4f77a3", "d5e3ef"),
    "neon cyberpunk synthwave vaporwave electric": ("0b0221", "3a0ca3", "f72585", "7209b7", "4cc9f0"),
    "ocean sea underwater water azure": ("041e33", "0b4a6f", "1b85b8", "6fc7d9", "e5f6f7"),
    "forest jungle green nature": ("0b1f14", "1d4a2b", "4b8b3b", "a3c45c", "eef3c0"),
    "desert sand canyon mars dune": ("3b1c16", "7d3b22", "c06a34", "e6a862", "f8e2b8"),
    "winter snow ice arctic frozen cold": ("1c2c44", "4a6a8f", "93b5cf", "d3e5f0", "ffffff"),
    "autumn fall harvest": ("2d130c", "6b2a15", "b8501d", "e39a2f", "f5dd9a"),
    "fire lava volcano flame hell": ("120303", "4d0b08", "b3200f", "f26a1b", "ffd766"),
    "pastel soft gentle baby": ("6f6a8a", "b8a9d1", "f2c6de", "c6def1", "faedcb"),
    "gold golden royal luxury": ("170f05", "4f3410", "a8741a", "e0b84a", "fff2c2"),
    "monochrome noir grayscale ink sketch": ("0a0a0a", "3a3a3a", "7a7a7a", "bdbdbd", "f5f5f5"),
}
_HUES = {
    "red": 0.0, "rojo": 0.0, "orange": 0.08, "yellow": 0.15, "green": 0.35, "verde": 0.35, "teal": 0.48, "cyan": 0.52,
    "blue": 0.6, "azul": 0.6, "purple": 0.76, "violet": 0.78, "magenta": 0.86, "pink": 0.92,
}  # fmt: skip
STYLES = ("natural", "vivid", "pixel", "watercolor", "monochrome", "minimal")
_STYLE_WORDS = {
    "pixel": "pixel pixelart 8bit retro voxel",
    "watercolor": "watercolor watercolour painting impressionist gouache acuarela",
    "monochrome": "monochrome noir grayscale sketch ink charcoal",
    "minimal": "minimal minimalist simple clean flat",
    "vivid": "vivid neon vibrant cyberpunk colorful colourful psychedelic",
}


@dataclass(frozen=True, slots=True)
class Palette:
    """Five colours from the darkest to the lightest, each as red, green and blue in 0 … 1."""

    colours: tuple[Colour, Colour, Colour, Colour, Colour]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be painted. ``seed`` holds the words, too."""

    scene: str
    style: str
    palette: Palette
    seed: int


def plan_of(prompt: str, seed: int, scene: str | None = None, style: str | None = None) -> Plan:
    """The plan for a prompt; ``scene`` and ``style`` override what the words say."""
    words = re.findall(r"\w+", prompt.lower())
    digest = hashlib.sha256(f"{seed}\n{' '.join(words)}".encode()).digest()
    number = int.from_bytes(digest[:6])
    return Plan(
        scene or _chosen(words, _SCENE_WORDS) or SCENES[digest[6] % len(SCENES)],
        style or _chosen(words, _STYLE_WORDS) or "natural",
        _palette(words, digest),
        number,
    )


def _chosen(words: list[str], table: dict[str, str]) -> str | None:
    """The entry that most words name; of equals the one that is named first."""
    votes: dict[str, int] = {}
    for word in words:
        for name, known in table.items():
            if word in known.split():
                votes[name] = votes.get(name, 0) + 1
    return max(votes, key=lambda name: votes[name]) if votes else None


def _palette(words: list[str], digest: bytes) -> Palette:
    hue = next((_HUES[word] for word in words if word in _HUES), None)
    known = _chosen(words, {name: name for name in _PALETTE_WORDS})
    if known is not None:
        colours = [_from_hex(text) for text in _PALETTE_WORDS[known]]
        shift = (digest[7] / 255 - 0.5) * 0.05
        if hue is not None:
            colours[2], colours[3] = _hsl(hue, 0.42, 0.7), _hsl(hue, 0.66, 0.75)
    else:
        base = digest[7] / 256 if hue is None else hue
        spread = (digest[8] / 255 - 0.5) * 0.35
        tones = ((0.09, 0.55), (0.26, 0.55), (0.46, 0.62), (0.68, 0.7), (0.92, 0.6))
        colours = [_hsl(base + spread * index / 4, light, depth) for index, (light, depth) in enumerate(tones)]
        shift = 0.0
    turned = [_turned(colour, shift) for colour in colours]
    return Palette((turned[0], turned[1], turned[2], turned[3], turned[4]))


def _from_hex(text: str) -> Colour:
    return int(text[:2], 16) / 255, int(text[2:4], 16) / 255, int(text[4:], 16) / 255


def _hsl(hue: float, light: float, saturation: float) -> Colour:
    return colorsys.hls_to_rgb(hue % 1.0, light, saturation)


def _turned(colour: Colour, shift: float) -> Colour:
    hue, light, saturation = colorsys.rgb_to_hls(*colour)
    return colorsys.hls_to_rgb((hue + shift) % 1.0, light, saturation)
