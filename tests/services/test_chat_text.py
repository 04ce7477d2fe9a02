from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.text import corpus_sentences, count_pieces, split_pieces


@given(st.text())
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(split_pieces(text)) == text
    assert count_pieces(text) == len(split_pieces(text))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("What is light?", ["What", " is", " light", "?"]),
        ("see Fig. 12, &c. now", ["see", " Fig.", " 12", ",", " &c.", " now"]),
        ("stopp'd  by\nit", ["stopp'd", "  ", "by", "\nit"]),
        ("", []),
    ],
)
def test_a_piece_is_a_word_or_a_sign_with_its_space(text: str, pieces: list[str]) -> None:
    assert split_pieces(text) == pieces


def test_a_long_word_counts_as_several() -> None:
    assert count_pieces("a" * 240) == 10


def test_the_corpus_gives_sentences_without_headings_tables_and_figures() -> None:
    book = """_PART I._

_Light_ is (as I said) a thing. It moves
very fast indeed, Mr. Smith.[A]

The line AC cuts the circle.

    Deg. | Min. of the arc.

[A] A note at the foot of a page.
"""
    assert ["".join(sentence) for sentence in corpus_sentences(book)] == [
        " Light is, as I said, a thing.",
        " It moves very fast indeed, Mr. Smith.",
    ]
