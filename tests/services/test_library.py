"""Libraries in SQLite and in PostgreSQL: companies' texts apart from each other, kept, found again, and missed."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.library.companies import shelf_of
from services.library.folder import Folder
from services.library.opening import open_library, postgres_url
from services.library.port import Documents, Library
from services.library.records import NewDocument, Passage
from services.library.vectors import terms
from services.library.words import match_expression, sentences, stem, words
from services.web.errors import Unavailable
from services.web.threads import Threads
from tests.support.postgres import PostgresServer


class Shop:
    """A library, the folder that it keeps files in, and what companies put into it."""

    def __init__(self, folder: Folder, url: str | None, threads: Threads) -> None:
        self.folder = folder
        self.library: Library = open_library(folder, url, threads, has_files=True)
        self.salt = ""

    def of(self, company: str) -> Documents:
        return self.library.documents(shelf_of(self.salt + company))

    def file(self, company: str, document: str) -> Path:
        return self.folder.file(shelf_of(self.salt + company), document)

    async def add(self, company: str, text: str, name: str = "", at: float = 1.0) -> str:
        """Have a company own a text that waits to be read; the document's id."""
        await self.library.check()
        digest = hashlib.sha256(f"{name}{text}".encode()).hexdigest()
        file = self.folder.incoming / secrets.token_hex(8)
        file.write_bytes(text.encode())
        ident = f"doc_{secrets.token_hex(10)}"
        new = NewDocument(ident, name or "Notes", "notes.txt", "text", len(text), digest, "42")
        document, _ = await self.of(company).add(new, file, at)
        return document.id

    async def put(self, company: str, *texts: str, name: str = "", heading: str = "") -> str:
        """The same, read."""
        document = await self.add(company, "\n".join(texts), name)
        await self.of(company).finish(document, [Passage(text, heading) for text in texts], 0, 2.0)
        return document

    async def found(self, company: str, question: str, only: Any = ()) -> list[str]:
        return [one.text for one in await self.of(company).search(question, 50, only)]


@pytest.fixture
async def shop(documents_url: str | None, tmp_path: Path) -> AsyncIterator[Shop]:
    threads = Threads("test", 4, 64)
    opened = Shop(Folder(tmp_path / "library"), documents_url, threads)
    yield opened
    await opened.library.close()
    threads.close()


NAMES = st.text(min_size=1, max_size=8) | st.sampled_from(
    ["acme", "ACME", "acme ", "../acme", "a/b", "acme\x00", "%", "*"]
)
TEXTS = st.sampled_from(["salary", "secret plan", "salary of secret people", "plans for salaries", "nothing at all"])
QUESTIONS = st.text(max_size=40) | st.sampled_from(
    ["salary", "secret OR plan", 'secret" OR "1', "* NEAR(", "text:secret", "^secret - plan", "words MATCH 'x'"]
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kept=st.lists(st.tuples(NAMES, TEXTS), min_size=1, max_size=6),
    asker=NAMES,
    question=QUESTIONS,
    data=st.data(),
)
async def test_no_company_ever_finds_reads_or_deletes_what_is_another_ones(
    kept: list[tuple[str, str]], asker: str, question: str, data: st.DataObject, shop: Shop
) -> None:
    shop.salt = secrets.token_hex(8)  # Every example has companies of its own.
    owned = [(company, f"{text} {index} of {company!r}") for index, (company, text) in enumerate(kept)]
    ids = {await shop.put(company, text): (company, text) for company, text in owned}
    asker = data.draw(st.sampled_from([asker, *(company for company, _ in kept)]))
    mine = {text for company, text in ids.values() if company == asker}
    documents = shop.of(asker)
    assert set(await shop.found(asker, question)) <= mine
    assert set(await shop.found(asker, "salary secret plans nothing")) == mine
    assert set(await shop.found(asker, question, list(ids))) <= mine
    for document, (company, text) in ids.items():
        assert (await documents.get(document) is not None) == (company == asker)
        shown = [one.text for _, one in await documents.passages(document, -1, 9)]
        assert shown == ([text] if company == asker else [])
        if company != asker:
            assert await documents.rename(document, "mine") is None
            assert await documents.delete(document) is False
            await documents.fail(document, "theirs", 3.0)
            await documents.finish(document, [Passage("theirs")], 0, 3.0)
            assert shop.file(company, document).exists()
    assert {one.id for one in await documents.newest(50, None, None)} == {i for i, (c, _) in ids.items() if c == asker}


