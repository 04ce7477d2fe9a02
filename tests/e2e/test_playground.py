"""The playground in a real browser, against a real gateway: clicks, broken connections, and what the reader then sees.

The gateway is the demo's, with its chat service in the same process. What the client does about a gateway that
misbehaves is tried with a scripted socket, in the same browser.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect

from tests.support.browser import recorded_page
from tests.support.gateway import token
from tests.support.playground import PATIENCE, Demo, expect_no_overflow, expect_proven, part, sign_in

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1440, "height": 900}

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def running_demo(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("made"))
    yield demo
    demo.stop()


@pytest.fixture
def demo(running_demo: Demo) -> Demo:
    """Up and running when a test begins, whatever the test does to it."""
    if running_demo.process.poll() is not None:
        running_demo.start()
    return running_demo


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A tab that tests use in turn: making one takes longer than loading the page."""
    with recorded_page(browser, viewport=DESKTOP) as tab:
        yield tab


@pytest.fixture(scope="module")
def scripted_tab(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """The one for tests that take the gateway's place."""
    with recorded_page(browser, viewport=DESKTOP) as tab:
        yield tab


def load(tab: tuple[Page, list[str]], demo: Demo) -> Iterator[Page]:
    """Load the page, not signed in; whatever the browser complains about fails the test."""
    page, troubles = tab
    troubles.clear()
    page.goto(f"{demo.http}/playground/")
    yield page
    page.unroute_all()
    assert troubles == []


@pytest.fixture
def page(tab: tuple[Page, list[str]], demo: Demo) -> Iterator[Page]:
    yield from load(tab, demo)


@pytest.fixture
def scripted_page(scripted_tab: tuple[Page, list[str]], demo: Demo) -> Iterator[Page]:
    yield from load(scripted_tab, demo)


def device(page: Page, number: int) -> Locator:
    return page.get_by_role("article", name=f"Device {number}")


def ask(where: Locator | Page, text: str = "What is light?") -> Locator:
    """Ask and return the answer's element, once it has begun to come."""
    part(where, "message").fill(text)
    part(where, "message").press("Enter")
    turn = where.locator(".turn").last
    expect(turn).to_have_attribute("data-status", "started")
    expect(part(turn, "text")).not_to_be_empty()
    return turn


def text_in_gateway(page: Page, demo: Demo, turn: Locator) -> str:
    """Return the answer as the REST API has it."""
    headers = {"Authorization": f"Bearer {token('42', company='acme')}"}
    answer = httpx.get(f"{demo.http}/api/v1/generations/{part(turn, 'id').text_content()}", headers=headers)
    assert answer.status_code == 200
    return str(answer.json()["text"])


def figure(where: Locator, name: str) -> int:
    """Return a counter of a device or of an answer."""
    return int((part(where, name).text_content() or "").replace(",", ""))


# A reader's way through the page.


def test_a_reader_signs_in_and_gets_a_proven_answer(page: Page, demo: Demo) -> None:
    sign_in(page)
    expect(page.locator("#identity")).to_contain_text("42 · acme")
    expect(page.locator("#identity-time")).to_have_text(re.compile(r"^(59|1:00):\d\d$"))
    page.get_by_role("tab", name="Token").click()
    expect(page.locator("#token-claims")).to_contain_text('"company_id": "acme"')

    turn = ask(page)
    expect_proven(turn)
    expect(part(turn, "status")).to_have_text("Complete")
    assert part(turn, "text").text_content() == text_in_gateway(page, demo, turn)
    assert (figure(turn, "replayed"), figure(turn, "gaps")) == (0, 0)
    assert re.fullmatch(r"[\d.]+ m?s", part(turn, "first").text_content() or "")
    assert 30 < float(part(turn, "rate").text_content() or 0) < 90


def test_an_answer_survives_a_dropped_connection_and_five_seconds_offline(page: Page, demo: Demo) -> None:
    sign_in(page)
    turns = [ask(page, "What is light?"), ask(page, "How does a prism make colours?")]
    page.get_by_role("button", name="Drop connection").click()
    expect(part(page, "reconnects")).to_have_text("1")
    page.get_by_role("button", name="Go offline 5 s").click()
    expect(part(page, "state")).to_have_attribute("data-state", "offline")
    expect(part(page, "stateText")).to_have_text(re.compile(r"^Offline, back in [1-4]\.\d s$"))

    for turn in turns:
        expect_proven(turn)
        assert part(turn, "text").text_content() == text_in_gateway(page, demo, turn)
        assert part(turn, "text").locator("mark").count() > 0
    expect(part(device(page, 1), "reconnects")).to_have_text("2")
    counters = page.locator(".counters")
    assert figure(counters, "replayed") > 0
    assert (figure(counters, "duplicates"), figure(counters, "gaps")) == (0, 0)
    page.get_by_label("Which frames").select_option("sent")
    expect(page.locator(".frame-row[data-type=resume]:visible")).to_have_count(2)


def test_a_second_device_shows_the_same_answers_and_both_see_a_cancel(page: Page) -> None:
    sign_in(page)
    turn = ask(device(page, 1))
    page.get_by_role("button", name="Second device").click()
    watched = device(page, 2).locator(".turn")
    expect_proven(turn)
    expect_proven(watched)
    assert part(watched, "id").text_content() == part(turn, "id").text_content()
    assert part(watched, "text").text_content() == part(turn, "text").text_content()
    assert figure(watched, "delivered") == figure(turn, "delivered")
    assert figure(turn, "replayed") == 0 < figure(watched, "replayed")

    turn = ask(device(page, 2), "Why is the sky blue?")
    part(turn, "cancel").click()
    for number in (1, 2):
        last = device(page, number).locator(".turn").last
        expect(part(last, "status")).to_have_text("Cancelled")
        expect_proven(last)
    device(page, 2).get_by_role("button", name="Close").click()
    expect(device(page, 2)).to_have_count(0)
    expect(part(page, "twin")).to_be_focused()


def test_every_frame_is_shown_filtered_paused_and_exported_without_the_token(page: Page) -> None:
    short = {"expected": True}

    def shorten(route: Any) -> None:
        body = {**route.request.post_data_json, "ttl": 3} if short.pop("expected", False) else None
        route.continue_(post_data=json.dumps(body) if body else None)

    page.route("**/playground/token", shorten)
    sign_in(page)
    rows = page.locator(".frame-row[role=option]:visible")
    page.get_by_label("Filter frames by text").fill("refresh")
    expect(rows.first).to_have_attribute("data-type", "refresh")
    rows.first.click()
    expect(page.locator("#frames-json")).to_contain_text('"token": "<token>"')
    expect(page.locator("#identity-time")).to_have_text(re.compile(r"^(59|60|1:00):\d\d$"))

    page.get_by_label("Filter frames by text").fill("")
    page.get_by_role("button", name="Pause").click()
    before = page.locator("#frames-count").text_content() or ""
    turn = ask(page)
    expect(page.locator("#frames-count")).to_have_text(re.compile(f"^{before.split(',')[0]}, paused, [1-9].* new$"))
    page.get_by_role("button", name="Go on").click()
    expect_proven(turn)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    lines = download.value.path().read_text().splitlines()
    frames = [json.loads(line) for line in lines]
    assert {frame["direction"] for frame in frames} == {"sent", "received", "socket"}
    assert frames[-1]["type"] == "completed" or frames[-1]["direction"] != "received"
    assert not any("eyJ" in line for line in lines)
    assert part(page, "reconnects").text_content() == "0"


@pytest.mark.parametrize(
    ("pasted", "cure"),
    [
        ("not a token", "Copy it whole, or make one with: tidegate token"),
        (
            token("42").rpartition(".")[0] + ".c2lnbmF0dXJlIG9mIHNvbWVib2R5IGVsc2UhISEhISE",
            "signature is wrong. Sign in with",
        ),
        (token("42", ttl=-5), "has expired. Sign in for a new one"),
    ],
    ids=["malformed", "forged", "expired"],
)
def test_a_wrong_token_shows_the_cure(page: Page, pasted: str, cure: str) -> None:
    page.get_by_text("I have a token").click()
    page.locator("#paste-token").fill(pasted)
    page.get_by_role("button", name="Sign in with it").click()
    expect(page.get_by_role("alert").locator("visible=true")).to_contain_text(cure)
    expect(page.locator("#bench")).to_be_hidden()
    sign_in(page)
    expect(page.locator("#sign-in-error")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_on_a_phone(browser: Browser, demo: Demo, scheme: str) -> None:
    with recorded_page(browser, viewport=PHONE, color_scheme=scheme, has_touch=True) as (page, troubles):
        page.goto(f"{demo.http}/playground/")
        expect_no_overflow(page)
        sign_in(page)
        ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        red = int(re.findall(r"\d+", ground)[0])
        assert red < 40 if scheme == "dark" else red > 200
        ask(page)
        page.get_by_role("button", name="Second device").click()
        expect(part(device(page, 2), "text")).not_to_be_empty()
        for name in ("Devices", "Frames", "Snippet", "Token"):
            page.get_by_role("tab", name=name).click()
            expect_no_overflow(page)
        assert troubles == []


def test_the_code_that_is_shown_does_what_the_reader_just_did(page: Page) -> None:
    sign_in(page)
    turn = ask(page, 'What\'s a "prism" & why?')
    expect_proven(turn)
    part(page, "drop").click()
    page.get_by_role("tab", name="Snippet").click()
    environ = {**os.environ, "TOKEN": token("42", company="acme")}
    said = part(turn, "text").text_content() or ""
    outputs = {}
    for language, command in (("Python", [sys.executable, "-"]), ("curl", ["bash", "-s"])):
        page.get_by_role("button", name=language).click()
        code = page.locator("#code-text").text_content() or ""
        assert "eyJ" not in code
        code = re.sub(r"^export TOKEN=.*$", "", code, flags=re.MULTILINE).replace("\\\n  -N", "-sN")
        code = re.sub(r'"offset": \d+', '"offset": 0', re.sub(r"(Last-Event-ID: \w+):\d+", r"\1:0", code))
        outputs[language] = subprocess.run(
            command, input=code, env=environ, capture_output=True, text=True, timeout=20, check=False
        ).stdout
    assert outputs["Python"].startswith(said)
    assert "completed" in outputs["Python"]
    assert "event: completed" in outputs["curl"] or '"completed"' in outputs["curl"]


def test_the_page_gets_its_token_from_the_gateway_within_limits(demo: Demo) -> None:
    url = f"{demo.http}/playground/token"
    answer = httpx.post(url, json={"sub": "7", "company": "acme", "ttl": 60})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json()["expires_in"] == 60
    for body in ({}, {"sub": ""}, {"sub": "7", "ttl": 86_401}, {"sub": "7", "roles": ["admin"]}):
        refused = httpx.post(url, json=body)
        assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")


# The client, with a gateway that does what it should not.

CONNECTED = {"type": "connected", "connection_id": "c", "user_id": "42", "expires_in": 900, "ping_interval": 25}


def scripted(page: Page, answer: Callable[[WebSocketRoute, dict[str, Any]], None]) -> None:
    """Take the gateway's place: ``answer`` is called with each command of each socket."""

    def open_(socket: WebSocketRoute) -> None:
        socket.on_message(lambda text: answer(socket, json.loads(text)))
        say(socket, CONNECTED)

    page.route_web_socket(re.compile("/api/v1/ws"), open_)


def say(socket: WebSocketRoute, *messages: dict[str, Any]) -> None:
    for message in messages:
        socket.send(json.dumps(message))


def event(offset: int, *, merged: int = 1, epoch: str = "e1", **event: Any) -> dict[str, Any]:
    message = {"type": "event", "generation_id": "g1", "epoch": epoch, "offset": offset, "event": event}
    return message if merged == 1 else {**message, "merged": merged}


def delta(offset: int, text: str, **options: Any) -> dict[str, Any]:
    return event(offset, type="delta", text=text, **options)


def completed(offset: int, text: str, **options: Any) -> dict[str, Any]:
    receipt = {"offset": offset, "characters": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return event(offset, type="completed", reason="stop", receipt=receipt, **options)


def reply(command: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "type": "reply",
        "id": command["id"],
        "ok": True,
        "generation_id": "g1",
        "epoch": "e1",
        "offset": 0,
        **fields,
    }


def resumed(command: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "reply", "id": command["id"], "ok": True, "streams": {"g1": {"status": "resumed", **fields}}}


def start(page: Page) -> Locator:
    sign_in(page)
    part(page, "message").fill("Hello")
    part(page, "send").click()
    return page.locator(".turn")


def test_markup_in_an_answer_is_text_and_a_wrong_receipt_is_shown_with_its_numbers(scripted_page: Page) -> None:
    markup = "<img src=x onerror=alert(1)> 😀"

    def answer(socket: WebSocketRoute, command: dict[str, Any]) -> None:
        say(socket, reply(command), delta(1, markup), completed(2, markup + "!"))

    scripted(scripted_page, answer)
    turn = start(scripted_page)
    expect(part(turn, "text")).to_have_text(markup)
    assert turn.locator("img").count() == 0
    receipt = part(turn, "receipt")
    expect(receipt).to_have_attribute("data-state", "bad")
    expect(receipt).to_contain_text("characters: received 30, sent 31")
    expect(receipt).to_contain_text(re.compile("SHA-256: received [0-9a-f]{64}, sent [0-9a-f]{64}"))


def test_a_command_that_was_not_answered_is_sent_again_under_the_same_key(scripted_page: Page) -> None:
    keys: list[str] = []

    def answer(socket: WebSocketRoute, command: dict[str, Any]) -> None:
        keys.append(command["idempotency_key"])
        if len(keys) == 1:
            socket.close(code=1012, reason="restart")
        else:
            say(socket, reply(command), delta(1, "A"), completed(2, "A"))

    scripted(scripted_page, answer)
    expect_proven(start(scripted_page))
    assert keys == [keys[0]] * 2


def test_what_comes_twice_after_a_resume_is_dropped_and_the_rest_counted_as_replayed(scripted_page: Page) -> None:
    def answer(socket: WebSocketRoute, command: dict[str, Any]) -> None:
        if command["type"] == "generate":
            say(socket, reply(command), delta(1, "A"), delta(2, "B"))
            socket.close(code=4413, reason="slow_consumer")
        else:
            assert command["streams"] == {"g1": {"epoch": "e1", "offset": 2}}
            say(socket, resumed(command, epoch="e1", offset=2, recovered=True))
            say(socket, delta(2, "B"), delta(4, "CD", merged=2), delta(5, "E"), completed(6, "ABCDE"))

    scripted(scripted_page, answer)
    turn = start(scripted_page)
    expect_proven(turn)
    expect(turn.locator("mark", has_text="CD")).to_have_count(1)
    expect(part(turn, "text")).to_have_text("ABCDE")
    counters = scripted_page.locator(".counters")
    names = ("delivered", "replayed", "duplicates", "gaps", "reconnects")
    assert [figure(counters, name) for name in names] == [6, 2, 1, 0, 1]


def test_a_hole_makes_the_client_get_the_whole_answer_again(scripted_page: Page) -> None:
    subscribed = True

    def answer(socket: WebSocketRoute, command: dict[str, Any]) -> None:
        nonlocal subscribed
        match command["type"]:
            case "generate":
                say(socket, reply(command), delta(1, "A"), delta(3, "C"), delta(4, "D"))
            case "subscribe_generation" if subscribed:
                say(socket, reply(command, offset=4, already=True))
            case "unsubscribe_generation":
                subscribed = False
                say(socket, reply(command))
            case "subscribe_generation":
                say(socket, reply(command), delta(4, "ABCD", merged=4), completed(5, "ABCD"))

    scripted(scripted_page, answer)
    turn = start(scripted_page)
    expect_proven(turn)
    expect(part(turn, "text")).to_have_text("ABCD")
    assert [figure(turn, name) for name in ("delivered", "gaps")] == [5, 1]


def test_a_stream_that_the_gateway_had_to_begin_anew_begins_anew(scripted_page: Page) -> None:
    def answer(socket: WebSocketRoute, command: dict[str, Any]) -> None:
        if command["type"] == "generate":
            say(socket, reply(command), delta(1, "A"), delta(2, "B"))
            socket.close(code=1012, reason="restart")
        elif command["type"] == "resume":
            say(socket, resumed(command, epoch="e2", offset=0, recovered=False))
            say(socket, delta(1, "X", epoch="e2"), {"type": "gap", "generation_id": "g1", "message": "Lost."})
        else:
            say(
                socket, reply(command, epoch="e2"), delta(2, "XY", epoch="e2", merged=2), completed(3, "XY", epoch="e2")
            )

    scripted(scripted_page, answer)
    turn = start(scripted_page)
    expect_proven(turn)
    expect(part(turn, "text")).to_have_text("XY")
    assert figure(turn, "gaps") == 2


def test_the_client_moves_when_it_is_asked_to_and_stays_away_when_it_is_refused(scripted_page: Page) -> None:
    sockets: list[WebSocketRoute] = []

    def answer(socket: WebSocketRoute, command: dict[str, Any]) -> None:
        sockets.append(socket)
        if len(sockets) == 1:
            say(socket, reply(command), {"type": "goaway", "reconnect_in_ms": 50})
        else:
            error = {"type": "error", "code": "invalid_token", "status": 401, "message": "Its user was locked out."}
            say(socket, resumed(command, epoch="e1", offset=0, recovered=True), error)
            socket.close(code=4501, reason="invalid_token")

    scripted(scripted_page, answer)
    start(scripted_page)
    expect(part(scripted_page, "state")).to_have_attribute("data-state", "closed")
    expect(part(scripted_page, "notice")).to_contain_text("The gateway refused the token: Its user was locked out.")
    expect(part(scripted_page, "reconnects")).to_have_text("1")
    assert len(sockets) == 2


# Last, because the gateway has to be started again after it.


def test_a_gateway_that_is_away_is_said_to_be_and_found_again(browser: Browser, demo: Demo) -> None:
    with recorded_page(browser, viewport=DESKTOP) as (page, _):
        page.goto(f"{demo.http}/playground/")
        sign_in(page)
        demo.stop()
        expect(part(page, "notice")).to_contain_text("The gateway does not answer. Is it running?")
        page.get_by_role("button", name="Try now").click()
        demo.start()
        expect(part(page, "state")).to_have_attribute("data-state", "open")
        expect(part(page, "notice")).to_be_hidden()

        page.get_by_role("button", name="Sign out").click()
        demo.stop()
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("Start it (make demo), then try again.")
