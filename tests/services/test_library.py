"""The library: companies' texts apart from each other, kept, found again, and missed when they are away."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.library.documents import Documents
from services.library.library import Library, shelf_of
from services.library.records import NewDocument, Passage
from services.library.words import match_expression, sentences, stem, words
from services.web.errors import Unavailable


def put(library: Library, company: str, text: str, name: str = "") -> str:
    """Have a company own a text; the document's id."""
    library.check()
    digest = hashlib.sha256(f"{name}{text}".encode("utf-8", "surrogatepass")).hexdigest()
    file = library.folder / "incoming" / digest
    file.write_bytes(b"x")
    new = NewDocument(f"doc_{digest[:20]}", name or "Notes", "notes.txt", "text", len(text), digest, "42")
    documents = Documents(library, shelf_of(company))
    document, _ = documents.add(new, file, 1.0)
    documents.finish(document.id, [Passage(text)], 0, 2.0)
    return document.id


def found(library: Library, company: str, question: str, **options: Any) -> list[str]:
    return [one.text for one in Documents(library, shelf_of(company)).search(question, 50, **options)]


NAMES = st.text(min_size=1, max_size=8) | st.sampled_from(
    ["acme", "ACME", "acme ", "../acme", "a/b", "acme\x00", "%", "*"]
)
TEXTS = st.sampled_from(["salary", "secret plan", "salary of secret people", "plans for salaries", "nothing at all"])
QUESTIONS = st.text(max_size=40) | st.sampled_from(
    ["salary", "secret OR plan", 'secret" OR "1', "* NEAR(", "text:secret", "^secret - plan", "words MATCH 'x'"]
)


@settings(max_examples=40)
@given(
    kept=st.lists(st.tuples(NAMES, TEXTS), min_size=1, max_size=6),
    asker=NAMES,
    question=QUESTIONS,
    data=st.data(),
)
def test_no_company_ever_finds_reads_or_deletes_what_is_another_ones(
    kept: list[tuple[str, str]],
    asker: str,
    question: str,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    library = Library(tmp_path_factory.mktemp("library"))
    owned = [(company, f"{text} {index} of {company!r}", index) for index, (company, text) in enumerate(kept)]
    ids = {put(library, company, text): (company, text) for company, text, _ in owned}
    asker = data.draw(st.sampled_from([asker, *(company for company, _ in kept)]))
    mine = {text for company, text in ids.values() if company == asker}
    documents = Documents(library, shelf_of(asker))
    assert set(found(library, asker, question)) <= mine
    assert set(found(library, asker, "salary secret plans nothing")) == mine
    assert set(found(library, asker, question, only=list(ids))) <= mine
    for document, (company, text) in ids.items():
        assert (documents.get(document) is not None) == (company == asker)
        assert [one.text for _, one in documents.passages(document, -1, 9)] == ([text] if company == asker else [])
        if company != asker:
            assert documents.rename(document, "mine") is None
            assert documents.delete(document) is False
            assert library.file(shelf_of(company), document).exists()
    assert {one.id for one in documents.newest(50, None, None)} == {i for i, (c, _) in ids.items() if c == asker}


def test_what_others_have_does_not_change_the_weights_of_words(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    for number in range(5):
        put(library, "acme", f"contract number {number} of many words")
    put(library, "acme", "budget of the year")
    before = [one.score for one in Documents(library, shelf_of("acme")).search("budget contract", 9)]
    for number in range(20):
        put(library, "other", f"budget {number}")
    assert [one.score for one in Documents(library, shelf_of("acme")).search("budget contract", 9)] == before


def test_the_rarer_word_and_the_heading_count_more(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    for number in range(8):
        put(library, "acme", f"the invoice {number} was sent to the customer")
    put(library, "acme", "the refund was sent to the customer")
    assert found(library, "acme", "was the refund of an invoice sent?")[0] == "the refund was sent to the customer"


def test_words_are_found_without_accents_and_in_the_plural(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    put(library, "acme", "Las políticas de devolución están en el contrato.")
    for question in ("politica", "POLÍTICAS", "¿Qué dicen los contratos?", "devoluciones"):
        assert found(library, "acme", question), question
    assert found(library, "acme", "¿?") == []


@given(st.text(max_size=200))
def test_no_question_is_an_error_of_the_search(question: str) -> None:
    expression = match_expression(question)
    assert expression.count('"') == 2 * len(expression.split(" OR ")) or not expression
    assert all(stem(word) for word in words(question))


def test_sentences_end_where_they_do_and_nothing_is_lost() -> None:
    text = "Dr. Smith came at 5 p.m. today. He said: «Hello!» Then he left?\n\nA new paragraph\n- one\n- two"
    assert sentences(text) == [
        "Dr. Smith came at 5 p.m. today.",
        "He said: «Hello!»",
        "Then he left?",
        "A new paragraph",
        "- one",
        "- two",
    ]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_sentences_lose_no_word(text: str) -> None:
    assert words(" ".join(sentences(text))) == words(" ".join(text.split()))


def test_a_library_that_goes_away_is_missed_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    library = Library(folder)
    first = put(library, "acme", "the first text")
    folder.rename(tmp_path / "away")
    documents = Documents(library, shelf_of("acme"))
    for call in (lambda: documents.get(first), lambda: documents.search("text", 3), library.shelves):
        with pytest.raises(Unavailable):
            call()
    with pytest.raises(Unavailable):
        documents.finish(first, [], 0, 3.0)
    assert not folder.exists(), "a new one would hide the old one"
    folder.mkdir()
    (folder / "shelves").mkdir()
    with pytest.raises(Unavailable):
        documents.get(first)
    (folder / "shelves").rmdir()
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    assert found(library, "acme", "first") == ["the first text"]


def test_a_database_that_is_damaged_is_unavailable(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    put(library, "acme", "a text")
    for path in (library.folder / "shelves").glob("*.sqlite*"):
        path.write_bytes(b"not a database, but long enough to look like one " * 100)
    with pytest.raises(Unavailable):
        found(library, "acme", "text")


def test_many_writers_at_once_wait_for_each_other(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    library.check()
    threads = [threading.Thread(target=put, args=(library, "acme", f"text {number}")) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Documents(library, shelf_of("acme")).counts()["documents"] == 12
    assert len(found(library, "acme", "text")) == 12


def test_a_deleted_document_is_not_found_any_more(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    document = put(library, "acme", "a text")
    documents = Documents(library, shelf_of("acme"))
    assert documents.delete(document)
    assert not documents.delete(document)
    assert found(library, "acme", "text") == []
    assert not library.file(shelf_of("acme"), document).exists()
    documents.finish(document, [Passage("back again")], 0, 3.0)
    assert found(library, "acme", "again") == []
