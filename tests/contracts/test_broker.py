"""What every broker promises."""

from __future__ import annotations

import asyncio
import json

from app.streams.position import Position
from tests.contracts.conftest import Pair
from tests.streams.support import Recorder, listen, numbered

KEPT = {"size": 100, "ttl": 30.0}


async def test_many_writers_get_contiguous_offsets_and_all_listeners_one_order(pair: Pair) -> None:
    one, _ = await listen(pair.a, "room:1", replay=False)
    two, _ = await listen(pair.b, "room:1", replay=False)
    publish = [side.broker.publish("room:1", b"%d" % n, **KEPT) for n in range(25) for side in (pair.a, pair.b)]
    assert sorted(result.offset for result in await asyncio.gather(*publish)) == list(range(1, 51))
    await one.reaches(50)
    await two.reaches(50)
    assert one.items == two.items
    assert sorted(one.items) == sorted(b"%d" % n for n in range(25) for _ in range(2))
    for recorder in (one, two):
        assert not recorder.faults
        assert not recorder.resets


async def test_a_channel_that_was_begun_has_an_epoch_and_its_first_message_the_offset_1(pair: Pair) -> None:
    early, _ = await listen(pair.a, "room:1", replay=False)
    await pair.b.broker.begin("room:1", 30.0)
    begun = await pair.a.broker.history("room:1")
    assert begun.epoch
    assert (begun.top, begun.batches) == (0, [])
    late, _ = await listen(pair.b, "room:1", replay=False)
    await pair.a.broker.begin("room:1", 30.0)
    published = await pair.a.broker.publish("room:1", b"1", **KEPT)
    assert (published.epoch, published.offset) == (begun.epoch, 1)
    await pair.b.broker.begin("room:1", 30.0)
    assert (await pair.b.broker.publish("room:1", b"2", **KEPT)).offset == 2
    for recorder in (early, late):
        await recorder.reaches(2)
        assert recorder.items == [b"1", b"2"]
        assert not recorder.resets
        assert not recorder.faults


async def test_the_log_keeps_the_last_messages(pair: Pair) -> None:
    for item in numbered(1, 12):
        await pair.a.broker.publish("room:1", item, size=5, ttl=30.0)
    history = await pair.b.broker.history("room:1")
    assert history.top == 12
    assert [item for batch in history.batches for item in batch.items] == numbered(8, 12)
    assert history.batches[0].first == 8
    history = await pair.b.broker.history("room:1", 10)
    assert [item for batch in history.batches for item in batch.items] == numbered(11, 12)


async def test_messages_go_after_their_time_and_the_position_stays(pair: Pair) -> None:
    await pair.a.broker.publish("room:1", b"1", size=5, ttl=0.15)
    recorder, _ = await listen(pair.b, "room:1")
    epoch = recorder.position.epoch
    await pair.pass_time(0.2)
    history = await pair.b.broker.history("room:1")
    assert (history.epoch, history.top, history.batches) == (epoch, 1, [])
    assert (await pair.a.broker.publish("room:1", b"2", size=5, ttl=30.0)).offset == 2
    await recorder.reaches(2)
    assert recorder.items == [b"1", b"2"]
    assert not recorder.resets
    assert not recorder.faults


async def test_each_message_prolongs_the_time_of_those_before_it(pair: Pair) -> None:
    for item in numbered(1, 4):
        await pair.a.broker.publish("room:1", item, size=5, ttl=0.3)
        await pair.pass_time(0.1)
    history = await pair.b.broker.history("room:1")
    assert [item for batch in history.batches for item in batch.items] == numbered(1, 4)


async def test_a_channel_without_history_has_no_offsets(pair: Pair) -> None:
    one, _ = await listen(pair.a, "room:1", replay=False)
    two, _ = await listen(pair.b, "room:1", replay=False)
    for item in numbered(1, 3):
        assert (await pair.a.broker.publish("room:1", item)).offset == 0
    for recorder in (one, two):
        await recorder.until(lambda recorder=recorder: len(recorder.loose) == 3)
        assert recorder.loose == numbered(1, 3)
    history = await pair.a.broker.history("room:1")
    assert (history.epoch, history.top, history.batches) == ("", 0, [])


