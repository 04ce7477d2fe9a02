"""The layout of a page as a tree. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["RGB", "Box", "Kind", "Node", "brightness", "hex_of", "readable_on"]

RGB = tuple[int, int, int]
Kind = Literal["column", "row", "text", "image", "button", "input", "rule"]
Role = Literal["page", "header", "footer", "card"]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the screenshot."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height


@dataclass(slots=True)
class Node:
    """One element. ``background`` and ``border`` are None where there is none; ``font`` is pixels.

    ``text`` is what to write; no letters are read from a screenshot, so it is only of the right length.
    """

    kind: Kind
    box: Box
    background: RGB | None = None
    color: RGB = (17, 24, 39)
    border: RGB | None = None
    font: int = 16
    lines: int = 1
    bold: bool = False
    radius: int = 0
    centred: bool = False
    text: str = ""
    source: str = ""
    role: Role | None = None
    children: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """This node and all below it, in the order of the page."""
        yield self
        for child in self.children:
            yield from child.walk()

    def outline(self) -> dict[str, object]:
        """The tree as JSON shows it."""
        shown: dict[str, object] = {
            "kind": self.role or self.kind,
            "box": [self.box.x, self.box.y, self.box.width, self.box.height],
        }
        if self.background is not None:
            shown["background"] = hex_of(self.background)
        if self.children:
            shown["children"] = [child.outline() for child in self.children]
        return shown


def hex_of(colour: RGB) -> str:
    """``#rrggbb``."""
    return f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}"


def brightness(colour: RGB) -> float:
    """0 for black to 255 for white, as the eye weighs the colours."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def readable_on(colour: RGB) -> RGB:
    """Black or white, whichever is read better on a colour."""
    return (17, 24, 39) if brightness(colour) > 140 else (255, 255, 255)
