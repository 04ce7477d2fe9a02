"""From a layout's tree to elements with styles, by one of several strategies. Pure.

``flow`` builds rows and columns of flexible boxes; ``grid`` measures its columns as fractions; ``absolute`` puts every
element where the screenshot has it; ``dark`` is ``flow`` with the colours turned over.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from services.code.tree import RGB, Box, Node, brightness, hex_of

__all__ = ["STRATEGIES", "Element", "elements_of"]

STRATEGIES: Mapping[str, str] = MappingProxyType(
    {
        "flow": "Flexible rows and columns, semantic elements",
        "grid": "CSS grid with the measured proportions",
        "absolute": "Every element exactly where the screenshot has it",
        "dark": "Flexible rows and columns in a dark palette",
    }
)


@dataclass(slots=True)
class Element:
    """A tag with its CSS declarations; either ``text`` or ``children``."""

    tag: str
    styles: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[Element] = field(default_factory=list)


def elements_of(page: Node, strategy: str) -> Element:
    """The page's elements. ``strategy`` is a key of ``STRATEGIES``."""
    return _Builder(strategy).page(page)


class _Builder:
    def __init__(self, strategy: str) -> None:
        self._strategy = strategy

    def page(self, page: Node) -> Element:
        """The outermost element."""
        root = Element("div", {"min-height": "100vh", "font-family": "system-ui, sans-serif"})
        root.styles["background"] = self._colour(page.background or (255, 255, 255))
        root.styles["color"] = self._colour((17, 24, 39))
        if self._strategy == "absolute":
            root.styles |= {"position": "relative", "width": f"{page.box.width}px", "height": f"{page.box.height}px"}
        else:
            root.styles |= {"display": "flex", "flex-direction": "column"}
        root.children = self._children(page, page.box)
        return root

    def _children(self, node: Node, inside: Box) -> list[Element]:
        made, previous = [], None
        for child in node.children:
            element = self._element(child, inside)
            if self._strategy != "absolute":
                self._space(element, child, previous, node, inside)
            made.append(element)
            previous = child
        return made

    def _element(self, node: Node, parent: Box) -> Element:
        element = {
            "text": self._text, "image": self._image, "button": self._button, "input": self._input,
        }.get(node.kind, self._container)(node)  # fmt: skip
        if self._strategy == "absolute":
            box = node.box
            element.styles |= {
                "position": "absolute", "left": f"{box.x - parent.x}px", "top": f"{box.y - parent.y}px",
                "width": f"{box.width + (box.width // 8 if node.kind == 'text' else 0)}px",
            }  # fmt: skip
            if node.kind != "text":
                element.styles["height"] = f"{box.height}px"
            elif node.lines == 1:
                element.styles["white-space"] = "nowrap"
        return element

    def _space(self, element: Element, node: Node, previous: Node | None, parent: Node, inside: Box) -> None:
        """Margins that leave the gaps that the screenshot has."""
        if parent.kind == "row":
            if self._strategy == "grid":
                return
            gap = node.box.x - (previous.box.right if previous else inside.x)
            if gap > 0:
                element.styles["margin-left"] = "auto" if gap > inside.width * 0.3 and previous else f"{gap}px"
            return
        gap = node.box.y - (previous.box.bottom if previous else inside.y)
        if gap > 0:
            element.styles["margin-top"] = f"{gap}px"
        if node.centred:
            element.styles["align-self"] = "center"
            element.styles |= {"text-align": "center"} if node.kind == "text" else {}
        elif node.box.x > inside.x:
            element.styles["margin-left"] = f"{node.box.x - inside.x}px"

    def _container(self, node: Node) -> Element:
        tag = {"header": "header", "footer": "footer", "card": "section"}.get(node.role or "", "div")
        if node.kind == "rule":
            tag = "div"
        element = Element(tag, self._surface(node))
        wide, high = node.box.width, node.box.height
        if node.kind == "rule" or not node.children:
            element.styles |= {"width": f"{wide}px", "height": f"{high}px"}
        if self._strategy != "absolute" and node.children:
            self._arrange(element, node)
            if node.background is not None or node.border is not None:
                bottom = max(child.box.bottom for child in node.children)
                element.styles["padding-bottom"] = f"{max(0, node.box.bottom - bottom)}px"
                if node.role not in ("header", "footer"):
                    element.styles |= {"width": f"{wide}px", "box-sizing": "border-box"}
        element.children = self._children(node, node.box)
        return element

    def _arrange(self, element: Element, node: Node) -> None:
        if node.kind != "row":
            element.styles |= {"display": "flex", "flex-direction": "column", "align-items": "flex-start"}
            return
        top = min(child.box.y for child in node.children) - node.box.y
        if top > 0:
            element.styles["padding-top"] = f"{top}px"
        if self._strategy == "grid":
            tracks = " ".join(f"{max(1, round(100 * child.box.width / node.box.width))}fr" for child in node.children)
            left = node.children[0].box.x - node.box.x
            gaps = [b.box.x - a.box.right for a, b in zip(node.children, node.children[1:], strict=False)]
            element.styles |= {"display": "grid", "grid-template-columns": tracks, "align-items": "center"}
            element.styles |= {"gap": f"{max(0, min(gaps, default=0))}px", "padding-left": f"{left}px"}
        else:
            element.styles |= {"display": "flex", "align-items": "center" if node.role == "header" else "flex-start"}

    def _surface(self, node: Node) -> dict[str, str]:
        styles = {}
        if node.background is not None:
            styles["background"] = self._colour(node.background)
        if node.border is not None:
            styles["border"] = f"1px solid {self._colour(node.border)}"
        if node.radius:
            styles["border-radius"] = f"{node.radius}px"
        return styles

    def _text(self, node: Node) -> Element:
        tag = "h1" if node.font > 30 else "h2" if node.font > 20 or (node.bold and node.font > 17) else "p"
        size = node.font
        styles = {"font-size": f"{size}px", "color": self._colour(node.color), "margin": "0"}
        if node.lines > 1:
            styles["line-height"] = f"{max(size, round(node.box.height / node.lines))}px"
            styles["max-width"] = f"{node.box.width + size}px"
        if node.bold:
            styles["font-weight"] = "700"
        return Element(tag, styles, text=node.text)

    def _image(self, node: Node) -> Element:
        size = {"width": f"{node.box.width}px", "height": f"{node.box.height}px"}
        if node.source.startswith("data:"):
            return Element("img", {**size, "object-fit": "cover"}, {"src": node.source, "alt": "Picture"})
        return Element("div", {**size, **self._surface(node)}, {"role": "img", "aria-label": "Picture"})

    def _button(self, node: Node) -> Element:
        styles = {**self._surface(node), "color": self._colour(node.color), "font-size": f"{node.font}px"}
        styles |= {"width": f"{node.box.width}px", "height": f"{node.box.height}px", "cursor": "pointer"}
        styles.setdefault("border", "none")
        return Element("button", styles, {"type": "button"}, node.text)

    def _input(self, node: Node) -> Element:
        styles = {**self._surface(node), "font-size": f"{node.font}px", "padding": "0 12px", "box-sizing": "border-box"}
        styles |= {"width": f"{node.box.width}px", "height": f"{node.box.height}px"}
        return Element("input", styles, {"type": "text", "placeholder": node.text or "Text"})

    def _colour(self, colour: RGB) -> str:
        return hex_of(_turned(colour) if self._strategy == "dark" else colour)


def _turned(colour: RGB) -> RGB:
    """The same hue with its lightness turned over; strong colours stay as they are."""
    hue, light, saturation = colorsys.rgb_to_hls(*(part / 255 for part in colour))
    if saturation > 0.5 and 0.25 < light < 0.75:
        return colour
    light = 0.06 + 0.9 * (1.0 - brightness(colour) / 255)
    red, green, blue = colorsys.hls_to_rgb(hue, light, min(saturation, 0.35))
    return round(red * 255), round(green * 255), round(blue * 255)
