"""Tokens that nobody counted. The figures are those of OpenAI's own vocabularies for these texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.limits.estimate import TokenCounter, estimate, estimate_prompt

ENGLISH = (
    "Every answer of a limited route says how much is left, by the fields of the draft and, for the tightest limit, "
    "by those that older clients know. What callers chose is hashed: no key of theirs lies in the store."
)
CHINESE = (
    "人工智能正在改变我们的生活方式。许多公司开始使用大型语言模型来提高工作效率,"
    "例如自动生成报告、翻译文件以及回答客户的问题。"
)
RUSSIAN = "Многие компании начинают использовать большие языковые модели, чтобы повысить эффективность работы."


@pytest.mark.parametrize(
    ("text", "model", "tokens", "within"),
    [
        (ENGLISH, "gpt-4o", 48, 0.1),
        (ENGLISH, "gpt-3.5-turbo", 48, 0.1),
        (CHINESE, "gpt-4o", 34, 0.3),
        (CHINESE, "gpt-4", 56, 0.3),
        (RUSSIAN, "gpt-4o", 16, 0.35),
    ],
)
def test_estimates_are_near_what_a_tokenizer_counts(text: str, model: str, tokens: int, within: float) -> None:
    assert estimate(text, model) == pytest.approx(tokens, rel=within)


@pytest.mark.parametrize(
    ("model", "older"),
    [("gpt-4", True), ("gpt-4-turbo", True), ("openai/gpt-4-0613", True), ("gpt-3.5-turbo", True),
     ("gpt-4o", False), ("gpt-4.1-mini", False), ("claude-sonnet-4-5", False), (None, False)],
)  # fmt: skip
def test_the_family_is_read_off_the_models_name(model: str | None, older: bool) -> None:
    assert (estimate("機", model) > 1) == older


@given(st.lists(st.text(max_size=40), max_size=200))
def test_a_text_in_pieces_is_counted_nearly_as_the_whole(pieces: list[str]) -> None:
    counter = TokenCounter()
    for piece in pieces:
        counter.add(piece)
    whole = estimate("".join(pieces))
    assert counter.characters == sum(map(len, pieces))
    assert counter.tokens == pytest.approx(whole, rel=0.03, abs=3)


def test_counting_again_and_again_changes_little() -> None:
    counter = TokenCounter()
    for _ in range(500):
        counter.add("Hello world ")
        assert counter.tokens >= 0
    assert counter.tokens == pytest.approx(1000, rel=0.05)


def test_a_prompt_is_counted_with_all_of_its_texts_and_a_little_for_each_message() -> None:
    body = {
        "model": "m",
        "system": ENGLISH,
        "messages": [{"role": "user", "content": [{"type": "text", "text": ENGLISH}]}],
    }
    assert estimate_prompt(body) == pytest.approx(2 * 48 + 8, rel=0.1)
    assert estimate_prompt({"input": [ENGLISH] * 3}) == pytest.approx(3 * 48, rel=0.1)
    assert estimate_prompt(None) == 0


def test_a_prompt_that_is_nested_without_end_is_counted_as_far_as_it_is_sane() -> None:
    body: object = ENGLISH
    for _ in range(200):
        body = {"content": body}
    assert estimate_prompt(body) == 0
