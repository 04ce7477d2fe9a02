"""What every broker promises of idempotency keys and versions."""

from __future__ import annotations

import asyncio

from app.streams.broker import IDEMPOTENCY_KEPT, Published, Version
from tests.contracts.conftest import Pair
from tests.streams.support import MemorySide, Replica, listen, numbered

KEPT = {"size": 100, "ttl": 30.0}


async def test_the_answer_says_where_the_message_is(pair: Pair) -> None:
    first = await pair.a.broker.publish("room:1", b"1", **KEPT)
    second = await pair.b.broker.publish("room:1", b"2", **KEPT)
    history = await pair.a.broker.history("room:1")
    assert (first, second) == (Published(1, history.epoch), Published(2, history.epoch))
    assert history.epoch
    assert await pair.a.broker.publish("loose", b"1") == Published(0, "")


async def test_a_repeated_key_publishes_nothing_and_gets_the_first_result(pair: Pair) -> None:
    recorder, _ = await listen(pair.b, "room:1")
    first = await pair.a.broker.publish("room:1", b"1", idempotency_key="k ∂", **KEPT)
    await pair.a.broker.publish("room:1", b"2", **KEPT)
    again = await pair.b.broker.publish("room:1", b"other", idempotency_key="k ∂", **KEPT)
    assert again == first._replace(suppressed=True)
    assert (await pair.b.broker.publish("room:1", b"3", idempotency_key="l", **KEPT)).offset == 3
    assert (await pair.b.broker.publish("room:2", b"1", idempotency_key="k ∂", **KEPT)).offset == 1
    await recorder.reaches(3)
    assert recorder.items == [b"1", b"2", b"3"]


async def test_of_fifty_repeats_at_once_on_two_replicas_one_is_published(pair: Pair) -> None:
    recorder, _ = await listen(pair.b, "room:1")
    repeats = [
        side.broker.publish("room:1", b"%d" % number, idempotency_key="k", **KEPT)
        for number in range(25)
        for side in (pair.a, pair.b)
    ]
    answers = await asyncio.gather(*repeats)
    assert [answer.suppressed for answer in answers].count(False) == 1
    assert {answer.offset for answer in answers} == {1}
    assert len({answer.epoch for answer in answers}) == 1
    await pair.a.broker.publish("room:1", b"last", **KEPT)
    await recorder.reaches(2)
    assert len(recorder.items) == 2


async def test_a_key_works_where_nothing_is_kept(pair: Pair) -> None:
    recorder, _ = await listen(pair.b, "room:1")
    assert await pair.a.broker.publish("room:1", b"1", idempotency_key="k") == Published(0, "")
    assert await pair.b.broker.publish("room:1", b"1", idempotency_key="k") == Published(0, "", True)
    await pair.a.broker.publish("room:1", b"2")
    await recorder.until(lambda: len(recorder.loose) == 2)
    assert recorder.loose == [b"1", b"2"]
    assert (await pair.a.broker.history("room:1")).epoch == ""


async def test_a_key_is_free_again_after_its_time(pair: Pair) -> None:
    await pair.a.broker.publish("room:1", b"1", idempotency_key="k", **KEPT)
    if isinstance(pair.a, MemorySide):
        await pair.pass_time(IDEMPOTENCY_KEPT + 1)
        assert not (await pair.a.broker.publish("room:1", b"1", idempotency_key="k", **KEPT)).suppressed
    else:
        assert isinstance(pair.a, Replica)
        left = await pair.a.client.command("PTTL", pair.a.layout.once("room:1", "k"))
        assert 0 < left <= IDEMPOTENCY_KEPT * 1000


async def test_what_is_not_newer_is_not_published(pair: Pair) -> None:
    recorder, _ = await listen(pair.b, "room:1")
    outcomes = []
    for side, number in ((pair.a, 3), (pair.b, 3), (pair.b, 2), (pair.a, 10), (pair.b, 9), (pair.a, 2**64 - 1)):
        answer = await side.broker.publish("room:1", b"%d" % number, version=Version(number), **KEPT)
        outcomes.append((answer.offset, answer.suppressed))
    assert outcomes == [(1, False), (1, True), (1, True), (2, False), (2, True), (3, False)]
    assert (await pair.a.broker.publish("room:1", b"x", version=Version(2**64 - 2), **KEPT)).suppressed
    assert not (await pair.a.broker.publish("room:2", b"1", version=Version(1), **KEPT)).suppressed
    await recorder.reaches(3)
    assert recorder.items == [b"3", b"10", b"%d" % (2**64 - 1)]


