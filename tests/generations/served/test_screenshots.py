"""The frames of a variant: what of a model's text is its code."""

from __future__ import annotations

import json

import pytest

from app.generations.event_json import encode
from app.generations.events import Completed, Delta
from app.generations.formats.served.screenshots import VariantFrames

PAGE = "<html>\n<p>a</p>\n</html>\n"


def shown(text: str, step: int) -> str:
    """Return what a front end shows at the end of a text that comes in pieces of ``step`` characters."""
    frames, code = VariantFrames(0), ""
    events = [Delta(text[place : place + step]) for place in range(0, len(text), step)]
    for event in [*events, Completed("stop")]:
        for told in map(json.loads, frames.take(encode(event))):
            if told["type"] == "chunk":
                code += told["value"]
            elif told["type"] == "setCode":
                code = told["value"]
    return code


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (PAGE, PAGE),
        (f"```html\n{PAGE}```", PAGE),
        (f"```html\n{PAGE}```\n\n", PAGE),
        ("```html\n<p>a</p>```", "<p>a</p>"),
        (f"```\n{PAGE}```\nThis page has a `p`.", PAGE),
        (f"Here is the page:\n\n```html\n{PAGE}```\nHave fun!", PAGE),
        (f"```html\n{PAGE}```\nand\n```css\np {{}}\n```", PAGE),
        (f"```html\n{PAGE}", PAGE),
        ("<pre>\n```js\nx\n```\n</pre>", "<pre>\n```js\nx\n```\n</pre>"),
        ("words alone", "words alone"),
        ("``", "``"),
        ("", ""),
    ],
)
def test_words_and_fences_around_the_code_are_no_part_of_it(text: str, code: str, step: int) -> None:
    assert shown(text, step) == code
