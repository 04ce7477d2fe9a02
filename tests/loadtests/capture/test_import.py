"""Captures as the tools of the trade write them become sessions; what is no capture is refused in one line."""

from __future__ import annotations

import base64
import gzip
import json
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from loadtests.session_format import TOKEN, Closed, Frame, Opened, Request, Response, load
from tests.loadtests.capture.test_redaction import JWT
from tests.loadtests.support import native_chat
from tests.loadtests.test_load_command import run

START, EPOCH = "2026-01-05T09:30:00.000Z", 1767605400.0
ASK = json.dumps({"type": "generate", "id": 1, "kind": "chat", "input": {"message": "hi"}})
MESSAGES: list[tuple[float, str, str]] = [
    (0.1, "receive", '{"type":"connected","connection_id":"conn_1","user_id":"42"}'),
    (0.2, "send", ASK),
    (0.3, "receive", '{"type":"reply","id":1,"ok":true,"generation_id":"gen_1","epoch":"e","offset":0}'),
]


def socket(
    messages: list[tuple[float, str, str]] = MESSAGES, *, start: str = START, unit: float = 1.0, **more: Any
) -> dict[str, Any]:
    headers = [{"name": "Sec-WebSocket-Protocol", "value": f"tidegate.v1, bearer.{JWT}"}]
    request = {"method": "GET", "url": "ws://h:8080/api/v1/ws", "headers": headers}
    frames = [{"type": kind, "time": (EPOCH + t) * unit, "opcode": 1, "data": data} for t, kind, data in messages]
    return {"startedDateTime": start, "time": 900.0, "request": request, "response": {"status": 101},
            "_resourceType": "websocket", "_webSocketMessages": frames, **more}  # fmt: skip


def call(path: str = "/api/v1/generations/gen_1", kind: str | None = "fetch", **more: Any) -> dict[str, Any]:
    content = {"mimeType": "application/json", "text": '{"id":"gen_1"}'}
    return {"startedDateTime": "2026-01-05T09:30:01Z", "time": 20, **({"_resourceType": kind} if kind else {}),
            "request": {"method": "GET", "url": f"http://h:8080{path}", "headers": []},
            "response": {"status": 200, "headers": [], "content": content}, **more}  # fmt: skip


def har(*entries: Any) -> dict[str, Any]:
    return {"log": {"version": "1.2", "creator": {"name": "WebInspector"}, "entries": list(entries)}}


def imported(tmp_path: Path, capture: Any, *options: object, name: str = "c.har", status: int = 0) -> tuple[Any, str]:
    path, out = tmp_path / name, tmp_path / "s.jsonl"
    path.write_bytes(capture if isinstance(capture, bytes) else json.dumps(capture).encode())
    code, text = run("import", path, "--out", out, *options)
    assert code == status, text
    assert "Traceback" not in text
    if status:
        assert not out.exists()
        return None, text
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert JWT.encode() not in out.read_bytes()
    return load(out), text


def frames(session: Any) -> list[tuple[float, str, str]]:
    return [(round(each.t, 3), each.direction, each.data) for each in session.records if isinstance(each, Frame)]


@pytest.mark.parametrize("unit", [1.0, 1000.0], ids=["Chrome: seconds", "Playwright: milliseconds"])
def test_a_socket_becomes_a_session_with_its_times_and_without_its_token(tmp_path: Path, unit: float) -> None:
    session, text = imported(tmp_path, har(socket(unit=unit)))
    assert frames(session) == MESSAGES
    assert session.header.protocol == "native"
    assert session.header.url == "ws://h:8080/api/v1/ws"
    assert session.header.subprotocols == ["tidegate.v1", f"bearer.{TOKEN}"]
    assert session.header.started == "2026-01-05T09:30:00+00:00"
    assert [type(session.records[0]), type(session.records[-1])] == [Opened, Closed]
    assert session.records[-1].t == pytest.approx(0.9)
    assert "1 sockets (native), 1 messages sent, 2 received" in text


def test_what_mitmproxy_writes_twice_is_taken_once(tmp_path: Path) -> None:
    empty = socket()
    del empty["_webSocketMessages"]
    capture = har(empty, socket(), empty)
    capture["log"]["entries"][1]["request"]["url"] = "ws://h:8080/api/v1/ws"
    session, text = imported(tmp_path, zlib.compress(json.dumps(capture).encode()), name="c.zhar")
    assert frames(session) == MESSAGES
    assert session.header.sockets == 1
    assert "there twice" in text


