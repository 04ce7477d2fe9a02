"""From a screenshot's pixels to the tree of its layout. Pure.

A recursive cut: a region's background is known; what differs from it is cut along the widest empty rows or columns,
again and again, until a piece has no gap any more. A piece whose rim is of one other colour is a box with a background
of its own, and its inside is cut in turn. What cannot be cut is text, a picture, a rule or a plain shape, told apart by
its colours: text lies on the line between two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from services.code.picture import Pixels
from services.code.tree import RGB, Box, Node
from services.code.wording import words_for

__all__ = ["analyse", "dominant_colours"]

_DIFFERENT, _DIFFERENT_IN_NOISE = 7, 24
"""Steps of 256 in any channel over which a pixel is not the background: in a clean picture, and in one like a JPEG.

There, a smaller difference counts only where it fills a square: the halo of an edge does not.
"""
_SQUARE = 9
_DEEPEST = 14
_MOST_NODES = 600
_LEAST_ROW_GAP = 3
_LEAST_COLUMN_GAP = 10

Mask = NDArray[Any]


def dominant_colours(pixels: Pixels, count: int = 6) -> list[tuple[RGB, float]]:
    """The most frequent colours and their shares; colours are grouped in cells of 16 steps."""
    flat = pixels.reshape(-1, 3).astype(np.int32)
    cells = (flat[:, 0] >> 4 << 8) | (flat[:, 1] >> 4 << 4) | (flat[:, 2] >> 4)
    sizes = np.bincount(cells, minlength=4096)
    found: list[tuple[RGB, float]] = []
    for cell in np.argsort(sizes)[::-1][:count]:
        if sizes[cell] == 0:
            break
        mean = np.median(flat[cells == cell], axis=0)
        found.append(((int(mean[0]), int(mean[1]), int(mean[2])), float(sizes[cell] / len(flat))))
    return found


def analyse(pixels: Pixels, check: Callable[[], None] = lambda: None) -> Node:
    """The page. ``check`` is called at each cut; what it raises ends the work."""
    height, width = pixels.shape[:2]
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = dominant_colours(rim[None], 1)[0][0]
    whole = dominant_colours(pixels, 1)[0]
    if whole[1] > 0.5:
        background = whole[0]
    cutter = _Cutter(pixels, _is_noisy(pixels, background), check)
    box = Box(0, 0, width, height)
    page = Node("column", box, background=background, role="page")
    inner = cutter.cut(box, background, 0)
    if inner is not None:
        loose = inner.background is None and inner.border is None
        page.children = inner.children if inner.kind == "column" and loose else [inner]
    _name_parts(page)
    return page


class _Cutter:
    def __init__(self, pixels: Pixels, noisy: bool, check: Callable[[], None]) -> None:
        self._pixels = pixels
        self._noisy = noisy
        self._check = check
        self._nodes = 0

    def cut(self, box: Box, background: RGB, depth: int) -> Node | None:
        """The node of what is in a box on a background, or None where there is nothing."""
        self._check()
        mask = self._differs(box, background)
        box, mask = _shrunk(box, mask)
        if box.width == 0 or self._nodes >= _MOST_NODES:
            return None
        self._nodes += 1
        if min(box.width, box.height) <= 3:
            colour = self._mean(box, mask)
            return Node("rule" if max(box.width, box.height) > 12 else "image", box, background=colour)
        parts = _gaps(mask) if depth < _DEEPEST else None
        # What has a gap all through it is no box, however even its rim.
        container = self._container(box, background, depth) if parts is None else None
        if container is not None:
            return container
        if parts is not None:
            return self._parts(box, background, depth, *parts)
        return self._leaf(box, background, mask)

    def _differs(self, box: Box, background: RGB) -> Mask:
        part = self._pixels[box.y : box.bottom, box.x : box.right].astype(np.int16)
        away = np.abs(part - np.array(background, np.int16)).max(axis=2)
        mask: Mask = away > _DIFFERENT
        if not self._noisy or min(mask.shape) < _SQUARE:
            return mask if not self._noisy else away > _DIFFERENT_IN_NOISE
        squares = Image.fromarray(mask.astype(np.uint8) * 255)
        filled = squares.filter(ImageFilter.MinFilter(_SQUARE)).filter(ImageFilter.MaxFilter(_SQUARE))
        strong: Mask = (away > _DIFFERENT_IN_NOISE) | (np.asarray(filled) > 0)
        return strong

    def _mean(self, box: Box, mask: Mask) -> RGB:
        colours = self._pixels[box.y : box.bottom, box.x : box.right][mask]
        red, green, blue = np.median(colours, axis=0)
        return int(red), int(green), int(blue)

    def _ring(self, box: Box, inset: int) -> tuple[RGB, float]:
        """The commonest colour of the rectangle's outline, ``inset`` pixels inside, and its share."""
        part = self._pixels[box.y + inset : box.bottom - inset, box.x + inset : box.right - inset]
        # Corners may be round: an eighth of each side is left out at both of its ends.
        dy, dx = part.shape[0] // 8, part.shape[1] // 8
        rows, columns = slice(dy, part.shape[0] - dy or None), slice(dx, part.shape[1] - dx or None)
        ring = np.concatenate([part[0, columns], part[-1, columns], part[rows, 0], part[rows, -1]])
        colour = dominant_colours(ring[None], 1)[0][0]
        near = np.abs(ring.astype(np.int16) - np.array(colour, np.int16)).max(axis=1) <= (20 if self._noisy else 6)
        return colour, float(near.mean())

    def _container(self, box: Box, background: RGB, depth: int) -> Node | None:
        """A box with a background or a border of its own, and what is in it."""
        if min(box.width, box.height) < 14 or depth >= _DEEPEST:
            return None
        rim = 3 if self._noisy else 0
        (outer, share), (inner, inner_share) = self._ring(box, rim), self._ring(box, 4)
        if share < 0.85 or not _far(outer, background):
            return None
        bordered = inner_share > 0.85 and _far(inner, outer) and not self._noisy
        fill = inner if bordered else outer
        radius = self._radius(box, background)
        # As far in as a round corner lets the outside show.
        inset = max(4 if bordered else 1, round(radius * 0.35) + 1 if radius else 0)
        inside = Box(box.x + inset, box.y + inset, box.width - 2 * inset, box.height - 2 * inset)
        if not bordered and float(self._differs(inside, fill).mean()) > 0.75:
            return None  # A picture with an even rim.
        node = Node("column", box, background=fill, border=outer if bordered else None)
        node.radius = radius
        content = self.cut(inside, fill, depth + 1)
        if content is not None:
            plain = content.background is None and content.kind in ("row", "column")
            node.kind = "row" if plain and content.kind == "row" else "column"
            node.children = content.children if plain else [content]
        return _control(node, background)

    def _radius(self, box: Box, background: RGB) -> int:
        """How far from the corner the box begins on its first row."""
        row = self._differs(Box(box.x, box.y, box.width, 1), background)[0]
        start = int(np.argmax(row)) if row.any() else 0
        return min(start * 2, box.height // 2) if start > 1 else 0

    def _parts(self, box: Box, background: RGB, depth: int, across: bool, spans: list[tuple[int, int]]) -> Node | None:
        children = []
        for start, end in spans:
            part = Box(box.x + start, box.y, end - start, box.height) if across else Box(
                box.x, box.y + start, box.width, end - start
            )  # fmt: skip
            child = self.cut(part, background, depth + 1)
            if child is not None:
                children.append(child)
        children = children if across else _paragraphs(children)
        if len(children) == 1:
            return children[0]
        return Node("row" if across else "column", box, children=children) if children else None

    def _leaf(self, box: Box, background: RGB, mask: Mask) -> Node:
        part = self._pixels[box.y : box.bottom, box.x : box.right]
        colour = self._ink(part, mask, background)
        if self._is_text(part, mask, background, colour, box):
            node = Node("text", box, color=colour, font=max(8, round(box.height * 1.05)))
            node.bold = float(mask.mean()) > 0.38 or node.font > 28
            node.text = words_for(box.width, node.font, box.x * 31 + box.y * 17 + round(float(mask.mean()) * 1000))
            return node
        shape = Node("image", box, background=self._mean(box, mask))
        shape.source = "" if len(dominant_colours(part, 12)) < 4 else "picture"
        return shape

    def _ink(self, part: Pixels, mask: Mask, background: RGB) -> RGB:
        """The colour of the strokes: of the tenth that is farthest from the background."""
        colours = part[mask].astype(np.int16)
        distance = np.abs(colours - np.array(background, np.int16)).sum(axis=1)
        ink = np.median(colours[distance >= np.quantile(distance, 0.9)], axis=0)
        return int(ink[0]), int(ink[1]), int(ink[2])

    def _is_text(self, part: Pixels, mask: Mask, background: RGB, ink: RGB, box: Box) -> bool:
        if not 5 <= box.height <= 110 or box.width < box.height * 0.8 or float(mask.mean()) > 0.8:
            return False
        changes = float(np.abs(np.diff(mask.astype(np.int8), axis=1)).sum()) / max(box.height, 1)
        if changes < 1.5 * box.width / box.height * 0.4:
            return False
        axis = np.array(ink, np.float32) - np.array(background, np.float32)
        length = float(np.sqrt((axis * axis).sum())) or 1.0
        axis /= length
        offset = part[mask].astype(np.float32) - np.array(background, np.float32)
        beside = offset - (offset @ axis)[:, None] * axis
        return float(np.sqrt((beside * beside).sum(axis=1)).mean()) < 0.22 * length


def _is_noisy(pixels: Pixels, background: RGB) -> bool:
    """Whether the background is not quite even, as a lossy format leaves it."""
    away = np.abs(pixels.astype(np.int16) - np.array(background, np.int16)).max(axis=2)
    near = away <= _DIFFERENT
    return bool(near.any()) and float((away[near] > 0).mean()) > 0.004


def _far(one: RGB, other: RGB) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) > 6


