"""Files as blocks and passages: what is read of them, and what nobody may make a reader do."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.blocks import Block, decoded, markdown_blocks, text_blocks
from services.ingest.pages import html_blocks, html_text
from services.ingest.passages import passages_of
from services.ingest.reader import FileMissing, read
from services.ingest.reading import Unreadable
from services.ingest.settings import IngestSettings
from services.ingest.sniffing import kind_of
from tests.support.pdf import pdf, pdf_of_objects


@pytest.mark.parametrize(
    ("head", "name", "declared", "kind"),
    [
        (b"%PDF-1.7\n", "a.txt", "text/plain", "pdf"),
        (b"\xef\xbb\xbf junk %PDF-1.4", "a", "", "pdf"),
        (b"<!DOCTYPE html><p>x", "a.txt", "text/plain", "html"),
        (b"\n<!-- a --><HTML>", "", "", "html"),
        (b"<p>x</p>", "a.html", "", "html"),
        (b"# x", "a.MD", "application/octet-stream", "markdown"),
        (b"# x", "", "text/markdown", "markdown"),
        (b"plain", "a.log", "", "text"),
        ("wide".encode("utf-16"), "a.txt", "", "text"),
        (b"PK\x03\x04rest", "a.txt", "text/plain", None),
        (b"\x1f\x8b\x08", "a.md", "", None),
        (b"\x89PNG\r\n", "a.pdf", "application/pdf", None),
        (b"no pdf", "a.pdf", "application/pdf", None),
        (b"a\x00b", "a.txt", "text/plain", None),
        (b"MZ\x90", "a.html", "text/html", None),
    ],
)
def test_a_file_is_what_its_bytes_say(head: bytes, name: str, declared: str, kind: str | None) -> None:
    assert kind_of(head, name, declared) == kind


def test_markdown_is_read_under_its_headings_without_markup() -> None:
    text = (
        "---\ntitle: x\n---\n# The *first*\n\nSome **bold** [link](http://x.y) and `code`.\n\nUnderlined\n----------\n"
        "\n```python\n# no heading\nx = a_b\n```\n\n| name | price |\n|---|---|\n| tea | 3 |\n\n"
        "<script>alert(1)</script><b>end</b>"
    )
    assert list(markdown_blocks(text)) == [
        Block("Some bold link and code.", "The first"),
        Block("# no heading\nx = a_b", "Underlined"),
        Block("name: price", "Underlined"),
        Block("tea: 3", "Underlined"),
        Block("end", "Underlined"),
    ]


def test_html_is_what_a_reader_sees() -> None:
    page = (
        "<html><head><title>T</title><style>p{}</style><script>steal()</script></head><body><h1>One &amp; two</h1>"
        "<p>Text <b>bold</b><br>next</p><p hidden>unseen</p><div style='display: none'>unseen<div>too</div></div>"
        "<ul><li>a<li>b</ul><!-- comment --><noscript>no</noscript><table><tr><td>1</td><td>2</td></table>"
        "<svg><text>art</text></svg><p onclick='x()'>last</body></html></div></div>"
    )
    assert list(html_blocks(page)) == [
        Block("Text bold\nnext", "One & two"),
        Block("a", "One & two"),
        Block("b", "One & two"),
        Block("1", "One & two"),
        Block("2", "One & two"),
        Block("last", "One & two"),
    ]


@given(st.text(alphabet="<>/!-= \"'&;abscriptdvh1\n", max_size=300))
def test_no_page_breaks_the_reader(page: str) -> None:
    assert all(block.text for block in html_blocks(page))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("café".encode(), "café"),
        ("café".encode("utf-8-sig"), "café"),
        ("café".encode("utf-16"), "café"),
        ("café".encode("cp1252"), "café"),
        ("cafés à Zürich".encode() + b" \xff", "cafés à Zürich �"),
        (b"\x80\x81", "€�"),
    ],
)
def test_texts_are_read_in_whatever_encoding_they_come(data: bytes, text: str) -> None:
    assert decoded(data) == text


def test_a_page_says_its_encoding_itself_and_no_codec_of_python_is_run() -> None:
    page = '<meta charset="iso-8859-5"><p>Привет, мир'
    assert "Привет" in html_text(page.encode("iso-8859-5"))
    for name in (b"zlib_codec", b"rot13", b"hex", b"unicode_escape_of_nobody", b"idna"):
        assert html_text(b"<meta charset='" + name + b"'><p>caf\xe9").endswith("café")


@given(st.binary(max_size=400))
def test_no_bytes_are_an_error(data: bytes) -> None:
    for block in [*text_blocks(decoded(data)), *markdown_blocks(decoded(data))]:
        block.text.encode()
        assert block.text.strip()


@given(
    st.lists(
        st.builds(Block, st.text(min_size=1, max_size=400).map(lambda t: t.strip() or "x"), st.sampled_from("AB"))
    ),
    st.integers(20, 200),
)
def test_passages_keep_every_word_in_order_within_their_length_and_heading(blocks: list[Block], length: int) -> None:
    passages = list(passages_of(blocks, "title", length))
    assert all(0 < len(passage.text) <= length for passage in passages)
    kept = "".join("".join(passage.text.split()) for passage in passages)
    assert kept == "".join("".join(block.text.split()) for block in blocks)
    headings = [block.heading or "title" for block in blocks]
    assert [p.heading for p in passages if p.heading not in headings] == []


async def test_a_pdf_is_read_page_by_page(tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(pdf("The first page has a hyphen-\nated word (in brackets).", "Página segunda: año."))
    blocks, pages = await read(file, "pdf", IngestSettings())
    assert pages == 2
    assert [(block.page, block.text) for block in blocks] == [
        (1, "The first page has a hyphenated word (in brackets)."),
        (2, "Página segunda: año."),
    ]


def bomb() -> bytes:
    """A page of 300 MB of spaces in 300 KB."""
    packer = zlib.compressobj(1)
    return b"".join([*(packer.compress(b" " * 10_000_000) for _ in range(30)), packer.flush()])


LOOP = pdf_of_objects(b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 >>")
HOSTILE = {
    "a bomb": lambda: pdf("x", stream=bomb()),
    "a loop of pages": lambda: LOOP,
    "a damaged stream": lambda: pdf("x", stream=b"not compressed at all"),
    "a cut file": lambda: pdf("some text", "more text")[:300],
    "only a mark": lambda: b"%PDF-1.7\n" + b"\x00" * 5000,
    "no text": lambda: pdf("", ""),
    "very many pages": lambda: pdf_of_objects(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count 6000 >>" % b" ".join(b"3 0 R" for _ in range(6000)),
        b"<< /Type /Page /Parent 2 0 R >>",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_pdf_is_unreadable_and_ends_in_time(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(HOSTILE[kind]())
    began = time.monotonic()
    with pytest.raises(Unreadable) as told:
        await read(file, "pdf", IngestSettings(read_memory=400 * 1024 * 1024, read_seconds=30))
    assert str(told.value).endswith(".")
    assert str(tmp_path) not in str(told.value)
    assert time.monotonic() - began < 45


async def test_a_reader_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    file.write_text("<p>x</p>" * 100)
    with pytest.raises(Unreadable, match="too long"):
        await read(file, "html", IngestSettings(read_seconds=0.001))


async def test_text_past_the_limit_is_refused_and_a_missing_file_is_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("word " * 1000)
    with pytest.raises(Unreadable, match="more than 1000 characters"):
        await read(file, "text", IngestSettings(max_characters=1000))
    with pytest.raises(FileMissing):
        await read(tmp_path / "b.txt", "text", IngestSettings())