def test_several_sockets_keep_apart_and_what_speaks_otherwise_is_left_out(tmp_path: Path) -> None:
    later = [(t + 5, kind, data) for t, kind, data in MESSAGES]
    chatter = socket([(0.5, "receive", "tick")] * 9, request={"method": "GET", "url": "wss://hmr.test/", "headers": []})
    second = socket(later, start="2026-01-05T09:30:05Z")
    session, text = imported(tmp_path, gzip.compress(json.dumps(har(second, chatter, socket())).encode()))
    assert session.header.sockets == 2
    assert frames(session) == MESSAGES + later
    assert [each.socket for each in session.records if isinstance(each, Frame)] == [0, 0, 0, 1, 1, 1]
    assert "wss://hmr.test/ (9 messages) is left out" in text
    session, _ = imported(tmp_path, har(socket(), chatter), "--url-match", "hmr")
    assert session.header.protocol == "raw"
    assert session.header.url == "wss://hmr.test/"


def test_the_pages_calls_come_with_it_and_get_the_token_back_that_the_browser_left_out(tmp_path: Path) -> None:
    events = call("/stream", "eventsource", _eventSourceMessages=[{"time": 1, "eventName": "x", "data": "a\nb"}])
    post = call("/api/v1/generations")
    post["request"] |= {
        "method": "POST",
        "postData": {"mimeType": "application/json", "text": '{"password":"swordfish"}'},
    }
    body = b'data: {"n": 1}\n\n'
    packed = call("/events", "fetch")
    packed["response"]["content"] = {"mimeType": "text/event-stream", "encoding": "base64",
                                     "text": base64.b64encode(body).decode()}  # fmt: skip
    other = call()
    other["request"]["url"] = "http://elsewhere/x"
    page, image = call("/", "document"), call("/logo.png", "image")
    session, text = imported(tmp_path, har(page, socket(), image, call(), events, packed, post, other))
    requests = [each for each in session.records if isinstance(each, Request)]
    answers = {each.id: each for each in session.records if isinstance(each, Response)}
    assert [each.url.partition(":8080")[2] for each in requests] == [
        "/api/v1/generations/gen_1", "/stream", "/events", "/api/v1/generations",
    ]  # fmt: skip
    assert all(each.headers["authorization"] == f"Bearer {TOKEN}" for each in requests)
    assert "3 requests of files, or of other hosts" in text
    assert "calls were given the page's token" in text
    assert [answers[each.id].body for each in requests[:3]] == [
        '{"id":"gen_1"}',
        "event: x\ndata: a\ndata: b\n\n",
        body.decode(),
    ]
    assert "swordfish" not in requests[3].body
    assert answers[requests[0].id].t == pytest.approx(1.02)
    session, _ = imported(tmp_path, har(socket(), call()), "--no-rest")
    assert not [each for each in session.records if isinstance(each, Request)]


def test_messages_and_bodies_beside_the_har_are_found_in_its_zip(tmp_path: Path) -> None:
    entry = socket()
    lines = "\n".join(json.dumps(each) for each in entry.pop("_webSocketMessages"))
    entry["response"]["content"] = {"_file": "abc.jsonl"}
    rest = call()
    rest["response"]["content"] = {"mimeType": "application/json", "_file": "body.json"}
    path = tmp_path / "x.har.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("har.har", json.dumps(har(entry, rest)))
        archive.writestr("abc.jsonl", lines + "\n")
        archive.writestr("body.json", '{"a":1}')
    session, _ = imported(tmp_path, path.read_bytes(), name="x.har.zip")
    assert frames(session) == MESSAGES
    assert [each.body for each in session.records if isinstance(each, Response)] == ['{"a":1}']
    (tmp_path / "s.jsonl").unlink()
    _, text = imported(tmp_path, har(entry), status=2, name="y.har")
    assert "abc.jsonl" in text
    assert "har.zip" in text


