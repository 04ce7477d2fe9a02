from __future__ import annotations

from services.chat.protocol import ChatMessage
from services.chat.sessions import SessionStore


def said(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


def texts(messages: object) -> list[str]:
    return [message.content for message in messages]  # type: ignore[attr-defined]


def test_an_exchange_is_remembered_in_order() -> None:
    store = SessionStore(10, 100_000, 10_000)
    store.append("ann", "s", said("one"), now=1.0)
    store.append("ann", "s", said("two"), now=2.0)
    assert texts(store.history("ann", "s")) == ["one", "two"]
    session = store.get("ann", "s")
    assert session is not None
    assert (session.created, session.updated) == (1.0, 2.0)


def test_the_same_id_of_two_users_is_two_sessions() -> None:
    store = SessionStore(10, 100_000, 10_000)
    store.append("ann", "s", said("secret"), now=1.0)
    assert store.history("bob", "s") == ()
    assert store.get("bob", "s") is None
    assert not store.delete("bob", "s")
    store.append("bob", "s", said("mine"), now=1.0)
    assert texts(store.history("ann", "s")) == ["secret"]


def test_the_least_recently_used_goes_first_when_there_are_too_many() -> None:
    store = SessionStore(2, 100_000, 10_000)
    for name in ("a", "b"):
        store.append("ann", name, said(name), now=1.0)
    store.history("ann", "a")
    store.append("ann", "c", said("c"), now=1.0)
    assert [session.id for session in store.of_user("ann")] == ["c", "a"]


def test_bytes_of_all_are_bounded() -> None:
    store = SessionStore(1000, 20_000, 10_000)
    for number in range(50):
        store.append("ann", str(number), said("x" * 3000), now=1.0)
        assert store.size <= 20_000
    assert store.size == sum(session.size for session in store.of_user("ann"))
    assert 0 < len(store) < 10


def test_bytes_of_one_are_bounded_by_dropping_its_oldest() -> None:
    store = SessionStore(10, 100_000, 4_000)
    for number in range(20):
        store.append("ann", "s", said(f"{number:03}" + "é" * 400), now=1.0)
    kept = texts(store.history("ann", "s"))
    assert kept[-1].startswith("019")
    assert 1 <= len(kept) < 5
    assert store.size <= 4_000


def test_one_message_too_large_is_cut_to_its_end() -> None:
    store = SessionStore(10, 100_000, 4_000)
    store.append("ann", "s", said("é" * 10_000 + "end"), now=1.0)
    (kept,) = texts(store.history("ann", "s"))
    assert kept.endswith("éend")
    assert store.size <= 4_000


def test_deleting_gives_its_bytes_back() -> None:
    store = SessionStore(10, 100_000, 4_000)
    store.append("ann", "s", said("one"), now=1.0)
    assert store.delete("ann", "s")
    assert (store.size, len(store)) == (0, 0)
