"""What may pass, what is kept back until it is known, and what a file is by its first bytes."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from app.config.uploads import UploadConfig
from app.errors import FileTooLarge, InvalidUpload, UnsupportedFile
from app.http.uploads.inspector import Inspector
from app.http.uploads.sniffing import WINDOW, sniff
from tests.http.uploads.support import BOUNDARY, JPEG, PNG, SVG, cut, field, form, part


def passed(body: bytes, *places: int, **config: Any) -> bytes:
    """Return what is sent on of ``body``, all of it, or raise."""
    inspector = Inspector(UploadConfig(**config), BOUNDARY)
    sent = b"".join([inspector.feed(piece) for piece in cut(body, places)])
    inspector.end()
    return sent


def sent_before(body: bytes, error: type[Exception], **config: Any) -> bytes:
    """Return what is sent on byte by byte until ``body`` is refused with ``error``."""
    inspector, sent = Inspector(UploadConfig(**config), BOUNDARY), b""
    try:
        for at in range(len(body)):
            sent += inspector.feed(body[at : at + 1])
    except error:
        return sent
    raise AssertionError("all of it passed")


def image(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, kind)
    return out.getvalue()


def ftyp(*brands: bytes) -> bytes:
    box = b"ftyp" + brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
    return (len(box) + 4).to_bytes(4, "big") + box + b"\0\0\0\x08free"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (image("PNG"), "image/png"),
        (image("JPEG"), "image/jpeg"),
        (image("GIF"), "image/gif"),
        (image("WEBP"), "image/webp"),
        (image("PDF"), "application/pdf"),
        (ftyp(b"avif", b"mif1"), "image/avif"),
        (ftyp(b"mif1", b"avif"), "image/avif"),
        (ftyp(b"heic", b"mif1"), "image/heic"),
        (ftyp(b"mif1", b"heic"), "image/heic"),
        (ftyp(b"isom", b"mp41"), "video/mp4"),
        (ftyp(b"zzzz", b"mp42"), "video/mp4"),
        (ftyp(b"M4A ", b"isom"), "audio/mp4"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "video/webm"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska", None),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
        (b"RIFF\x24\0\0\0AVI LIST", None),
        (b"ID3\x04\0", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", None),
        (b"\xff\xfeh\0e\0", None),
        (b"OggS\0\x02", "audio/ogg"),
        (SVG, "image/svg+xml"),
        (b"\xef\xbb\xbf \n<SVG/>", "image/svg+xml"),
        (b"<!-- a --><!-- b --><svg>", "image/svg+xml"),
        (b'<x:svg xmlns:x="http://www.w3.org/2000/svg">', "image/svg+xml"),
        (b"<!--" + b" " * WINDOW, "text/html"),
        (b"<!DOCTYPE html><script>", "text/html"),
        (b"<script>alert(1)</script>", "text/html"),
        (b"a,b\n1,2\n", None),
        (b"", None),
        (b"\0\0\0\x20ftyp", None),
    ],
)
def test_a_file_is_what_its_first_bytes_say(head: bytes, kind: str | None) -> None:
    assert sniff(head[:WINDOW]) == kind


def test_a_window_of_comments_takes_no_time() -> None:
    assert sniff(b"<!---->" * 73) == "text/html"


def test_a_form_of_good_files_passes_as_it_came_cut_at_every_place() -> None:
    body = form(field(b"a cat"), part(PNG), part(JPEG * 20, "photo", "b.jpg", "image/jpg"), part(b"", "none", "", None))
    for at in range(0, len(body), 3):
        assert passed(body, at) == body
    assert passed(body, *range(1, len(body))) == body


@pytest.mark.parametrize(
    ("content", "file", "declared"),
    [
        (SVG, "a.svg", "image/svg+xml"),
        (SVG, "a.png", "image/png"),
        (SVG, "a.bin", "application/octet-stream"),
        (JPEG, "a.png", "image/png"),
        (b"MZ\x90\0" * 200, "a.png", "image/png"),
        (b"MZ\x90\0", "a.exe", "application/octet-stream"),
        (b"<script>", "a.txt", None),
        (b"", "a.png", "image/png"),
        (b"hello", "a.txt", "text/plain"),
        (PNG, "a.html", "text/html"),
    ],
)
def test_nothing_of_a_file_that_is_not_allowed_is_sent_on(content: bytes, file: str, declared: str | None) -> None:
    first = form(field(b"a cat"))[: -len(b"--" + BOUNDARY + b"--\r\n")]
    body = first + form(part(content, "shot", file, declared))
    sent = sent_before(body, UnsupportedFile)
    assert first.startswith(sent)
    with pytest.raises(UnsupportedFile) as caught:
        passed(body)
    assert caught.value.field == "shot"
    assert (caught.value.code, caught.value.status) == ("unsupported_file", 415)


@pytest.mark.parametrize(
    ("content", "declared", "types"),
    [
        (SVG, "image/svg+xml", ["image/svg+xml"]),
        (PNG, None, ["image/*"]),
        (PNG, "application/octet-stream", ["image/png"]),
        (b"a,b", "text/csv", ["text/csv"]),
        (b"a,b", "text/csv", ["text/*"]),
        (ftyp(b"isom", b"mp41"), "audio/mp4", ["audio/*"]),
        (b"\x1a\x45\xdf\xa3\x9fB\x82\x84webm", "audio/webm", ["audio/webm"]),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio/x-wav", ["audio/wave"]),
    ],
)
def test_what_is_named_passes(content: bytes, declared: str | None, types: list[str]) -> None:
    body = form(part(content, kind=declared))
    assert passed(body, types=types) == body


@pytest.mark.parametrize(("content", "types"), [(SVG, ["image/*"]), (b"<html>", ["text/*"]), (SVG, ["image/png"])])
def test_a_family_does_not_hold_what_can_carry_scripts(content: bytes, types: list[str]) -> None:
    with pytest.raises(UnsupportedFile):
        passed(form(part(content, kind=None)), types=types)


@pytest.mark.parametrize(
    ("body", "config", "error", "field_"),
    [
        (form(part(PNG), part(PNG, "more")), {"max_files": 1}, InvalidUpload, "more"),
        (form(field(b"x"), field(b"y", "other")), {"max_fields": 1}, InvalidUpload, "other"),
        (form(part(PNG, "sneaky")), {"fields": ["image"]}, InvalidUpload, "sneaky"),
        (form(part(PNG * 10)), {"max_file_bytes": len(PNG) * 10 - 1}, FileTooLarge, "image"),
        (form(field(b"x" * 101)), {"max_field_bytes": 100}, FileTooLarge, "prompt"),
        (form(part(PNG, file=None)), {}, UnsupportedFile, "image"),
    ],
)
def test_limits_name_the_field_that_went_past_them(
    body: bytes, config: dict[str, Any], error: type[InvalidUpload], field_: str
) -> None:
    for places in ((), range(1, len(body))):
        with pytest.raises(error) as caught:
            passed(body, *places, **config)
        assert type(caught.value) is error
        assert caught.value.field == field_


def test_a_file_of_just_its_limit_passes() -> None:
    body = form(part(PNG * 10))
    assert passed(body, max_file_bytes=len(PNG) * 10) == body


def test_a_type_that_is_none_is_no_setting() -> None:
    with pytest.raises(ValueError, match="no media type"):
        UploadConfig(types=["png"])
