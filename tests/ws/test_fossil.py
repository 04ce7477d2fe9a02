"""Deltas turn one text into another, for every reader of them, and cost little whatever the texts are."""

from __future__ import annotations

import json
import random
import time

import centrifuge.fossil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ws.protocols.fossil import LARGEST, Corrupt, apply, create

PIECES = st.lists(
    st.one_of(
        st.sampled_from([b"a" * 40, "é😀".encode() * 9, b'{"price":12.25,"name":"something"},', b"\n", b'"']),
        st.text(max_size=60).map(str.encode),
    ),
    max_size=30,
)


@st.composite
def edited(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two texts that share pieces, in any order and cut anywhere between characters."""
    pieces = draw(PIECES)
    other = list(pieces)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(other)))
        other[at : at + draw(st.integers(0, 3))] = draw(st.lists(st.text(max_size=30).map(str.encode), max_size=2))
    if draw(st.booleans()):
        other = draw(st.permutations(other))
    return b"".join(pieces), b"".join(other)


@settings(max_examples=400)
@given(edited())
def test_a_delta_turns_its_source_into_its_target_and_is_smaller(texts: tuple[bytes, bytes]) -> None:
    source, target = texts
    delta = create(source, target)
    if delta is not None:
        assert len(delta) < len(target)
        assert apply(source, delta) == target == centrifuge.fossil.apply_delta(source, delta)
        delta.decode()  # A delta of texts is a text.


@settings(max_examples=200)
@given(st.binary(max_size=400), st.binary(max_size=400), st.integers(0, 400), st.integers(0, 400))
def test_any_bytes_have_a_delta_that_is_right(a: bytes, b: bytes, cut: int, other_cut: int) -> None:
    source, target = a + b, a[:cut] + b[other_cut:] + a
    delta = create(source, target)
    if delta is not None:
        assert apply(source, delta) == target == centrifuge.fossil.apply_delta(source, delta)


@pytest.mark.parametrize(("old", "new"), [("é", "è"), ("é", "ũ"), ("😀", "😁"), ("😀", "𝐀"), ("ü", "u"), ("€", "₮")])
@pytest.mark.parametrize("around", ["xy", "é", "€😀"])
def test_a_change_within_a_character_is_cut_around_it(old: str, new: str, around: str) -> None:
    source, target = (around * 50 + old + around * 50).encode(), (around * 50 + new + around * 50).encode()
    delta = create(source, target)
    assert delta is not None
    assert new in delta.decode()
    assert apply(source, delta) == target


def test_a_small_change_of_a_document_is_a_small_delta() -> None:
    document = {"rows": [{"id": number, "value": number * 7} for number in range(60)]}
    source = json.dumps(document).encode()
    document["rows"][30]["value"] = -1
    delta = create(source, json.dumps(document).encode())
    assert delta is not None
    assert len(delta) < 40


def test_a_list_that_moves_on_by_one_is_a_small_delta() -> None:
    lines = [f"line {number}: {random.Random(number).random()}" for number in range(60)]
    delta = create(json.dumps(lines[:-1]).encode(), json.dumps(lines[1:]).encode())
    assert delta is not None
    assert len(delta) < 120


def test_what_has_nothing_in_common_has_no_delta() -> None:
    assert create(random.Random(1).randbytes(3000), random.Random(2).randbytes(3000)) is None
    assert create(b"", b"x" * 100) is None
    assert create(b"x" * 100, b"") is None


def test_what_is_too_large_has_none() -> None:
    assert create(b"x" * 100, b"x" * (LARGEST + 1)) is None
    assert create(b"x" * (LARGEST + 1), b"x" * 100) is None


@settings(max_examples=300)
@given(edited(), st.integers(0, 2**32), st.integers(0, 127))
def test_a_source_that_was_changed_does_not_pass_for_the_right_one(
    texts: tuple[bytes, bytes], at: int, change: int
) -> None:
    source, target = texts
    delta = create(source, target)
    if delta is None:
        return
    at %= len(source)
    other = source[:at] + bytes([source[at] ^ (2 * change + 1)]) + source[at + 1 :]
    try:
        assert apply(other, delta) == target, "it may be: this byte was not copied"
    except Corrupt:
        with pytest.raises(ValueError, match="checksum"):
            centrifuge.fossil.apply_delta(other, delta)


def test_a_delta_that_was_changed_is_refused() -> None:
    source = b"the quick brown fox jumps over the lazy dog"
    delta = create(source, source[:30] + b"a very " + source[30:])
    assert delta is not None
    for at in range(len(delta)):
        with pytest.raises(Corrupt):
            apply(source, delta[:at] + bytes([delta[at] ^ 1]) + delta[at + 1 :])
        with pytest.raises(Corrupt):
            apply(source, delta[:at])


@pytest.mark.parametrize(
    "delta",
    [
        b"",
        b"\n",
        b"5",
        b"5\n",
        b"5\n5:abc",
        b"5\n5@0,",
        b"5\n5@~~,0;",
        b"1\n5:abcde0;",
        b"0\n1;",
        b"0\n0?",
        b"~~~~~~~\n",
    ],
)
def test_what_is_no_delta_is_refused(delta: bytes) -> None:
    with pytest.raises(Corrupt):
        apply(b"abc", delta)


def test_a_delta_for_another_source_is_refused() -> None:
    source = b"the quick brown fox jumps over the lazy dog"
    delta = create(source, source + b"!")
    assert delta is not None
    with pytest.raises(Corrupt):
        apply(source.upper(), delta)


@pytest.mark.parametrize("size", [4096, LARGEST])
def test_hostile_texts_cost_no_more_than_milliseconds(size: int) -> None:
    numbers = random.Random(3)
    text, other = numbers.randbytes(size), numbers.randbytes(size)
    block = max(16, size // 512)
    blocks = [text[at : at + block] for at in range(0, size, block)]
    numbers.shuffle(blocks)
    hostile = [
        (text, other),
        (text, b"".join(blocks)),
        (b"a" * size, b"a" * (size - 1) + b"b"),
        ((b"a" * 15 + b"b") * (size // 16), (b"a" * 15 + b"c") * (size // 16)),
        (b"a" * size, b"ab" * (size // 2)),
        (text, b"".join(b"x" + each for each in blocks)[:size]),
    ]
    for source, target in hostile:
        times = []
        for _ in range(5):
            before = time.process_time()
            delta = create(source, target)
            times.append(time.process_time() - before)
        assert min(times) < 0.05, "it takes 2 ms where nothing else runs"
        assert delta is None or apply(source, delta) == target
