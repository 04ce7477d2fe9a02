"""Pictures, code and speech in the playground: a real browser, a real gateway, the real services behind it."""

from __future__ import annotations

import base64
import io
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from app.generations.event_json import encode
from app.generations.files import Files
from tests.support.browser import recorded_page
from tests.support.playground import PATIENCE, Demo, expect_no_overflow, expect_proven, part, sign_in

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 740}

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def demo(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("made"))
    yield demo
    demo.stop()


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    with recorded_page(browser, viewport=DESKTOP) as tab:
        yield tab


@pytest.fixture
def page(tab: tuple[Page, list[str]], demo: Demo) -> Iterator[Page]:
    """Signed in; whatever the browser complains about fails the test."""
    page, troubles = tab
    troubles.clear()
    page.goto("about:blank")
    page.goto(f"{demo.http}/playground/")
    sign_in(page)
    yield page
    assert troubles == []


def show(where: Page | Locator, kind: str) -> None:
    part(where, "kinds").first.locator(f"[data-kind={kind}]").click()


def make(page: Page, kind: str, words: str) -> Locator:
    """Begin one and return its element, once it runs."""
    show(page, kind)
    field = {"image": "imagePrompt", "code": "codePrompt", "speech": "speechText"}[kind]
    part(page, field).fill(words)
    part(page, field).press("Enter")
    turn = page.locator(f".turn[data-kind={kind}]").last
    expect(turn).to_have_attribute("data-status", re.compile("started|completed"))
    return turn


def picture(page: Page, turn: Locator, index: int = 0) -> bytes:
    """Return a finished picture's bytes, as the page shows it."""
    source = turn.locator("figure[data-done=true] img").nth(index).get_attribute("src")
    assert source is not None
    return page.context.request.get(source).body()


def test_pictures_sharpen_through_a_dropped_connection_and_can_be_downloaded(page: Page) -> None:
    show(page, "image")
    part(page, "imageCount").fill("2")
    part(page, "imageSize").select_option("256x256")
    part(page, "imageSeed").fill("7")
    turn = make(page, "image", "A sunset over mountains")
    expect(turn.locator("figure img").first).to_have_attribute("src", re.compile("^blob:"))
    expect(part(turn, "stage")).to_have_text(re.compile(r"^Painting, step \d+ of 16, \d+ %$"))
    page.get_by_role("button", name="Drop connection").click()
    expect_proven(turn)
    expect(part(turn, "progress")).to_be_hidden()
    expect(turn.locator("figure[data-done=true]")).to_have_count(2)
    pictures = [picture(page, turn, index) for index in (0, 1)]
    assert [Image.open(io.BytesIO(data)).size for data in pictures] == [(256, 256)] * 2
    assert pictures[0] != pictures[1]
    with page.expect_download() as download:
        turn.get_by_role("link", name="Download picture 1").click()
    assert download.value.suggested_filename.endswith("-1.png")
    assert download.value.path().read_bytes() == pictures[0]


def test_two_tabs_end_with_the_same_picture_though_one_was_away_at_its_end(
    page: Page, browser: Browser, demo: Demo
) -> None:
    with recorded_page(browser, viewport=DESKTOP) as (other, troubles):
        other.clock.install()
        other.goto(f"{demo.http}/playground/")  # So that it comes quickly when there is something to watch.
        show(page, "image")
        part(page, "imageCount").fill("2")
        turn = make(page, "image", "A city at night")
        other.goto("about:blank")
        other.goto(f"{demo.http}/playground/{part(turn, 'elsewhere').get_attribute('href')}")
        sign_in(other)
        watched = other.locator(".turn[data-kind=image]")
        expect(part(watched, "id")).to_have_text(part(turn, "id").text_content() or "?")
        other.clock.pause_at(other.evaluate("Date.now()") + 1000)  # Five seconds are too short on a busy machine.
        other.get_by_role("button", name="Go offline 5 s").click()
        expect_proven(turn)
        expect(part(other, "state")).to_have_attribute("data-state", "offline")
        other.clock.fast_forward(5000)
        other.clock.resume()
        expect_proven(watched)
        assert picture(other, watched) == picture(page, turn)
        assert watched.locator("img").first.get_attribute("src") == turn.locator("img").first.get_attribute("src")
        assert troubles == []


