"""A receipt is the same however its text was cut, and a log read back tells what was said."""

from __future__ import annotations

import hashlib

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.generations.event_json import encode, encode_delta
from app.generations.events import (
    Artifact,
    Cancelled,
    Completed,
    Delta,
    Failed,
    FileSet,
    Progress,
    Receipt,
    Reset,
    Started,
    Switched,
    Usage,
)
from app.generations.lifecycle import State
from app.generations.receipt import ReceiptBuilder, fold

LOG = [
    encode(Started("gpt-x", "chat")),
    encode_delta("Hm", "reasoning"),
    encode_delta("Grüße"),
    encode_delta('{"index":0}\n', "tool"),
    encode_delta(" 👋🏽"),
    encode(Usage(9, 2, "estimated")),
]


def receipt_of(text: str, offset: int) -> Receipt:
    return Receipt(offset, len(text), hashlib.sha256(text.encode()).hexdigest())


@given(st.lists(st.text(max_size=50)))
def test_a_receipt_is_of_the_whole_text_however_it_was_cut(texts: list[str]) -> None:
    builder = ReceiptBuilder()
    for text in texts:
        builder.add(text)
    assert builder.characters == len("".join(texts))
    assert builder.seal(7) == receipt_of("".join(texts), 7)


def test_a_long_text_is_hashed_on_the_way() -> None:
    builder = ReceiptBuilder()
    for _ in range(10_000):
        builder.add("schön ")
    assert builder.characters == 60_000
    assert builder.seal(1) == receipt_of("schön " * 10_000, 1)


def test_a_builder_goes_on_after_a_seal() -> None:
    builder = ReceiptBuilder()
    builder.add("a")
    assert builder.seal(1) == builder.seal(1) == receipt_of("a", 1)
    builder.add("b")
    assert builder.seal(2) == receipt_of("ab", 2)


def test_an_empty_log_is_queued() -> None:
    snapshot = fold([])
    assert (snapshot.status, snapshot.model, snapshot.text, snapshot.terminal) == (State.QUEUED, None, "", None)
    assert fold([b'{"type":"queued","position":3}']).status is State.QUEUED
    assert snapshot.receipt(1) == receipt_of("", 1)


def test_a_running_log_tells_each_part() -> None:
    snapshot = fold(LOG)
    assert (snapshot.status, snapshot.model, snapshot.upstream) == (State.STARTED, "gpt-x", "chat")
    assert (snapshot.text, snapshot.reasoning, snapshot.tools) == ("Grüße 👋🏽", "Hm", '{"index":0}\n')
    assert snapshot.usage == Usage(9, 2, "estimated")
    assert snapshot.terminal is None
    assert snapshot.characters == 8
    assert snapshot.receipt(7) == receipt_of("Grüße 👋🏽", 7)


def test_each_terminal_gives_its_state_and_itself() -> None:
    receipt = fold(LOG).receipt(7)
    for event, state in (
        (Completed("stop"), State.COMPLETED),
        (Failed("interrupted", "Gone.", True), State.FAILED),
        (Cancelled("user"), State.CANCELLED),
    ):
        item = encode(event, receipt)
        snapshot = fold([*LOG, item, encode_delta("late"), encode(Completed("again"))])
        assert (snapshot.status, snapshot.terminal, snapshot.text) == (state, orjson.loads(item), "Grüße 👋🏽")
        assert snapshot.terminal is not None
        assert snapshot.terminal["receipt"] == {"offset": 7, "characters": 8, "sha256": receipt.sha256}
        assert fold([item]).status is state


def test_a_log_whose_beginning_was_merged_away_is_started() -> None:
    assert fold([encode_delta("x")]).status is State.STARTED


def test_unknown_and_broken_items_are_passed_over() -> None:
    strange = [b"", b"{", b"[]", b"null", b"{}", b'{"type":"later"}', b'{"type":["completed"]}', b'{"type":"delta"}']
    strange += [b'{"type":"delta","text":"x","part":"other"}', b'{"type":"delta","text":1}', b'{"type":"usage"}']
    strange += [b'{"type":"delta","text":"x","part":[]}', b'{"type":"delta","text":"x","part":null}']
    mixed = [item for pair in zip(LOG, strange[: len(LOG)], strict=True) for item in pair] + strange
    assert fold(mixed) == fold(LOG)


@given(st.lists(st.text(max_size=20), max_size=20), st.data())
def test_merged_deltas_fold_to_the_same_snapshot(texts: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(texts)))
    merged = [LOG[0], encode_delta("".join(texts[:cut])), *map(encode_delta, texts[cut:])]
    assert fold(merged) == fold([LOG[0], *map(encode_delta, texts)])


@given(st.lists(st.binary(max_size=40) | st.sampled_from(LOG)))
def test_arbitrary_items_never_raise(items: list[bytes]) -> None:
    fold(items)


def test_a_builder_and_a_folded_log_agree() -> None:
    builder = ReceiptBuilder()
    for event in (Delta("Grüße"), Delta(" 👋🏽")):
        builder.add(event.text)
    assert builder.seal(7) == fold(LOG).receipt(7)


def test_a_reset_leaves_nothing_of_what_was_said_before_and_a_switch_goes_by_the_next_upstream() -> None:
    begun = [
        encode(Started("gpt-x", "a")),
        encode_delta("void"),
        encode_delta("Hm", "reasoning"),
        encode(FileSet("a.py", 1, "void")),
        encode(Artifact(0, "image/png", "https://a/void.png")),
        encode(Progress("drawing", percent=50.0)),
        encode(Switched("a", "b", "restart", "upstream_truncated", Usage(9, 2, "estimated"))),
    ]
    anew = fold([*begun, encode(Reset(4)), encode_delta("kept")])
    assert (anew.text, anew.reasoning, anew.artifacts, anew.progress) == ("kept", "", (), None)
    assert (anew.upstream, anew.usage, anew.spent, anew.latest[0]) == ("b", None, Usage(9, 2, "estimated"), "kept")
    assert anew.receipt(10) == receipt_of("kept", 10)
    on = fold([*begun, encode_delta("more")])
    assert (on.text, on.latest) == ("voidmore", ("more", "", ""))


def test_a_switch_before_the_first_word_is_no_beginning() -> None:
    assert fold([encode(Switched("a", "b", "restart", "upstream_error"))]).status is State.QUEUED


def test_a_builder_that_begins_again_has_forgotten_all() -> None:
    builder = ReceiptBuilder()
    builder.add("x" * 40_000)
    builder.follow(FileSet("a.py", 1, "void"))
    builder.begin_again()
    builder.add("kept")
    assert builder.seal(3) == receipt_of("kept", 3)
