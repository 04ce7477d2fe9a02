from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.summarizer.ranking import choose, how_many
from services.summarizer.sentences import count_words, language_of, split_sentences, terms_of


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith met Mr. J. R. Jones at 3.14 p.m. yesterday. They spoke.", 2),
        ("El Sr. García llegó tarde. ¿Por qué? ¡Nadie lo sabe!", 3),
        ("Das ist z.B. ein Satz. Und noch einer.", 2),
        ("今日は晴れです。明日は雨でしょう。", 2),
        ('He said "Stop." Then he left… Nobody followed.', 3),
        ("A heading\n\nA paragraph without a stop\n\n- one point\n- another", 4),
        ("...", 0),
        ("no stop at all", 1),
    ],
)
def test_sentences_end_where_readers_see_an_end(text: str, sentences: int) -> None:
    assert len(split_sentences(text)) == sentences, split_sentences(text)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat sat on the mat and it was happy with what they had.", "en"),
        ("El gato se sentó en la alfombra porque era muy feliz con lo que tenía.", "es"),
        ("Le chat est dans la maison et il ne veut pas en sortir avec nous.", "fr"),
        ("Die Katze sitzt auf dem Teppich und sie ist mit der Maus nicht allein.", "de"),
        ("Il gatto è sul tappeto e non vuole che gli altri della casa lo vedano.", "it"),
        ("O gato não está em casa porque ele foi para a rua com os seus amigos.", "pt"),
        ("De kat zit op het kleed en wil niet dat wij naar haar kijken.", "nl"),
        ("Кошка сидит на ковре и не хочет уходить.", "ru"),
        ("猫はじゅうたんの上に座っています。", "ja"),
        ("猫坐在地毯上，不想离开房子。", "zh"),
        ("12345", "en"),
    ],
)
def test_the_language_is_told_by_its_frequent_words_or_its_script(text: str, language: str) -> None:
    assert language_of(text) == language


def test_terms_have_no_accents_endings_or_frequent_words() -> None:
    assert terms_of("The generation of generators", "en") == ["genera", "genera"]
    assert terms_of("Las canciones más acústicas", "es") == ["cancio", "acusti"]
    assert terms_of("日本語", "ja") == ["日本", "本語"]


@given(st.text(max_size=400))
def test_any_text_has_sentences_that_are_of_it(text: str) -> None:
    folded = "".join(text.split())
    for sentence in split_sentences(text):
        assert "".join(sentence.split()) in folded
    assert count_words(split_sentences(text)) >= 0


@given(
    st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=30),
    st.integers(1, 40),
    st.none() | st.integers(5, 50),
)
def test_any_sentences_can_be_chosen_from(sentences: list[str], number: int, words: int | None) -> None:
    picked = choose(sentences, "en", number, words)
    places = [place for place, _ in picked]
    assert places == sorted(set(places))
    assert 1 <= len(picked) <= min(number, len(sentences))
    assert all(0 <= score <= 1 for _, score in picked)


def test_what_most_sentences_are_about_is_chosen_and_nothing_is_said_twice() -> None:
    sentences = [
        "Our office has a new coffee machine.",
        "The gateway carries streams of tokens over one socket to each browser.",
        "Each stream of the gateway has tokens in order, and the socket may break.",
        "When the socket breaks, the gateway resumes each stream where the browser stood.",
        "The gateway carries streams of tokens over one socket to every browser.",
        "It rained on Tuesday.",
    ]
    picked = [place for place, _ in choose(sentences, "en", 2, None)]
    assert 0 not in picked
    assert 5 not in picked
    assert set(picked) != {1, 4}


def test_how_many_follows_what_was_asked() -> None:
    assert [how_many(40, *asked) for asked in ((3, None), (None, 0.5), (None, None), (99, None))] == [3, 20, 7, 40]
    assert how_many(1, None, 0.01) == 1


def test_a_long_text_takes_no_long_time_and_its_end_is_seen() -> None:
    sentences = [f"Sentence number {number} tells of subject {number % 7}." for number in range(10_000)]
    picked = choose(sentences, "en", 50, None)
    assert len(picked) == 50