async def test_what_others_have_does_not_change_the_weights_of_words(shop: Shop) -> None:
    for number in range(5):
        await shop.put("acme", f"contract number {number} of many words")
    await shop.put("acme", "budget of the year")
    before = [one.score for one in await shop.of("acme").search("budget contract", 9)]
    for number in range(20):
        await shop.put("other", f"budget {number}")
    assert [one.score for one in await shop.of("acme").search("budget contract", 9)] == before


async def test_the_rarer_word_counts_more(shop: Shop) -> None:
    for number in range(8):
        await shop.put("acme", f"the invoice {number} was sent to the customer")
    await shop.put("acme", "the refund was sent to the customer")
    found = await shop.found("acme", "was the refund of an invoice sent?")
    assert found[0] == "the refund was sent to the customer"


async def test_headings_count_more_and_long_texts_less(shop: Shop) -> None:
    await shop.put("acme", "all about customs and duties", heading="Shipping")
    await shop.put("acme", "all about shipping and duties", heading="Customs")
    await shop.put("acme", "shipping is told of here, among very many other things " + "that nobody asks for " * 20)
    found = await shop.found("acme", "shipping")
    assert [text[:20] for text in found] == ["all about customs an", "all about shipping a", "shipping is told of "]
    scores = [one.score for one in await shop.of("acme").search("shipping", 9)]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


async def test_words_are_found_without_accents_and_in_the_plural(shop: Shop) -> None:
    await shop.put("acme", "Las políticas de devolución están en el contrato.")
    for question in ("politica", "POLÍTICAS", "¿Qué dicen los contratos?", "devoluciones"):
        assert await shop.found("acme", question), question
    assert await shop.found("acme", "¿?") == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=80), question=st.text(max_size=80))
async def test_any_text_can_be_kept_and_any_question_asked(text: str, question: str, shop: Shop) -> None:
    shop.salt = secrets.token_hex(8)
    document = await shop.put("acme", text, name=question, heading=text)
    known = await shop.of("acme").get(document)
    assert known is not None
    assert (known.status, known.passages) == ("ready", 1)
    await shop.found("acme", question)
    if words(text) and text.isascii():  # Of rare scripts SQLite and we do not always say the same what a word is.
        assert len(await shop.found("acme", text)) == 1
    assert await shop.of("acme").get(question) is None
    assert await shop.of("acme").newest(9, question, None) == []


async def test_a_document_waits_is_read_or_fails_and_comes_again(shop: Shop) -> None:
    documents = shop.of("acme")
    first, second = await shop.add("acme", "one", at=1.0), await shop.add("acme", "two", at=2.0)
    assert [ident for _, ident in await shop.library.waiting()] == [first, second]
    await documents.fail(first, "No text.", 3.0)
    await documents.finish(second, [Passage("two", "H", 3), Passage("and three", "", 4)], 4, 3.0)
    assert await shop.library.waiting() == []
    failed = await documents.get(first)
    assert failed is not None
    assert (failed.status, failed.error) == ("failed", "No text.")
    assert await shop.add("acme", "two") == second
    assert await shop.library.waiting() == []
    assert await shop.add("acme", "one") == first
    assert await shop.library.waiting() == [(shelf_of("acme"), first)]
    again = await documents.get(first)
    assert again is not None
    assert (again.status, again.error) == ("waiting", None)
    assert await documents.passages(second, 0, 9) == [(1, Passage("and three", "", 4))]
    assert [one.id for one in await documents.newest(1, None, None)] == [second]
    assert [one.id for one in await documents.newest(9, second, None)] == [first]
    assert [one.id for one in await documents.newest(9, None, "ready")] == [second]
    renamed = await documents.rename(second, "Two")
    assert renamed is not None
    assert (renamed.title, renamed.characters, renamed.pages) == ("Two", 12, 4)
    counts = {"documents": 2, "waiting": 1, "failed": 0, "passages": 2, "characters": 12, "bytes": 6}
    assert await documents.counts() == counts
    assert await shop.of("other").counts() == dict.fromkeys(counts, 0)
    only = await documents.search("two three", 9, [first])
    assert only == []
    assert {one.title for one in await documents.search("two three", 9, [second])} == {"Two"}


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


