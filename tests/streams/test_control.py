"""Words between replicas."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import BrokerUnavailable, NotFound
from app.streams.control import Replicas
from tests.streams.support import MemorySide, Replica, Side, eventually


def joined(side: Side, **options: float) -> Replicas:
    replicas = Replicas(side.node, side.broker, **options)
    side.hub.on_signal = replicas.receive
    return replicas


async def test_all_replicas_hear_what_one_tells(a: Replica, b: Replica) -> None:
    heard: list[tuple[str, object]] = []
    here, there = joined(a), joined(b)
    here.on("disconnect", lambda body: heard.append(("a", body)))
    there.on("disconnect", lambda body: heard.append(("b", body)))
    await here.tell("disconnect", {"user": "ann"})
    await eventually(lambda: len(heard) == 2)
    assert sorted(heard) == [("a", {"user": "ann"}), ("b", {"user": "ann"})]


async def test_all_replicas_answer_a_question(a: Replica, b: Replica) -> None:
    here, there = joined(a), joined(b)
    for replicas, name in ((here, "here"), (there, "there")):
        replicas.on("who", lambda body, name=name: [name, body["n"]])
    answers = await asyncio.gather(*[side.ask("who", {"n": n}) for n in range(20) for side in (here, there)])
    assert answers == [{"a": ["here", n], "b": ["there", n]} for n in range(20) for _ in range(2)]


async def test_an_answer_that_does_not_come_is_an_error(a: Replica, b: Replica) -> None:
    here, there = joined(a, patience=0.1), joined(b)
    here.on("who", lambda body: 1)
    with pytest.raises(BrokerUnavailable):
        await here.ask("who", {})
    there.on("who", lambda body: 2)
    assert await here.ask("who", {}) == {"a": 1, "b": 2}


async def test_one_replica_is_asked_and_one_that_is_not_there_is_not_found(a: Replica, b: Replica) -> None:
    here, there = joined(a, patience=0.2), joined(b)
    here.on("who", lambda body: ["here", body["n"]])
    there.on("who", lambda body: ["there", body["n"]])
    for n in range(5):
        assert await here.ask_one("b", "who", {"n": n}) == ["there", n]
        assert await here.ask_one("a", "who", {"n": n}) == ["here", n]
    with pytest.raises(NotFound):
        await here.ask_one("c", "who", {"n": 1})
    with pytest.raises(BrokerUnavailable):
        await here.ask_one("b", "unheard of", {})
    assert not here._questions


async def test_a_replica_that_hears_nothing_itself_gets_no_answer_for_a_whole_one(a: Replica, b: Replica) -> None:
    here, there = joined(a, patience=0.3), joined(b)
    here.on("who", lambda body: 1)
    there.on("who", lambda body: 2)
    link = a.broker_link
    link.abort()
    with pytest.raises(BrokerUnavailable):
        await here.ask("who", {})
    await a.relinked(link)
    assert await here.ask("who", {}) == {"a": 1, "b": 2}


async def test_what_is_no_word_of_ours_is_passed_over(a: Replica, b: Replica) -> None:
    heard: list[object] = []
    joined(a)
    joined(b).on("note", heard.append)
    for message in (b'{"cancel":"gen:1","by":"ann"}', b'{"tell":"unknown","body":{}}', b"no json", b"[1]", b"7"):
        assert await a.broker.signal("b", message)
    assert await a.broker.signal("b", b'{"tell":"note","body":1}')
    await eventually(lambda: bool(heard))
    assert heard == [1]


async def test_in_memory_there_is_one_replica() -> None:
    side = MemorySide("a", lease=1.0, retention=1.0)
    replicas = joined(side)
    heard: list[object] = []
    replicas.on("note", heard.append)
    replicas.on("who", lambda body: "me")
    await replicas.tell("note", {"x": 1})
    assert heard == [{"x": 1}]
    assert await replicas.ask("who", {}) == {"a": "me"}
    assert await replicas.ask_one("a", "who", {}) == "me"
    with pytest.raises(NotFound):
        await replicas.ask_one("b", "who", {})
    await replicas.close()
