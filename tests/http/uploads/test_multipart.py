"""The reader of forms: the same events however the body is cut, and nothing that two parsers read differently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser

from app.errors import InvalidUpload
from app.http.uploads.multipart import Data, End, MultipartReader, Part, boundary_of
from tests.http.uploads.support import BOUNDARY, PNG, cut, field, form, part

Read = list[tuple[str, str | None, str, bytes]]


def read(pieces: list[bytes], boundary: bytes = BOUNDARY) -> tuple[Read, bytes]:
    """Return name, file, type and content of each part, and all raw bytes together."""
    reader, parts, raw = MultipartReader(boundary), [], b""
    for piece in pieces:
        for event in reader.feed(piece):
            raw += event.raw
            if isinstance(event, Part):
                parts.append((event.name, event.file, event.type, b""))
            elif isinstance(event, Data):
                parts[-1] = (*parts[-1][:3], parts[-1][3] + event.raw)
            else:
                assert isinstance(event, End)
    reader.end()
    return parts, raw


HARD = [
    b"",
    b"\r\n",
    b"\r\n\r\n",
    b"--",
    b"\r\n--",
    b"\r\n--" + BOUNDARY[:-1],
    b"\r\n--" + BOUNDARY[:-1] + b"\r\n--",
    b"\r" * 40 + b"\n" * 40,
    PNG,
]


def test_a_form_is_read_the_same_cut_at_every_place_and_all_its_bytes_are_passed_on() -> None:
    body = form(
        field(b"a cat"), *(part(content, f"file{at}") for at, content in enumerate(HARD)), field("schön".encode())
    )
    whole = read([body])
    assert whole[0][0] == ("prompt", None, "", b"a cat")
    assert [each[3] for each in whole[0][1:-1]] == HARD
    assert whole[1] == body
    for at in range(len(body) + 1):
        assert read(cut(body, [at])) == whole
    assert read([body[at : at + 1] for at in range(len(body))]) == whole


@given(st.lists(st.binary(max_size=80) | st.sampled_from(HARD), min_size=1, max_size=4), st.data())
def test_any_content_comes_out_as_it_went_in_and_as_another_parser_has_it(
    contents: list[bytes], data: st.DataObject
) -> None:
    contents = [content for content in contents if b"--" + BOUNDARY not in content] or [b""]
    body = form(*(part(content) for content in contents), end=data.draw(st.sampled_from([b"", b"\r\n"])))
    places = data.draw(st.lists(st.integers(0, len(body)), max_size=6))
    parts, raw = read(cut(body, places))
    assert [content for _, _, _, content in parts] == contents
    assert raw == body
    assert others(body) == contents


def others(body: bytes) -> list[bytes]:
    """Return the contents as python-multipart has them."""
    contents: list[bytes] = []

    def begin() -> None:
        contents.append(b"")

    def more(data: bytes, start: int, end: int) -> None:
        contents[-1] += data[start:end]

    MultipartParser(BOUNDARY, {"on_part_begin": begin, "on_part_data": more}).write(body)
    return contents


@given(st.binary(max_size=300), st.data())
def test_garbage_is_refused_and_never_anything_else(garbage: bytes, data: st.DataObject) -> None:
    body = form(part(PNG))
    at = data.draw(st.integers(0, len(body)))
    mixed = body[:at] + garbage + body[at + data.draw(st.integers(0, 40)) :]
    outcomes = []
    for pieces in ([mixed], cut(mixed, data.draw(st.lists(st.integers(0, len(mixed)), max_size=5)))):
        try:
            outcomes.append(read(pieces))
        except InvalidUpload:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]
    if outcomes[0] is not None:
        assert outcomes[0][1] == mixed


D = b"--" + BOUNDARY
HEAD = b'Content-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"preamble\r\n" + form(part(PNG)),
        b"\r\n" + form(part(PNG)),
        form(),
        form(part(PNG))[:-6],
        form(part(PNG)) + b"epilogue",
        form(part(PNG)) + b"\r\n",
        form(part(PNG)) + form(part(PNG)),
        form(part(PNG)).replace(b"\r\n", b"\n"),
        D + b"\r\n" + HEAD + b"\r\n\r\nx\n" + D + b"\r\n" + HEAD + b"\r\n\r\ny\r\n" + D + b"--",
        D + b"\r\n" + HEAD + b"\r\n\r\nx" + D + b"--",
        D + b" \r\n" + HEAD + b"\r\n\r\nx\r\n" + D + b"--",
        D + b"\r\n" + HEAD + b"\r\n\r\nx\r\n" + D + b"more\r\n",
        D + b"\r\n\r\nx\r\n" + D + b"--",
        D + b"\r\nContent-Type: text/plain\r\n\r\nx\r\n" + D + b"--",
        D + b"\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + D + b"--",
        D + b'\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n' + D + b"--",
        D + b"\r\n" + HEAD + b"\r\n" + HEAD + b"\r\n\r\nx\r\n" + D + b"--",
        D + b"\r\n" + HEAD + b'; name="b"\r\n\r\nx\r\n' + D + b"--",
        D + b"\r\n" + HEAD + b'; filename="a.png"; filename="b.svg"\r\n\r\nx\r\n' + D + b"--",
        D + b"\r\n" + HEAD + b'; filename="../../b.png"\r\n\r\nx\r\n' + D + b"--",
        D + b"\r\n" + HEAD + b'; filename="a/..\\b.png"\r\n\r\nx\r\n' + D + b"--",
        D + b"\r\n" + HEAD + b"; filename*=UTF-8''b.svg\r\n\r\nx\r\n" + D + b"--",
        D + b'\r\nContent-Disposition: form-data; name="a\\"; filename=\\"b"\r\n\r\nx\r\n' + D + b"--",
        D + b"\r\n" + HEAD + b";\r\n filename=x\r\n\r\nx\r\n" + D + b"--",
        D + b"\r\n" + HEAD + b"\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n" + D + b"--",
        D + b"\r\n" + HEAD + b"\r\nBad Name: x\r\n\r\nx\r\n" + D + b"--",
        D + b"\r\n" + HEAD + b"\r\nX: \xff\xfe\r\n\r\nx\r\n" + D + b"--",
        D + b"\r\n" + HEAD + b"\r\nX: " + b"x" * 20_000 + b"\r\n\r\nx\r\n" + D + b"--",
        D + b"\r\n" + HEAD + b"".join(b"\r\nX%d: x" % at for at in range(20)) + b"\r\n\r\nx\r\n" + D + b"--",
    ],
)  # fmt: skip
def test_what_parsers_read_differently_is_refused_however_it_is_cut(body: bytes) -> None:
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        with pytest.raises(InvalidUpload):
            read(pieces)


def test_headers_that_never_end_are_not_kept() -> None:
    reader = MultipartReader(BOUNDARY)
    for piece in (D + b"\r\nX: ", *[b"x" * 1000] * 15):
        assert reader.feed(piece) == []
    with pytest.raises(InvalidUpload, match="longer"):
        reader.feed(b"x" * 2000)


@pytest.mark.parametrize(
    ("value", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'Multipart/Form-Data; charset=utf-8; Boundary="a b"', b"a b"),
        (b"application/json", None),
        (b"multipart/mixed; boundary=abc", None),
        (b"", None),
    ],
)
def test_the_boundary_is_what_the_header_says(value: bytes, boundary: bytes | None) -> None:
    assert boundary_of(value) == boundary


@pytest.mark.parametrize(
    "value",
    [
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=a; boundary=b",
        b"multipart/form-data; boundary=" + b"a" * 71,
        b'multipart/form-data; boundary="a\r\n"',
        b'multipart/form-data; boundary="a ',
    ],
)
def test_a_boundary_that_cannot_be_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidUpload):
        boundary_of(value)