async def test_another_count_of_versions_begins_anew_and_no_count_goes_with_any(pair: Pair) -> None:
    async def published(number: int, epoch: str) -> bool:
        return not (await pair.a.broker.publish("room:1", b"1", version=Version(number, epoch), **KEPT)).suppressed

    assert await published(5, "one")
    assert not await published(5, "one")
    assert await published(1, "two")
    assert not await published(1, "")
    assert await published(2, "")
    assert await published(1, "one")


async def test_versions_work_where_nothing_is_kept(pair: Pair) -> None:
    assert await pair.a.broker.publish("room:1", b"2", version=Version(2)) == Published(0, "")
    assert await pair.b.broker.publish("room:1", b"1", version=Version(1)) == Published(0, "", True)


async def test_of_many_versions_at_once_the_published_ones_only_go_up(pair: Pair) -> None:
    recorder, _ = await listen(pair.b, "room:1")
    numbers = [number * 37 % 101 for number in range(1, 101)]
    answers = await asyncio.gather(
        *[
            (pair.a, pair.b)[number % 2].broker.publish("room:1", b"%d" % number, version=Version(number), **KEPT)
            for number in numbers
        ]
    )
    await recorder.reaches(sum(not answer.suppressed for answer in answers))
    published = [int(item) for item in recorder.items]
    assert published == sorted(set(published))
    assert published[-1] == 100


async def pages(pair: Pair, **asked: object) -> list[int]:
    page = await pair.b.archive.page("room:1", **asked)
    assert (page.top, bool(page.epoch)) == (10, True)
    assert all(each.data == b'"%d"' % each.offset for each in page.publications)
    return [each.offset for each in page.publications]


async def test_a_log_is_read_in_pages_both_ways(pair: Pair) -> None:
    for item in numbered(1, 10):
        await pair.a.broker.publish("room:1", item, size=7, ttl=30.0)
    assert await pages(pair) == list(range(4, 11))
    assert await pages(pair, limit=0) == []
    assert await pages(pair, limit=2) == [4, 5]
    assert await pages(pair, since=0, limit=2) == [4, 5]
    assert await pages(pair, since=6) == [7, 8, 9, 10]
    assert await pages(pair, since=6, limit=3) == [7, 8, 9]
    assert await pages(pair, since=10) == []
    assert await pages(pair, since=10**30) == []
    assert await pages(pair, reverse=True) == list(range(10, 3, -1))
    assert await pages(pair, reverse=True, limit=3) == [10, 9, 8]
    assert await pages(pair, reverse=True, since=8) == [7, 6, 5, 4]
    assert await pages(pair, reverse=True, since=8, limit=2) == [7, 6]
    assert await pages(pair, reverse=True, since=4) == []
    assert await pages(pair, reverse=True, since=0) == []
    assert await pages(pair, reverse=True, since=10**30, limit=1) == [10]
    assert await pages(pair, reverse=True, limit=0) == []


async def test_pages_of_a_stream_that_travels_in_batches(pair: Pair) -> None:
    owned = await pair.a.ledger.claim("room:1", b"{}")
    for first, last in ((1, 1), (2, 6), (7, 7), (8, 10)):
        pair.a.ledger.append(owned, numbered(first, last))
        await pair.settle()
    for since in range(12):
        for limit in (0, 1, 2, 5, 50):
            assert await pages(pair, since=since, limit=limit) == list(range(since + 1, 11))[:limit]
            backwards = list(range(min(since - 1, 10), 0, -1))[:limit]
            assert await pages(pair, since=since, limit=limit, reverse=True) == backwards


async def test_an_unknown_channel_has_an_empty_page(pair: Pair) -> None:
    page = await pair.a.archive.page("room:none")
    assert (page.epoch, page.top, page.publications) == ("", 0, [])
    await pair.a.archive.remove("room:none")


async def test_removing_messages_keeps_the_position_and_its_listeners(pair: Pair) -> None:
    for item in numbered(1, 3):
        await pair.a.broker.publish("room:1", item, **KEPT)
    recorder, _ = await listen(pair.b, "room:1", replay=False)
    await pair.b.archive.remove("room:1")
    page = await pair.a.archive.page("room:1")
    assert (page.top, page.publications) == (3, [])
    assert (await pair.a.broker.publish("room:1", b"4", **KEPT)).offset == 4
    await recorder.reaches(4)
    assert recorder.items == [b"4"]
    assert not recorder.resets
    late, _ = await listen(pair.b, "room:1")
    assert late.items == [b"4"]