def test_a_batch_shows_its_generations_and_counts_them(page: Page) -> None:
    show(page, "image")
    part(page, "imageBatch").check()
    part(page, "imageCount").fill("2")
    part(page, "imageSize").select_option("256x256")
    part(page, "imagePrompt").fill("A red boat")
    part(page, "imagePrompt").press("Enter")
    batch = page.locator(".talk > .turn[data-kind=image]").last
    children = part(batch, "children").first.locator(":scope > .turn")
    expect(children).to_have_count(2)
    page.get_by_role("button", name="Drop connection").click()
    for child in children.all():
        expect_proven(child)
        expect(child.locator("figure[data-done=true]")).to_have_count(1)
    expect(part(batch, "receipt").last).to_have_attribute("data-state", "ok")
    part(page, "imageBatch").uncheck()


def test_a_picture_that_is_cancelled_says_so_and_keeps_its_last_look(page: Page) -> None:
    show(page, "image")
    part(page, "imageCount").fill("4")
    part(page, "imageSize").select_option("1024x1024")
    turn = make(page, "image", "A forest in the fog")
    expect(turn.locator("figure img")).not_to_have_count(0)
    part(turn, "cancel").click()
    expect(part(turn, "status")).to_have_text("Cancelled")
    expect_proven(turn)
    expect(turn.locator("figure[data-done=true]")).to_have_count(0)


@pytest.mark.parametrize("stack", ["html_css", "react_tailwind"])
def test_variants_are_written_side_by_side_and_shown_compared_and_proven(page: Page, stack: str) -> None:
    show(page, "code")
    part(page, "codeStack").select_option(stack)
    part(page, "codeVariants").fill("3")
    turn = make(page, "code", "A page with a header and two cards")
    page.get_by_role("button", name="Drop connection").click()
    expect_proven(turn)
    expect(part(turn, "receipt")).to_contain_text("3 files")
    files = turn.locator(".file")
    expect(files).to_have_count(3)
    tops = {round((file.bounding_box() or {})["y"]) for file in files.all()}
    assert len(tops) < 3

    first = files.first
    text = part(first, "code").text_content() or ""
    first.get_by_role("button", name="Changes").click()
    expect(first.locator("[data-kind=added]").first).to_be_visible()
    assert "".join(line[2:] for line in part(first, "changes").locator("span").all_text_contents()) == text + "\n"
    half = int(part(first, "since").get_attribute("max") or 0) // 2
    part(first, "since").fill(str(half))
    expect(part(first, "sinceText")).to_have_text(f"Since revision {half}")
    expect(first.locator("[data-kind=same]").first).to_be_attached()

    first.get_by_role("button", name="Preview").click()
    frame = part(first, "frame")
    assert frame.get_attribute("sandbox") == "allow-scripts"
    body = frame.content_frame
    expect(body.get_by_text("Header").first).to_be_visible()
    header = body.locator("header").first
    assert header.evaluate("(element) => getComputedStyle(element).backgroundColor") == "rgb(17, 24, 39)"


def test_a_finished_page_is_refined_and_what_changed_is_shown(page: Page) -> None:
    show(page, "code")
    part(page, "codeStack").select_option("html_css")
    part(page, "codeVariants").fill("1")
    turn = make(page, "code", "A page with a header and a button")
    expect_proven(turn)
    part(turn, "instruction").fill("make the header blue")
    turn.get_by_role("button", name="Refine").click()
    refined = page.locator(".turn[data-kind=code]").nth(-1)
    expect(part(refined, "question")).to_contain_text("make the header blue")
    expect_proven(refined)
    refined.get_by_role("button", name="Changes").click()
    expect(part(refined, "baseText")).to_have_text("Revision 0 is the file that it was refined from.")
    removed = refined.locator("[data-kind=removed]")
    expect(removed.first).to_be_visible()
    assert removed.count() < 6


def test_a_screenshot_is_uploaded_or_pasted(page: Page) -> None:
    shot = Image.new("RGB", (320, 200), "white")
    shot.paste((200, 30, 30), (0, 0, 320, 50))
    file = io.BytesIO()
    shot.save(file, "PNG")
    show(page, "code")
    part(page, "codeFile").set_input_files({"name": "s.png", "mimeType": "image/png", "buffer": file.getvalue()})
    expect(part(page, "codeShot")).to_be_visible()
    part(page, "codePrompt").press("Enter")
    turn = page.locator(".turn[data-kind=code]").last
    expect_proven(turn)
    expect(part(turn, "code").first).to_contain_text("c81e1e")
    expect(part(page, "codeShot")).to_be_hidden()

    part(page, "codePrompt").evaluate(
        """(field, data) => {
            const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([bytes], "s.png", { type: "image/png" }));
            field.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
        }""",
        base64.b64encode(file.getvalue()).decode(),
    )
    expect(part(page, "codeImage")).to_have_attribute("src", re.compile("^data:image/png;base64,"))


