"""Screenshots whose layout is known, drawn for tests."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["data_url", "draw_page", "png"]

Colour = tuple[int, int, int]


def draw_page(accent: Colour = (37, 99, 235), cards: int = 3, bar: Colour = (17, 24, 39)) -> Image.Image:
    """A page of 1000 by 700: header and links, heading, paragraph, button, input, cards with pictures, footer."""
    image = Image.new("RGB", (1000, 700), "white")
    draw = ImageDraw.Draw(image)

    def text(x: int, y: int, words: str, size: int, fill: Colour | str) -> None:
        draw.text((x, y), words, font=ImageFont.load_default(size=size), fill=fill)

    draw.rectangle((0, 0, 999, 63), fill=bar)
    text(24, 20, "Acme Studio", 22, "white")
    for index, word in enumerate(("Home", "Pricing", "About")):
        text(640 + index * 90, 24, word, 16, (209, 213, 219))
    text(60, 120, "Build faster than ever", 44, (17, 24, 39))
    for index, line in enumerate(("A short paragraph that tells the reader", "about the product in two lines.")):
        text(60, 190 + 26 * index, line, 18, (75, 85, 99))
    draw.rounded_rectangle((60, 260, 220, 308), 10, fill=accent)
    text(92, 272, "Get started", 18, "white")
    draw.rounded_rectangle((260, 260, 520, 308), 6, fill="white", outline=(156, 163, 175), width=2)
    text(276, 272, "Your email", 16, (156, 163, 175))
    x, y = np.meshgrid(np.arange(230), np.arange(100))
    for index in range(cards):
        left = 60 + index * 300
        draw.rounded_rectangle((left, 360, left + 270, 600), 12, fill=(243, 244, 246))
        picture = np.stack([x * 3 + y, y * 2 + index * 60, x + y * 5], axis=2) % 256
        image.paste(Image.fromarray(picture.astype(np.uint8)), (left + 20, 380))
        text(left + 20, 500, f"Card {index} title", 20, (17, 24, 39))
        text(left + 20, 535, "Some words below it", 15, (75, 85, 99))
    draw.rectangle((0, 640, 999, 699), fill=(31, 41, 55))
    text(420, 660, "All rights reserved", 15, (156, 163, 175))
    return image


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    """The picture's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def data_url(image: Image.Image) -> str:
    """The picture as a data URL."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()