async def test_a_folder_that_goes_away_is_missed_and_nothing_acknowledged_is_lost(shop: Shop, tmp_path: Path) -> None:
    folder = shop.folder.place
    first = await shop.put("acme", "the first text")
    folder.rename(tmp_path / "away")
    with pytest.raises(Unavailable):
        await shop.library.check()
    with pytest.raises(Unavailable):
        await shop.add("acme", "more")
    assert not folder.exists(), "a new one would hide the old one"
    folder.mkdir()
    (folder / "shelves").mkdir()
    with pytest.raises(Unavailable):
        await shop.library.check()
    (folder / "shelves").rmdir()
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    assert await shop.found("acme", "first") == ["the first text"]
    assert shop.file("acme", first).read_text() == "the first text"
    assert (await shop.of("acme").counts())["documents"] == 1, "what was refused left nothing"


async def test_databases_in_a_folder_that_went_away_are_not_asked_any_more(tmp_path: Path) -> None:
    threads = Threads("test", 1, 8)
    shop = Shop(Folder(tmp_path / "library"), None, threads)
    first = await shop.put("acme", "the first text")
    shop.folder.place.rename(tmp_path / "away")
    documents = shop.of("acme")
    for call in (documents.get(first), documents.search("text", 3), shop.library.waiting()):
        with pytest.raises(Unavailable):
            await call
    with pytest.raises(Unavailable):
        await documents.finish(first, [], 0, 3.0)
    threads.close()


async def test_a_database_that_is_damaged_is_unavailable(tmp_path: Path) -> None:
    threads = Threads("test", 1, 8)
    shop = Shop(Folder(tmp_path / "library"), None, threads)
    await shop.put("acme", "a text")
    for path in shop.folder.shelves.glob("*.sqlite*"):
        path.write_bytes(b"not a database, but long enough to look like one " * 100)
    with pytest.raises(Unavailable):
        await shop.found("acme", "text")
    threads.close()


async def test_a_database_that_was_killed_is_unavailable_and_has_all_that_was_acknowledged_when_it_is_back(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    threads = Threads("test", 4, 64)
    shop = Shop(Folder(tmp_path / "library"), postgres_url, threads)
    kept = await shop.put("acme", "the first text")
    postgres_server.kill()
    documents = shop.of("acme")
    for call in (documents.get(kept), documents.search("text", 3), shop.library.waiting(), shop.library.check()):
        with pytest.raises(Unavailable):
            await call
    refused = shop.folder.incoming / "refused"
    refused.write_bytes(b"x")
    new = NewDocument("doc_refused", "t", "t.txt", "text", 1, "0" * 64, "42")
    with pytest.raises(Unavailable):
        await documents.add(new, refused, 1.0)
    assert not shop.file("acme", new.id).exists()
    postgres_server.heal()
    assert await shop.found("acme", "first") == ["the first text"]
    assert (await documents.counts())["documents"] == 1
    await shop.library.close()
    threads.close()


async def test_many_writers_at_once_wait_for_each_other(shop: Shop) -> None:
    await asyncio.gather(*(shop.put("acme", f"text {number}") for number in range(12)))
    assert (await shop.of("acme").counts())["documents"] == 12
    assert len(await shop.found("acme", "text")) == 12


async def test_the_same_file_that_comes_many_times_at_once_is_one_document(shop: Shop) -> None:
    assert len(set(await asyncio.gather(*(shop.add("acme", "the same") for _ in range(12))))) == 1
    assert (await shop.of("acme").counts())["documents"] == 1
    assert len(list(shop.file("acme", "x").parent.iterdir())) == 1


async def test_a_deleted_document_is_not_found_any_more(shop: Shop) -> None:
    document = await shop.put("acme", "a text")
    documents = shop.of("acme")
    assert await documents.delete(document)
    assert not await documents.delete(document)
    assert await shop.found("acme", "text") == []
    assert not shop.file("acme", document).exists()
    await documents.finish(document, [Passage("back again")], 0, 3.0)
    assert await shop.found("acme", "again") == []


async def test_a_document_of_very_many_passages_is_kept_whole(shop: Shop) -> None:
    texts = [f"passage {number} " + "of many words that are all here " * 30 for number in range(1000)]
    document = await shop.put("acme", *texts)
    assert [one.text for _, one in await shop.of("acme").passages(document, -1, 2000)] == texts
    found = await shop.of("acme").search("which passage has the number 777?", 3)
    assert found[0].number == 777


def test_the_words_looked_for_are_no_operators_of_postgresql() -> None:
    assert terms("it's 'or' ! & ( | \\ <-> refunds:*") == ["'s'", "'refund':*"]
    assert terms("?!") == []


@pytest.mark.parametrize("wrong", ["sqlite:///x", "mysql://h/d", "x", ""])
def test_a_url_of_another_database_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="postgresql"):
        postgres_url(wrong)