def _shrunk(box: Box, mask: Mask) -> tuple[Box, Mask]:
    """The smallest box that holds the mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return Box(box.x, box.y, 0, 0), mask
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return Box(box.x + left, box.y + top, right - left, bottom - top), mask[top:bottom, left:right]


def _gaps(mask: Mask) -> tuple[bool, list[tuple[int, int]]] | None:
    """How to cut: across (into columns) or not, and the spans; None where there is no gap."""
    height = mask.shape[0]
    rows = _spans(np.asarray(mask.any(axis=1)), _LEAST_ROW_GAP)
    # In one line of text the gaps between words are narrower than it is high.
    columns = _spans(np.asarray(mask.any(axis=0)), max(_LEAST_COLUMN_GAP, round(height * 0.6) if height < 60 else 0))
    if len(rows) < 2 and len(columns) < 2:
        return None
    widest_row = max((b[0] - a[1] for a, b in pairwise(rows)), default=0)
    widest_column = max((b[0] - a[1] for a, b in pairwise(columns)), default=0)
    return (True, columns) if len(rows) < 2 or widest_column > 1.5 * widest_row else (False, rows)


def _spans(filled: Mask, gap: int) -> list[tuple[int, int]]:
    """Runs of what is filled; those with less than ``gap`` between them are one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], filled.astype(np.int8), [0]])))
    spans: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if spans and start - spans[-1][1] < gap:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _paragraphs(children: list[Node]) -> list[Node]:
    """Lines of text that follow each other closely, of one height and colour, are one text."""
    merged: list[Node] = []
    for child in children:
        last = merged[-1] if merged else None
        if last is not None and _continues(last, child):
            box = last.box
            last.box = Box(min(box.x, child.box.x), box.y, max(box.right, child.box.right) - min(box.x, child.box.x),
                           child.box.bottom - box.y)  # fmt: skip
            last.lines += 1
            last.text += " " + child.text
        else:
            merged.append(child)
    return merged