HARM = (
    "<script>parent.document.title = 'mine'</script>"
    "<img src=x onerror=\"document.title='mine'; top.location='about:blank'\">"
    "<link rel=stylesheet href=/playground/style.css><iframe src=/docs></iframe><img src=/docs/assets/icon.svg>"
    "<style>@import url(/docs); body { background: url(/health) }</style><form action=/docs><button>Go</button></form>"
    "<svg onload=\"document.title='mine'\"></svg><a href=\"javascript:document.title='mine'\">Here</a>"
    "<p style='color: rgb(1, 2, 3)'>Harmless</p>"
)


def test_generated_code_can_do_nothing_to_the_page(browser: Browser, demo: Demo) -> None:
    """Its scripts don't run, it reaches nothing, and its frame belongs to nobody."""
    with recorded_page(browser, viewport=DESKTOP) as (page, troubles):
        page.goto(f"{demo.http}/playground/")
        asked: list[str] = []
        page.on("response", lambda answer: asked.append(answer.url))
        result = page.evaluate(
            """async (code) => {
                const { Look } = await import("/playground/js/look.js");
                const frame = document.createElement("iframe");
                frame.sandbox = "allow-scripts";
                frame.id = "trial";
                document.body.append(frame);
                new Look(frame).show(code);
                await new Promise((resolve) => frame.addEventListener("load", resolve));
                return frame.contentDocument === null;
            }""",
            HARM,
        )
        assert result is True
        shown = page.locator("#trial").content_frame
        expect(shown.get_by_text("Harmless")).to_have_css("color", "rgb(1, 2, 3)")
        shown.get_by_text("Here").click()
        shown.get_by_text("Go").click()
        page.wait_for_timeout(200)
        expect(shown.get_by_text("Harmless")).to_be_visible()
        inside = page.locator("#trial").element_handle().content_frame()
        assert inside is not None
        assert inside.evaluate("[self.origin, document.title]") == ["null", ""]
        for put in ("innerHTML = code", "append(document.createRange().createContextualFragment(code))"):  # as it came
            inside.evaluate(f"(code) => {{ document.body.{put} }}", HARM)
            page.wait_for_timeout(100)
            assert inside.evaluate("[self.origin, document.title]") == ["null", ""]
        for reach in ("localStorage", "document.cookie", "parent.document", "top.document"):
            assert (
                inside.evaluate(f"(() => {{ try {{ {reach}; return 'reached' }} catch {{ return 'refused' }} }})()")
                == "refused"
            )
        assert "mine" not in page.title()
        assert {url.partition("/playground/")[2] for url in asked if "/js/" not in url} <= {"preview", "icon.svg"}
        assert all("Content Security Policy" in trouble or "sandboxed" in trouble for trouble in troubles), troubles


def test_the_playground_allows_no_inline_styles_and_the_preview_nobodys_scripts(demo: Demo) -> None:
    for path, told in (("/playground/", "style-src 'self';"), ("/playground/preview", "sandbox allow-scripts")):
        answer = httpx.get(f"{demo.http}{path}")
        policies = answer.headers.get_list("content-security-policy")
        assert len(policies) == 1
        assert told in policies[0]
    assert answer.headers.get_list("x-frame-options") == ["SAMEORIGIN"]
    assert "'unsafe-inline'" in httpx.get(f"{demo.http}/docs").headers["content-security-policy"]


