"""Changes to a layout by plain instructions: a handful of rules over its tree, no language model. Pure.

What is understood is done; what is not comes back, word for word, so that the code can say so in a comment.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Callable

from services.code.tree import RGB, Box, Node, readable_on

__all__ = ["apply_instruction", "page_of_words"]

_COLOURS: dict[str, RGB] = {
    "black": (0, 0, 0), "white": (255, 255, 255), "gray": (107, 114, 128), "grey": (107, 114, 128),
    "red": (220, 38, 38), "orange": (234, 88, 12), "yellow": (250, 204, 21), "green": (22, 163, 74),
    "teal": (13, 148, 136), "cyan": (8, 145, 178), "blue": (37, 99, 235), "indigo": (79, 70, 229),
    "purple": (147, 51, 234), "pink": (219, 39, 119), "brown": (120, 53, 15), "navy": (30, 58, 138),
}  # fmt: skip
_TARGETS = {
    "header": "header", "navbar": "header", "nav": "header", "footer": "footer", "button": "button", "card": "card",
    "box": "card", "section": "card", "heading": "heading", "title": "heading", "headline": "heading", "text": "text",
    "paragraph": "text", "image": "image", "picture": "image", "input": "input", "field": "input", "page": "page",
    "background": "page", "body": "page",
}  # fmt: skip
_ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
_QUOTED = re.compile(r"[\"“'‘]([^\"”'’]{1,200})[\"”'’]|(?:labell?ed|called|saying|named)\s+([\w ]{1,60})", re.I)
_TARGET = re.compile(rf"\b({'|'.join(_TARGETS)})(?:e?s)?\b", re.I)
_HEX = re.compile(r"#([0-9a-fA-F]{6})\b")
_MOST_ADDED = 200
"""Nodes of a page above which nothing is added."""


def apply_instruction(page: Node, instruction: str) -> list[str]:
    """Change ``page`` in place; returns the parts that were not understood or found nothing to change."""
    parts = re.split(
        r"[.;\n]+\s*|,\s*(?:and\s+|then\s+)?|\s+(?:and then|then)\s+|\s+and\s+(?=" + _VERBS + ")", instruction
    )
    wanted = [part.strip() for part in parts if part and part.strip()]
    return [part for part in wanted if not _apply(page, part)]


def page_of_words(prompt: str) -> tuple[Node, list[str]]:
    """A page where there is no screenshot: a header, the words as a heading, and what the words ask to add."""
    title = _quoted(prompt) or " ".join(prompt.split()[:8]) or "Page"
    page = Node("column", Box(0, 0, 1000, 640), background=(255, 255, 255), role="page")
    bar = Node("row", Box(0, 0, 1000, 64), background=(17, 24, 39), role="header")
    bar.children = [Node("text", Box(32, 22, 200, 20), color=(255, 255, 255), font=20, bold=True, text=title[:24])]
    heading = Node("text", Box(32, 112, 900, 44), font=40, bold=True, text=title)
    body = Node("text", Box(32, 176, 640, 22), color=(75, 85, 99), font=18, text=" ".join(prompt.split())[:400])
    page.children = [bar, heading, body]
    asks = [part for part in re.split(r"[.;,\n]+|\s+(?:and|with)\s+", prompt) if part.strip()]
    missed = [part.strip() for part in asks if not _apply(page, part.strip()) and not _add(page, part.strip())]
    return page, missed[:8]


def _apply(page: Node, words: str) -> bool:
    """Try each rule whose verb occurs."""
    return any(pattern.search(words) and rule(page, words) for pattern, rule in _RULES)


def _targets(page: Node, words: str) -> list[Node]:
    """The nodes that the words mean."""
    match = _TARGET.search(re.sub(_QUOTED, " ", words))
    if match is None:
        return []
    kind = _TARGETS[match[1].lower()]
    if kind == "page" and re.search(r"background\s+of\s+the\s+(\w+)", words, re.I):
        kind = _TARGETS.get(re.search(r"background\s+of\s+the\s+(\w+)", words, re.I)[1].lower(), "page")  # type: ignore[index]
    found = [node for node in page.walk() if _is(node, kind)]
    if kind == "heading" and len(found) > 1 and not re.search(r"\b(all|every|headings|titles)\b", words, re.I):
        found = [max(found, key=lambda node: node.font)]
    for word, index in _ORDINALS.items():
        if found and re.search(rf"\b{word}\b", words, re.I):
            return [found[index]] if -len(found) <= index < len(found) else []
    return found


def _is(node: Node, kind: str) -> bool:
    if kind in ("header", "footer", "card", "page"):
        return node.role == kind
    if kind == "heading":
        return node.kind == "text" and (node.font > 20 or (node.bold and node.font > 17))
    return node.kind == kind


def _colour(words: str) -> RGB | None:
    if match := _HEX.search(words):
        return int(match[1][:2], 16), int(match[1][2:4], 16), int(match[1][4:], 16)
    for name, colour in _COLOURS.items():
        if re.search(rf"\b{name}\b", words, re.I):
            hue, light, saturation = colorsys.rgb_to_hls(*(part / 255 for part in colour))
            shift = 0.2 if re.search(r"\blight\b", words, re.I) else -0.18 if re.search(r"\bdark\b", words, re.I) else 0
            red, green, blue = colorsys.hls_to_rgb(hue, min(1.0, max(0.0, light + shift)), saturation)
            return round(red * 255), round(green * 255), round(blue * 255)
    return None


def _quoted(words: str) -> str | None:
    match = _QUOTED.search(words)
    return (match[1] or match[2]).strip() if match else None


def _paint(page: Node, words: str) -> bool:
    colour, nodes = _colour(re.sub(r"[\"“][^\"”]*[\"”]", " ", words)), _targets(page, words)
    if colour is None or not nodes:
        return False
    text_only = re.search(r"\b(text|font|letters)\b", words, re.I) is not None
    for node in nodes:
        if node.kind == "text" or text_only:
            for one in node.walk():
                one.color = colour
            continue
        node.background = colour
        node.color = readable_on(colour)
        for child in node.children:
            _recolour(child, colour)
    return True


def _recolour(node: Node, background: RGB) -> None:
    """Text stays readable on its new background, down to boxes with backgrounds of their own."""
    if node.background is None:
        if node.kind == "text":
            node.color = readable_on(background)
        for child in node.children:
            _recolour(child, background)


def _scale(page: Node, words: str) -> bool:
    nodes = _targets(page, words)
    factor = 0.75 if re.search(r"\b(smaller|shrink|reduce|narrower|decrease)\b", words, re.I) else 1.3
    for node in nodes:
        for one in node.walk() if node.kind != "text" else [node]:
            one.font = max(8, min(200, round(one.font * factor)))
        if node.kind in ("button", "image", "input"):
            box = node.box
            node.box = Box(box.x, box.y, min(4000, round(box.width * factor)), min(4000, round(box.height * factor)))
    return bool(nodes)


def _round(page: Node, words: str) -> bool:
    nodes = _targets(page, words) or [node for node in page.walk() if node.role == "card" or node.kind == "button"]
    square = re.search(r"\b(square|sharp)\b", words, re.I) is not None
    for node in nodes:
        node.radius = 0 if square else 16
    return bool(nodes)


def _centre(page: Node, words: str) -> bool:
    nodes = _targets(page, words)
    for node in nodes:
        node.centred = True
    return bool(nodes)


def _bolden(page: Node, words: str) -> bool:
    nodes = _targets(page, words)
    for node in nodes:
        for one in node.walk():
            one.bold = True
    return bool(nodes)


def _remove(page: Node, words: str) -> bool:
    doomed = {id(node) for node in _targets(page, words)} - {id(page)}
    for node in list(page.walk()):
        node.children = [child for child in node.children if id(child) not in doomed]
    return bool(doomed)


def _rename(page: Node, words: str) -> bool:
    text, nodes = _quoted(words), _targets(page, words)
    with_text = [one for node in nodes for one in node.walk() if one.kind in ("text", "button", "input")]
    if text is None or not with_text:
        return False
    with_text[0].text, with_text[0].lines = text, 1
    return True


def _add(page: Node, words: str) -> bool:
    match = _TARGET.search(re.sub(_QUOTED, " ", words))
    if match is None or sum(1 for _ in page.walk()) > _MOST_ADDED * 4:
        return False
    kind = _TARGETS[match[1].lower()]
    inside = re.search(r"\b(?:to|in|into|inside)\s+the\s+(header|footer|card|first card|last card)\b", words, re.I)
    parents = _targets(page, inside[1]) if inside else []
    parent = parents[0] if parents else page
    last = parent.children[-1].box if parent.children else Box(parent.box.x, parent.box.y, 0, 0)
    if parent.kind == "row":
        place = Box(last.right + 24, last.y, 160, 44)
    elif parent is page and parent.children and parent.children[-1].role == "footer":
        place = Box(32, last.y - 64, 160, 44)
    else:
        place = Box(last.x if parent.children else 32, last.bottom + 24, 160, 44)
    node = _new(kind, place, _quoted(words), _colour(words))
    if node is None:
        return False
    position = len(parent.children) - (1 if place.bottom <= last.y else 0)
    parent.children.insert(0 if node.role == "header" else position, node)
    return True


def _new(kind: str, place: Box, text: str | None, colour: RGB | None) -> Node | None:
    x, y = place.x, place.y
    if kind == "button":
        back = colour or (37, 99, 235)
        return Node("button", place, background=back, color=readable_on(back), radius=8, text=text or "Button")
    if kind == "heading":
        return Node(
            "text", Box(x, y, 480, 36), font=32, bold=True, text=text or "Heading", color=colour or (17, 24, 39)
        )
    if kind == "text":
        return Node("text", Box(x, y, 480, 20), font=16, text=text or "Some text", color=colour or (55, 65, 81))
    if kind == "image":
        return Node("image", Box(x, y, 320, 180), background=colour or (209, 213, 219))
    if kind == "input":
        white, line = (255, 255, 255), (156, 163, 175)
        return Node("input", Box(x, y, 260, 44), background=white, border=line, radius=6, text=text or "Text")
    if kind in ("header", "footer", "card"):
        back = colour or ((243, 244, 246) if kind == "card" else (17, 24, 39))
        words = Node("text", Box(x + 24, y + 20, 300, 20), color=readable_on(back), text=text or kind.capitalize())
        shape = Box(x, y, 320, 120) if kind == "card" else Box(0, y, 1000, 60)
        role = kind if kind in ("header", "footer", "card") else None
        return Node("column", shape, background=back, role=role, children=[words])  # type: ignore[arg-type]
    return None


def _theme(page: Node, words: str) -> bool:
    dark = re.search(r"\bdark\b", words, re.I) is not None
    back, front, card = ((17, 24, 39), (243, 244, 246), (31, 41, 55)) if dark else (
        (255, 255, 255), (17, 24, 39), (243, 244, 246)
    )  # fmt: skip
    for node in page.walk():
        if node.role == "page":
            node.background = back
        elif node.kind in ("row", "column") and node.background is not None:
            node.background = card
        elif node.kind == "text":
            node.color = front
    return True


_VERBS = r"(?:make|change|set|turn|paint|colou?r|add|insert|put|remove|delete|drop|hide|cent(?:er|re)|round|rename)\b"
_RULES: tuple[tuple[re.Pattern[str], Callable[[Node, str], bool]], ...] = tuple(
    (re.compile(pattern, re.I), rule)
    for pattern, rule in (
        (r"\b(dark|light)\s+(mode|theme)\b", _theme),
        (r"\b(add|insert|put)\b", _add),
        (r"\b(remove|delete|drop|hide|get rid of)\b", _remove),
        (r"\b(rename|change|set|make)\b.*(\bto\b|\bsay\b|\bread\b|[\"“'])", _rename),
        (r"\b(bigger|larger|smaller|enlarge|shrink|increase|decrease|reduce|grow|narrower)\b", _scale),
        (r"\b(round(ed|er)?|square|sharp)\b", _round),
        (r"\b(center|centre|centered|centred)\b", _centre),
        (r"\bbold(er)?\b", _bolden),
        (r"", _paint),
    )
)
