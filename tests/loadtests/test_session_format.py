"""Recorded sessions, as files."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from loadtests.session_format import (
    BadSession,
    Closed,
    Frame,
    Header,
    Opened,
    Request,
    Response,
    Session,
    dump,
    load,
    parse,
    save,
)

ROOT = Path(__file__).resolve().parents[2]
HEADER = b'{"tidegate_session": 1, "url": "ws://h/api/v1/ws"}\n'


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    session = Session(
        Header("ws://h/ws", "centrifuge", ["a", "bearer.${token}"], "test 1", "2026-01-05T09:30:00Z", 2),
        [
            Opened(0.0),
            Opened(0.1, 1, "ws://h/other", ["b"]),
            Frame(0.2, "send", "Grüße 👋"),
            Frame(0.3, "receive", b"\x00\xff", 2, 1),
            Request(0.4, "r1", "POST", "/v1/x", {"authorization": "Bearer ${token}"}, b"\x80"),
            Response(0.5, "r1", 200, {"content-type": "text/plain"}, "yes"),
            Closed(0.6, 1, 1006),
        ],
    )
    save(tmp_path / "s.jsonl", session)
    assert load(tmp_path / "s.jsonl") == session
    assert session.duration == 0.6
    assert stat.S_IMODE((tmp_path / "s.jsonl").stat().st_mode) == 0o600


def test_lines_may_come_in_any_order_and_unknown_ones_are_left_alone() -> None:
    lines = [
        HEADER,
        b'{"t": 2, "dir": "close", "code": null}\n',
        b"\n",
        b'{"t": 1, "dir": "send", "data": "x", "more": 1}\n',
        b'{"t": 0, "dir": "a later kind"}\n',
    ]
    assert parse(lines).records == [Frame(1.0, "send", "x"), Closed(2.0)]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "empty"),
        ([b'{"log": {}}'], "line 1: this is no session"),
        ([b"[1]"], "line 1: no object"),
        ([b'{"tidegate_session": 2, "url": ""}'], "version 2"),
        ([b'{"tidegate_session": 1}'], "line 1: 'url' is missing"),
        ([b'{"tidegate_session": 1, "url": "x", "protocol": "mqtt"}'], "protocol is one of"),
        ([HEADER, b'{"dir": "send", "data": "x"}'], "line 2: 't' is missing"),
        ([HEADER, b'{"t": 0, "dir": "send", "data": 5}'], "line 2: 'data' is no text"),
        ([HEADER, b'{"t": 0, "dir": "send", "op": 3, "data": ""}'], "op 3"),
        ([HEADER, b'{"t": 0, "dir": "send", "op": 2, "data": "?"}'], "base 64"),
        ([HEADER, b"{"], "line 2"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(lines: list[bytes], says: str) -> None:
    with pytest.raises(BadSession, match=re.escape(says)):
        parse(lines)


def test_the_example_of_the_page_is_a_session() -> None:
    example = re.search(r"```\n(\{.*?)```", (ROOT / "docs/load-testing.md").read_text(), re.DOTALL)
    assert example is not None
    session = parse(line.encode() for line in example[1].splitlines())
    assert [type(record) for record in session.records] == [Opened, Frame, Frame, Closed]
    assert parse(dump(session)) == session
