from __future__ import annotations

import io
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from services.code.analysis import analyse, dominant_colours
from services.code.edits import apply_instruction, page_of_words
from services.code.elements import STRATEGIES, elements_of
from services.code.picture import check_picture, data_url_bytes, decode_picture
from services.code.tree import Node
from services.code.writers import STACKS, pieces_of, write
from services.web.errors import Invalid, TooLarge
from tests.support.screenshot import draw_page, png


def page(**more: object) -> Node:
    return analyse(np.asarray(draw_page(**more)))  # type: ignore[arg-type]


def kinds(node: Node, kind: str) -> list[Node]:
    return [one for one in node.walk() if one.kind == kind]


def code(node: Node, strategy: str = "flow", stack: str = "html_css") -> str:
    return write(elements_of(node, strategy), stack)


class WellFormed(HTMLParser):
    """Follows the tags; fails where one closes that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in ("img", "input", "meta"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_pages_parts_are_found_where_they_are() -> None:
    found = page()
    assert found.background == (255, 255, 255)
    roles = {node.role: node.box for node in found.walk() if node.role in ("header", "footer")}
    assert (roles["header"].y, roles["header"].height) == (0, 64)
    assert (roles["footer"].y, roles["footer"].height) == (640, 60)
    (button,) = kinds(found, "button")
    assert button.background == (37, 99, 235)
    assert abs(button.box.x - 60) <= 1
    assert abs(button.box.width - 161) <= 2
    assert button.radius > 4
    (field,) = kinds(found, "input")
    assert field.border is not None
    cards = [node for node in found.walk() if node.role == "card"]
    assert [(card.box.x, card.background) for card in cards] == [(x, (243, 244, 246)) for x in (60, 360, 660)]
    assert [len(kinds(card, "image")) for card in cards] == [1, 1, 1]
    assert all(node.source == "picture" for node in kinds(found, "image"))


def test_text_is_told_by_size_lines_and_colour() -> None:
    texts = kinds(page(), "text")
    heading = max(texts, key=lambda node: node.font)
    assert 30 <= heading.font <= 50
    assert max(heading.color) < 60
    assert [node.lines for node in texts if node.box.y == min(t.box.y for t in texts if t.box.y > 180)] == [2]
    assert len(kinds(next(node for node in page().walk() if node.role == "header"), "text")) == 4


@pytest.mark.parametrize(
    "change", [{"accent": (220, 38, 38)}, {"cards": 2}, {"bar": (147, 51, 234)}], ids=lambda change: next(iter(change))
)
def test_another_screenshot_gives_other_code(change: dict[str, object]) -> None:
    assert code(page()) != code(page(**change))


def test_a_jpeg_of_the_page_gives_nearly_the_same_layout() -> None:
    buffer = io.BytesIO()
    draw_page().save(buffer, "JPEG", quality=85)
    found = analyse(np.asarray(Image.open(buffer)))
    assert {"header", "footer"} <= {node.role for node in found.walk()}
    assert len(kinds(found, "button")) == 1


def test_the_colours_are_those_of_the_picture() -> None:
    image = Image.new("RGB", (100, 100), (250, 10, 20))
    ImageDraw.Draw(image).rectangle((0, 0, 99, 24), fill=(0, 0, 200))
    assert dominant_colours(np.asarray(image), 2) == [((250, 10, 20), 0.75), ((0, 0, 200), 0.25)]


@pytest.mark.parametrize("size", [(8, 8), (8, 3000), (3000, 8), (300, 300)])
def test_nothing_and_noise_end_as_pages(size: tuple[int, int]) -> None:
    for pixels in (
        np.full((size[1], size[0], 3), 255, np.uint8),
        np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8),
    ):
        assert "<body>" in code(analyse(pixels))


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_stack_and_strategy_writes_whole_elements(stack: str, strategy: str) -> None:
    text = code(page(), strategy, stack)
    markup = text.split("return (")[1].split(");")[0] if stack == "react_tailwind" else text
    parser = WellFormed()
    parser.feed(markup)
    assert parser.open == []
    assert {"header", "footer", "button", "input"} <= set(parser.seen)
    assert "".join(pieces_of(text)) == text
    assert len(pieces_of(text)) <= 1000


def test_strategies_differ_in_how_they_lay_out() -> None:
    texts = {strategy: code(page(), strategy) for strategy in STRATEGIES}
    assert "grid-template-columns" in texts["grid"]
    assert "grid-template-columns" not in texts["flow"]
    assert "position: absolute" in texts["absolute"]
    assert "#ffffff" in texts["flow"].split("</style>")[0].split("}")[1]
    assert "#ffffff" not in texts["dark"].split("</style>")[0].split("}")[1]


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("make the header blue", "background: #2563eb"),
        ("Make the button background #ff8800", "background: #ff8800"),
        ('add a button saying "Buy now"', ">Buy now</button>"),
        ('change the title to "Hello you"', ">Hello you</h1>"),
        ("remove the footer", None),
        ("dark mode", "background: #111827"),
        ("add an image and make the header red", "background: #dc2626"),
    ],
)
def test_an_instruction_that_is_understood_changes_the_code(instruction: str, expected: str | None) -> None:
    found = page()
    before = code(found)
    assert apply_instruction(found, instruction) == []
    after = code(found)
    assert after != before
    if expected is None:
        assert "<footer" in before
        assert "<footer" not in after
    else:
        assert expected in after


def test_ordinals_choose_one_and_text_stays_readable() -> None:
    found = page()
    assert apply_instruction(found, "make the second card black; make the header white") == []
    cards = [node for node in found.walk() if node.role == "card"]
    assert [card.background for card in cards] == [(243, 244, 246), (0, 0, 0), (243, 244, 246)]
    header = next(node for node in found.walk() if node.role == "header")
    assert all(max(text.color) < 60 for text in kinds(header, "text"))


def test_what_is_not_understood_is_said_and_the_rest_is_done() -> None:
    found = page()
    missed = apply_instruction(found, "make the header blue, then translate it to Latin")
    assert missed == ["translate it to Latin"]
    text = write(elements_of(found, "flow"), "html_css", [f"Not done: {missed[0]} --> <script>"])
    assert "Not done: translate it to Latin" in text
    assert "<script>" not in text


@pytest.mark.parametrize("stack", STACKS)
def test_a_clients_words_are_text_and_never_markup(stack: str) -> None:
    found = page()
    apply_instruction(found, 'change the title to "</h1><script>alert(1)</script>{{evil}}{evil}"')
    text = code(found, "flow", stack)
    assert "evil" in text
    assert "<script>alert" not in text
    assert '>{"\\u003c/h1>' in text or stack != "react_tailwind"
    assert "{{evil" not in text or stack != "vue_tailwind"


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_no_instruction_breaks_the_page(words: str) -> None:
    found, missed = page_of_words(words)
    apply_instruction(found, words)
    assert "<body>" in write(elements_of(found, "flow"), "html_css", missed)


def test_a_picture_is_known_by_its_content_and_bounded_by_its_header() -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        assert check_picture(png(draw_page(), kind), 1_000_000) == (1000, 700)
    for wrong in (b"", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"GIF89a", png(draw_page(), "BMP")):
        with pytest.raises(Invalid):
            check_picture(wrong, 1_000_000)
    with pytest.raises(TooLarge):
        check_picture(png(Image.new("1", (16_000, 16_000))), 20_000_000)
    with pytest.raises(Invalid):
        decode_picture(png(draw_page())[:3000])


@pytest.mark.parametrize("text", ["data:text/html;base64,AAAA", "http://x/y.png", "data:image/png;base64,***", "é"])
def test_only_data_urls_of_pictures_are_taken(text: str) -> None:
    with pytest.raises(Invalid):
        data_url_bytes(text, 1000)
    with pytest.raises(TooLarge):
        data_url_bytes("data:image/png;base64," + "A" * 5000, 1000)