async def test_messages_with_and_without_a_place_in_the_log_go_together(pair: Pair) -> None:
    recorder, _ = await listen(pair.b, "room:1", replay=False)
    await pair.a.broker.publish("room:1", b"1", **KEPT)
    await pair.a.broker.publish("room:1", b"loose")
    await pair.a.broker.publish("room:1", b"2", **KEPT)
    await recorder.reaches(2)
    assert recorder.items == [b"1", b"2"]
    assert recorder.loose == [b"loose"]
    late, _ = await listen(pair.b, "room:1")
    assert late.items == [b"1", b"2"]
    assert not recorder.faults


async def test_json_text_with_line_feeds_arrives_as_the_same_json(pair: Pair) -> None:
    text = json.dumps({"a": [1, 2, {"b": "line\nfeed"}]}, indent=2).encode()
    recorder, _ = await listen(pair.b, "room:1", replay=False)
    await pair.a.broker.publish("room:1", text, **KEPT)
    await pair.a.broker.publish("room:1", text)
    await recorder.until(lambda: recorder.items and recorder.loose)
    for item in (*recorder.items, *recorder.loose):
        assert json.loads(item) == json.loads(text)
    assert len((await pair.b.broker.history("room:1")).batches[0].items) == 1


async def test_subscribing_twice_is_subscribing_once(pair: Pair) -> None:
    recorder = Recorder()
    await pair.b.broker.subscribe("room:1")
    await asyncio.gather(*[pair.b.broker.subscribe("room:1") for _ in range(5)])
    await listen(pair.b, "room:1", recorder=recorder, replay=False)
    for item in numbered(1, 3):
        await pair.a.broker.publish("room:1", item, **KEPT)
    await recorder.reaches(3)
    assert recorder.items == numbered(1, 3)


async def test_who_left_gets_no_more_and_may_come_back(pair: Pair) -> None:
    recorder, subscription = await listen(pair.b, "room:1", replay=False)
    await pair.a.broker.publish("room:1", b"1", **KEPT)
    await recorder.reaches(1)
    pair.b.hub.drop(subscription)
    await pair.a.broker.publish("room:1", b"2", **KEPT)
    back, _ = await listen(pair.b, "room:1", recorder.position)
    await pair.a.broker.publish("room:1", b"3", **KEPT)
    await back.reaches(3)
    assert recorder.items == [b"1"]
    assert back.recoveries[0].recovered
    assert back.items == [b"2", b"3"]


async def test_leaving_and_coming_back_at_once_misses_nothing(pair: Pair) -> None:
    recorder, subscription = await listen(pair.b, "room:1", replay=False)
    for offset in range(1, 31):
        pair.b.hub.drop(subscription)
        joining = asyncio.ensure_future(listen(pair.b, "room:1", recorder.position))
        assert (await pair.a.broker.publish("room:1", b"%d" % offset, **KEPT)).offset == offset
        recorder, subscription = await joining
        await recorder.reaches(offset)
        assert recorder.items == [b"%d" % offset]
        assert offset == 1 or recorder.recoveries[0].recovered


async def test_any_number_is_a_position_to_ask_for(pair: Pair) -> None:
    await pair.a.broker.publish("room:1", b"1", **KEPT)
    for since in (1, 2, 10**15, 2**53, 10**30):
        assert (await pair.b.broker.history("room:1", since)).batches == []
    assert (await pair.b.broker.history("room:1", -5)).batches[0].first == 1
    recorder, _ = await listen(pair.b, "room:1", Position("other", 10**30))
    assert not recorder.recoveries[0].recovered
    assert recorder.items == [b"1"]


async def test_nobody_else_listens(pair: Pair) -> None:
    await listen(pair.a, "room:1", replay=False)
    assert await pair.a.broker.listeners([]) == []
    assert await pair.a.broker.listeners(["room:1", "room:2"]) == [0, 0]


async def test_a_signal_reaches_this_replica_and_no_other(pair: Pair) -> None:
    assert await pair.a.broker.signal("a", b"cancel")
    assert pair.a.signals == [b"cancel"]
    assert not await pair.a.broker.signal("nobody", b"cancel")
