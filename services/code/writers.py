"""Elements as source text: HTML with CSS, or Tailwind's classes in HTML, React or Vue. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import orjson

from services.code.elements import Element

__all__ = ["STACKS", "pieces_of", "write"]

_VOID = ("img", "input")
_PIECE = re.compile(r"\s*[^\s\w]*\w{1,10}|\s*[^\s\w]{1,4}|\s+")
_MOST_PIECES = 1000
_TAILWIND = "https://cdn.tailwindcss.com"
"""In the code that is written, as everybody writes it; the service itself fetches nothing."""

_UTILITIES = {
    "display:flex": "flex", "display:grid": "grid", "flex-direction:column": "flex-col", "margin:0": "m-0",
    "align-items:center": "items-center", "align-items:flex-start": "items-start", "position:relative": "relative",
    "position:absolute": "absolute", "font-weight:700": "font-bold", "min-height:100vh": "min-h-screen",
    "align-self:center": "self-center", "text-align:center": "text-center", "cursor:pointer": "cursor-pointer",
    "border:none": "border-0", "box-sizing:border-box": "box-border", "object-fit:cover": "object-cover",
    "margin-left:auto": "ml-auto",
}  # fmt: skip
_PREFIXES = {
    "width": "w", "height": "h", "margin-left": "ml", "margin-top": "mt", "padding-top": "pt", "padding-bottom": "pb",
    "padding-left": "pl", "left": "left", "top": "top", "gap": "gap", "background": "bg", "color": "text",
    "font-size": "text", "line-height": "leading", "max-width": "max-w", "border-radius": "rounded",
    "grid-template-columns": "grid-cols", "padding": "p",
}  # fmt: skip


def write(root: Element, stack: str, notes: list[str] | None = None) -> str:
    """The source text. ``stack`` is a key of ``STACKS``; ``notes`` become comments at the top."""
    return STACKS[stack](root, notes or [])


def pieces_of(code: str) -> list[str]:
    """The text in pieces as a model's tokens are, longer ones where there would be too many. They join to ``code``."""
    pieces = _PIECE.findall(code)
    together = -(-len(pieces) // _MOST_PIECES)
    return ["".join(pieces[start : start + together]) for start in range(0, len(pieces), together)]


def _html_css(root: Element, notes: list[str]) -> str:
    classes: dict[str, str] = {}

    def attributes(element: Element) -> str:
        declarations = "; ".join(f"{name}: {value}" for name, value in element.styles.items())
        name = classes.setdefault(declarations, f"{element.tag}-{len(classes) + 1}")
        return f' class="{name}"' + _plain(element.attributes)

    body = "\n".join(_lines(root, attributes, 1))
    rules = "\n".join(f"    .{name} {{ {text} }}" for text, name in classes.items())
    return _document(f"  <style>\n    body {{ margin: 0; }}\n{rules}\n  </style>", body, notes)


def _html_tailwind(root: Element, notes: list[str]) -> str:
    body = "\n".join(_lines(root, lambda element: _classes("class", element) + _plain(element.attributes), 1))
    return _document(f'  <script src="{_TAILWIND}"></script>', body, notes)


def _document(head: str, body: str, notes: list[str]) -> str:
    comments = "".join(f"<!-- {_comment(note)} -->\n" for note in notes)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n  <meta charset="utf-8">\n'
        '  <meta name="viewport" content="width=device-width, initial-scale=1">\n  <title>Page</title>\n'
        f"{head}\n</head>\n<body>\n{comments}{body}\n</body>\n</html>\n"
    )


def _react_tailwind(root: Element, notes: list[str]) -> str:
    def attributes(element: Element) -> str:
        return _classes("className", element) + _plain(element.attributes)

    comments = "".join(f"// {_comment(note)}\n" for note in notes)
    body = "\n".join(_lines(root, attributes, 2, jsx=True))
    return f"{comments}export default function Page() {{\n  return (\n{body}\n  );\n}}\n"


def _vue_tailwind(root: Element, notes: list[str]) -> str:
    body = "\n".join(_lines(root, lambda element: _classes("class", element) + _plain(element.attributes), 1, vue=True))
    comments = "".join(f"<!-- {_comment(note)} -->\n" for note in notes)
    return f"{comments}<template>\n{body}\n</template>\n\n<script setup>\n</script>\n"


STACKS: Mapping[str, Callable[[Element, list[str]], str]] = MappingProxyType(
    {
        "html_css": _html_css,
        "html_tailwind": _html_tailwind,
        "react_tailwind": _react_tailwind,
        "vue_tailwind": _vue_tailwind,
    }
)


def _lines(
    element: Element, attributes: Callable[[Element], str], depth: int, *, jsx: bool = False, vue: bool = False
) -> Iterator[str]:
    indent = "  " * depth
    opening = f"{indent}<{element.tag}{attributes(element)}"
    if element.tag in _VOID:
        yield f"{opening} />" if jsx or vue else f"{opening}>"
        return
    if element.text:
        yield f"{opening}>{_text(element.text, jsx=jsx, vue=vue)}</{element.tag}>"
        return
    if not element.children:
        yield f"{opening} />" if jsx else f"{opening}></{element.tag}>"
        return
    yield f"{opening}>"
    for child in element.children:
        yield from _lines(child, attributes, depth + 1, jsx=jsx, vue=vue)
    yield f"{indent}</{element.tag}>"


def _text(text: str, *, jsx: bool, vue: bool) -> str:
    """A client's words are text wherever they stand: never a tag, an expression or a binding."""
    if jsx and re.search(r"[{}<>&]", text):
        return "{" + orjson.dumps(text).decode().replace("<", "\\u003c") + "}"
    escaped = html.escape(text, quote=False)
    return escaped.replace("{{", "&#123;&#123;") if vue else escaped


def _plain(attributes: Mapping[str, str]) -> str:
    return "".join(f' {name}="{html.escape(value)}"' for name, value in attributes.items())


def _classes(attribute: str, element: Element) -> str:
    names = " ".join(_utility(name, value) for name, value in element.styles.items())
    return f' {attribute}="{html.escape(names)}"'


def _utility(name: str, value: str) -> str:
    """One of Tailwind's classes; a property that has none is written out in brackets."""
    fixed = _UTILITIES.get(f"{name}:{value}")
    if fixed is not None:
        return fixed
    value = value.replace(" ", "_")
    prefix = _PREFIXES.get(name)
    return f"{prefix}-[{value}]" if prefix else f"[{name}:{value}]"


def _comment(note: str) -> str:
    """A note that cannot end its comment."""
    return re.sub(r"--+|[<>]|\*/", " ", " ".join(note.split()))