def test_the_kinds_of_sockets_are_told_apart(tmp_path: Path) -> None:
    plain = {"method": "CONNECT", "url": "https://h/connection/websocket", "headers": []}
    connect = socket([(0.1, "send", '{"id":1,"connect":{"token":"abc"}}')], request=plain, response={"status": 200})
    session, _ = imported(tmp_path, har(connect))
    assert (session.header.protocol, session.header.url) == ("centrifuge", "wss://h/connection/websocket")
    assert frames(session) == [(0.1, "send", '{"id":1,"connect":{"token":"${token}"}}')]
    protobuf = [{"name": "sec-websocket-protocol", "value": "centrifuge-protobuf"}]
    binary = socket([], request={**plain, "headers": protobuf})
    binary["_webSocketMessages"] = [{"type": "send", "time": EPOCH, "opcode": 2, "data": "AAEC"}]
    session, _ = imported(tmp_path, har(binary))
    assert session.header.protocol == "raw"
    assert frames(session) == [(0.0, "send", b"\x00\x01\x02")]


WHOLE = json.dumps(har(socket())).encode()


def changed(**message: Any) -> dict[str, Any]:
    entry = socket()
    entry["_webSocketMessages"][1] = {**entry["_webSocketMessages"][1], **message}
    return har(call(), entry)


@pytest.mark.parametrize(
    ("capture", "name", "says"),
    [
        (b"", "c.har", "the file is empty; export it again"),
        (WHOLE[:-20], "c.har", "the file ends in the middle; export it again"),
        (WHOLE[:200] + b"\x00\x01" + WHOLE[200:], "c.har", "line 1, column"),
        (b"12:8:blabla,", "c.flow", "mitmproxy flow file; mitmdump -n -r c.flow --set hardump=capture.har"),
        (b"<!DOCTYPE html><html>", "c.har", "a page and no capture"),
        (b"\xd4\xc3\xb2\xa1\x02\x00", "c.pcap", "a packet capture"),
        (b"hello", "c.txt", "no HAR and no recorded session"),
        (b'{"openapi": "3.1"}', "c.json", 'it has no "log" with "entries"'),
        (b"[]", "c.json", 'it has no "log" with "entries"'),
        (har(), "c.har", "there is no WebSocket in this capture"),
        (har({"request": {}}), "c.har", "entry 0: 'url' is missing"),
        (har(None), "c.har", "entry 0"),
        (har(call(), socket(start="yesterday")), "c.har", "entry 1: 'yesterday' is no time"),
        (changed(type="ping"), "c.har", "entry 1: message 1 is no message of a WebSocket"),
        (changed(time=None), "c.har", "entry 1: message 1 has no time, type and data"),
        (changed(opcode=2, data="*"), "c.har", "message 1 is binary, and no base 64"),
        (zlib.compress(WHOLE)[:-30], "c.zhar", "the file ends in the middle"),
        (zlib.compress(b"[" + b"1," * 3_000_000), "c.zhar", "more than 2 MB"),
        (b" " * 2_000_001, "c.har", "more than 2 MB; record less"),
        (b"PK\x03\x04garbage", "c.har.zip", "a ZIP that is broken or cut short"),
        (b"[" * 5000, "c.har", "line 1"),
        (b'{"tidegate_session": 1, "url": "ws://h/"}\n{"t": 1.0, "dir": "se', "cut.jsonl", "line 2"),
    ],
)  # fmt: skip
def test_what_is_no_capture_is_refused_with_its_place_and_a_cure(
    tmp_path: Path, capture: Any, name: str, says: str
) -> None:
    _, text = imported(tmp_path, capture, "--max-mb", 2, name=name, status=2)
    assert says in text.replace("\n", " "), text
    assert text.startswith("tidegate-load: ")


def test_no_socket_of_that_url_is_said_with_those_that_there_are(tmp_path: Path) -> None:
    _, text = imported(tmp_path, har(socket()), "--url-match", "nowhere", status=2)
    assert "'nowhere'; there are ws://h:8080/api/v1/ws" in text


def test_a_session_with_secrets_is_imported_clean_and_not_replayed_before(tmp_path: Path) -> None:
    session = native_chat(tmp_path / "dirty.jsonl")
    session.write_text(session.read_text().replace("${token}", JWT))
    for command in (("replay", session, "-q"), ("producer", session)):
        code, text = run(*command)
        assert code == 2
        assert "holds secrets: the header" in text
        assert "tidegate-load import" in text
        assert JWT not in text
    clean, _ = imported(tmp_path, session.read_bytes(), name="again.jsonl")
    assert clean.header.subprotocols == ["tidegate.v1", f"bearer.{TOKEN}"]
    code, text = run("replay", session, "-q", "--allow-secrets", "--url", "http://wrong")
    assert "is no ws:// or wss:// URL" in text