def _continues(last: Node, child: Node) -> bool:
    if last.kind != "text" or child.kind != "text":
        return False
    close = child.box.y - last.box.bottom < 1.3 * child.font
    return close and abs(last.box.x - child.box.x) <= 6 and abs(last.font - child.font) <= max(3, last.font * 0.35)


def _control(node: Node, outside: RGB) -> Node:
    """A small box with one line in it is a button, or an input where it is only outlined."""
    box = node.box
    lone = node.children[0] if len(node.children) == 1 and node.children[0].kind == "text" else None
    if not 18 <= box.height <= 76 or (node.children and (lone is None or lone.lines > 1)):
        return node
    if lone is not None and box.width <= 420:
        middle = abs((lone.box.x + lone.box.right) - (box.x + box.right)) <= max(8, box.width * 0.12)
        if middle:
            node.kind, node.text, node.color, node.font = "button", lone.text, lone.color, lone.font
            node.bold, node.children = lone.bold, []
            return node
    if node.border is not None and box.width >= 100 and not _far(node.background or outside, outside):
        node.kind, node.text, node.children = "input", lone.text if lone else "", []
        node.color, node.font = (lone.color, lone.font) if lone else (node.color, 14)
    return node


def _name_parts(page: Node) -> None:
    """Which part is the header, which the footer, and which boxes are cards."""
    height, parts = page.box.height, page.children
    for node in page.walk():
        box = node.box
        node.centred = abs((box.x + box.right) - page.box.width) < page.box.width * 0.04 and box.x > 8
        if node.role is None and node.kind in ("row", "column") and node.background is not None:
            node.role = "card"
    if len(parts) > 1 and parts[0].box.bottom < height * 0.25 and parts[0].kind in ("row", "column"):
        parts[0].role = "header"
    if len(parts) > 1 and parts[-1].box.y > height * 0.7 and parts[-1].box.width > page.box.width * 0.5:
        parts[-1].role = "footer"
