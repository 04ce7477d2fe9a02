"""Files told as splices: what follows them has the same text, and little is sent for it."""

from __future__ import annotations

import hashlib
import random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.generations.event_json import encode, encode_delta
from app.generations.events import Completed, FilePatch, FileReceipt, FileSet
from app.generations.files import Files
from app.generations.formats.screenshot_to_code import screenshot_to_code
from app.generations.receipt import ReceiptBuilder, fold

texts = st.lists(st.text(st.sampled_from("ab\nü😀"), max_size=12), min_size=1, max_size=8)


@given(texts, texts)
def test_whoever_follows_has_each_text_as_it_was_written(one: list[str], two: list[str]) -> None:
    files, follower = Files(), Files()
    for path, versions in (("a", one), ("b", two)):
        for text in versions:
            event = files.write(path, text)
            if event is not None:
                assert follower.follow(event)
            assert follower.texts[path] == text
    assert follower.receipts() == files.receipts()


@given(texts)
def test_appended_text_is_the_same_as_the_whole_written_again(pieces: list[str]) -> None:
    appended, written = Files(), Files()
    whole = ""
    for piece in pieces:
        whole += piece
        assert appended.append("f", piece) == (written.write("f", whole) if piece else None)


@pytest.mark.parametrize(
    ("old", "new", "event"),
    [
        ("abc", "abcdef", FilePatch("f", 1, 2, 3, 0, "def")),
        ("abc", "ab", FilePatch("f", 1, 2, 2, 1, "")),
        ("abc", "aXc", FilePatch("f", 1, 2, 1, 1, "X")),
        ("aa", "aaa", FilePatch("f", 1, 2, 2, 0, "a")),
        ("aaa", "aa", FilePatch("f", 1, 2, 2, 1, "")),
        ("a😀c", "a😁c", FilePatch("f", 1, 2, 1, 1, "😁")),
        ("", "abc", FileSet("f", 2, "abc")),
        ("abc", "xyz", FileSet("f", 2, "xyz")),
        ("abc", "", FileSet("f", 2, "")),
        ("abc", "abc", None),
    ],
)
def test_a_change_is_told_as_the_smallest_splice(old: str, new: str, event: FileSet | FilePatch | None) -> None:
    files = Files()
    assert files.write("f", old) == FileSet("f", 1, old)
    assert files.write("f", new) == event


def test_a_patch_that_does_not_fit_changes_nothing() -> None:
    files = Files()
    files.follow(FileSet("f", 3, "abc"))
    for patch in (FilePatch("f", 2, 3, 0, 0, "x"), FilePatch("f", 3, 4, 2, 2, "x"), FilePatch("g", 1, 2, 0, 0, "x")):
        assert not files.follow(patch)
    assert files.texts == {"f": "abc"}


def test_a_page_that_is_sent_again_and_again_costs_bytes_like_its_size_not_like_its_square() -> None:
    letters = random.Random(3).choices("abcdefgh <>/=\n", k=60_000)
    files, sent, repeated = Files(), 0, 0
    for size in range(0, 60_001, 40):
        text = "".join(letters[:size]) + "</html>"
        event = files.write("index.html", text)
        assert event is not None
        sent += len(encode(event))
        repeated += len(text)
    assert sent < 4 * 60_000
    assert repeated > 40_000_000


def test_on_the_wire_a_splice_has_the_words_of_the_protocol() -> None:
    assert orjson.loads(encode(FileSet("f", 1, "ab"))) == {"type": "set", "path": "f", "rev": 1, "text": "ab"}
    assert orjson.loads(encode(FilePatch("f", 1, 2, 3, 4, "x"))) == {
        "type": "patch",
        "path": "f",
        "base_rev": 1,
        "rev": 2,
        "from": 3,
        "del": 4,
        "ins": "x",
    }


@given(texts)
def test_the_receipt_is_the_same_from_the_events_and_from_their_log(versions: list[str]) -> None:
    files, builder = Files(), ReceiptBuilder()
    builder.add("text")
    log = [encode_delta("text")]
    for text in versions:
        event = files.write("f", text)
        if event is not None:
            builder.follow(event)
            log.append(encode(event))
    receipt = builder.seal(9)
    last = versions[-1]
    assert receipt.files is not None
    assert receipt.files["f"].sha256 == hashlib.sha256(last.encode()).hexdigest()
    assert receipt.files["f"].characters == len(last)
    assert fold(log).receipt(9) == receipt
    assert fold(log).files.texts == {"f": last}
    terminal = orjson.loads(encode(Completed("stop"), receipt))
    assert terminal["receipt"]["files"]["f"] == {
        "rev": receipt.files["f"].rev,
        "characters": len(last),
        "sha256": receipt.files["f"].sha256,
    }
    assert isinstance(receipt.files["f"], FileReceipt)


def test_without_files_a_receipt_is_as_it_always_was() -> None:
    terminal = orjson.loads(encode(Completed("stop"), ReceiptBuilder().seal(1)))
    assert sorted(terminal["receipt"]) == ["characters", "offset", "sha256"]


def test_broken_file_events_in_a_log_are_passed_over() -> None:
    good = encode(FileSet("f", 1, "ab"))
    for broken in (
        b'{"type":"set"}',
        b'{"type":"set","path":1,"rev":1,"text":"x"}',
        b'{"type":"set","path":"f","rev":1,"text":null}',
        b'{"type":"patch","path":"f","base_rev":1,"rev":2}',
        b'{"type":"patch","path":"f","base_rev":1,"rev":2,"from":-1,"del":0,"ins":[]}',
        b'{"type":"patch","path":"f","base_rev":7,"rev":8,"from":0,"del":0,"ins":"x"}',
        b'{"type":"patch","path":"f","base_rev":1,"rev":8,"from":-5,"del":-9,"ins":"x"}',
    ):
        assert fold([good, broken]).files.texts == {"f": "ab"}


def test_four_variants_that_are_sent_whole_again_and_again_cost_little_more_than_their_size() -> None:
    """A screenshot-to-code server repeats all of a variant for each piece; 200 KB in steps of 1,000 characters each."""
    frame = 150  # bytes around an event, about
    line = '  <div class="card">Some text that a page may have</div>\n'
    code = (line * (200_000 // len(line) + 1))[:200_000]
    decoder, sent = screenshot_to_code(), 0
    for end in range(1000, len(code) + 1, 1000):
        for variant in range(4):
            value = {"type": "setCode", "variantIndex": variant, "value": code[:end]}
            sent += sum(len(encode(event)) + frame for event in decoder.text(orjson.dumps(value)))
    assert 4 * len(code) < sent <= 1.5 * 4 * len(code)