def test_speech_is_heard_and_downloaded(page: Page) -> None:
    turn = make(page, "speech", "Hello there. This is the tide, which comes and goes. " * 6)
    expect_proven(turn)
    audio = turn.locator("audio")
    pieces = int(part(turn, "sound").get_attribute("data-pieces") or 0)
    assert pieces > 3
    # Piece by piece, not as one file: the browser was given each as it came, and all of them.
    assert (audio.get_attribute("src") or "").startswith("blob:")
    expect(part(turn, "sound")).to_have_attribute("data-taken", str(pieces))
    expect(audio).to_have_js_property("error", None)
    page.wait_for_function("(audio) => audio.duration > 1", arg=audio.element_handle())
    with page.expect_download() as download:
        turn.get_by_role("link", name="Download the speech").click()
    assert download.value.suggested_filename.endswith(".mp3")
    assert download.value.path().stat().st_size > 5000
    page.get_by_role("button", name="Second device").click()
    watched = page.get_by_role("article", name="Device 2").locator(".turn")
    expect_proven(watched)
    expect(part(watched, "sound")).to_have_attribute("data-pieces", str(pieces))
    page.get_by_role("article", name="Device 2").get_by_role("button", name="Close").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_kind_overflows_a_phone(browser: Browser, demo: Demo, scheme: str) -> None:
    with recorded_page(browser, viewport=PHONE, color_scheme=scheme, has_touch=True) as (page, troubles):
        page.goto(f"{demo.http}/playground/")
        sign_in(page)
        for kind, words in (("image", "A red boat"), ("code", "A page with a button"), ("speech", "Hello.")):
            show(page, kind)
            page.get_by_role("button", name="Options").click()
            expect_no_overflow(page)
            page.get_by_role("button", name="Options").click()
            expect_proven(make(page, kind, words))
            for view in ("Changes", "Preview") if kind == "code" else ():
                page.get_by_role("button", name=view).first.click()
                expect_no_overflow(page)
            expect_no_overflow(page)
        assert troubles == []


def test_every_control_has_a_name_and_can_be_reached_by_keyboard(page: Page) -> None:
    for kind in ("image", "code", "speech"):
        show(page, kind)
        nameless = page.evaluate(
            """(kind) => [...document.querySelectorAll(`.composer[data-kind=${kind}] *`)]
                .filter((field) => field.matches("input, select, textarea, button") && field.offsetParent)
                .filter((field) => !field.labels?.length && !field.ariaLabel && !field.textContent)
                .map((field) => field.dataset.part)""",
            kind,
        )
        assert nameless == []
        # From the kind's own button the next stops are its form's.
        page.locator(f"[data-part=kinds] [data-kind={kind}]").focus()
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("() => document.activeElement?.closest('.composer')?.dataset.kind ?? ''") == kind:
                break
        else:
            pytest.fail(f"the form of {kind} cannot be reached")


# The pure modules.


def test_the_page_makes_the_same_files_of_the_events_as_the_gateway_does(page: Page) -> None:
    chance = random.Random(11)
    writer, events, texts = Files(), [], []
    text = ""
    for _ in range(300):
        place, gone = chance.randint(0, len(text)), chance.choice((0, 0, 1, 5))
        if chance.random() < 0.5:
            place, gone = len(text), 0
        text = text[:place] + "".join(chance.choices("ab\n😀é", k=chance.randint(0, 6))) + text[place + gone :]
        event = writer.write("a.html", text)
        if event is not None:
            events.append(json.loads(encode(event)))
            texts.append(text)
    found: dict[str, Any] = page.evaluate(
        """async (events) => {
            const { Files } = await import("/playground/js/files.js");
            const files = new Files();
            const fitted = events.every((event) => files.take(event));
            const file = files.get("a.html");
            const late = { type: "patch", path: "a.html", base_rev: 1, rev: 2, from: 0, del: 0, ins: "x" };
            const wrong = !files.take(late);
            const earlier = [1, 50, 100].map((rev) => file.at(rev));
            return { fitted, wrong, text: file.text, rev: file.rev, characters: file.characters, earlier };
        }""",
        events,
    )
    assert (found["fitted"], found["wrong"]) == (True, True)
    assert (found["text"], found["rev"], found["characters"]) == (text, len(events), len(text))
    assert found["earlier"] == [texts[0], texts[49], texts[99]]


def test_a_diff_has_both_texts_in_it_and_is_small(page: Page) -> None:
    chance = random.Random(3)
    pairs = [["\n".join(chance.choices("abc", k=chance.randint(0, 12))) for _ in range(2)] for _ in range(300)]
    pairs.append(["\n".join(map(str, range(3000))), "\n".join(str(n) for n in range(3000) if n != 1500)])
    diffs = page.evaluate(
        """async (pairs) => {
            const { diffLines } = await import("/playground/js/diff.js");
            return pairs.map(([before, after]) => diffLines(before, after));
        }""",
        pairs,
    )
    for (before, after), lines in zip(pairs, diffs, strict=True):
        assert "\n".join(line["text"] for line in lines if line["kind"] != "added") == before
        assert "\n".join(line["text"] for line in lines if line["kind"] != "removed") == after
    assert [line["kind"] for line in diffs[-1]].count("removed") == 1
