"""A room's log that goes on under another epoch, and what a process knows of it.

That a server took over is made believe here: the log is told that it was written under another one's id.
"""

from __future__ import annotations

import pytest

from app.streams.broker import Published
from app.streams.position import Position
from app.streams.redis import witness
from tests.streams.support import Replica, eventually, listen, numbered

ROOM = "room:1"


async def publish(replica: Replica, count: int = 1) -> Published:
    for _ in range(count):
        published = await replica.broker.publish(ROOM, b"x", size=100, ttl=60.0)
    return published


async def take_over(replica: Replica, *, lost: int = 0) -> None:
    """Make the log one that another server has written, but for its last ``lost`` messages."""
    layout, client = replica.layout, replica.client
    await client.command("HSET", layout.meta(ROOM), "server", "another")
    top = int(await client.command("HGET", layout.meta(ROOM), "top"))
    for offset in range(top, top - lost, -1):
        await client.command("XDEL", layout.log(ROOM), f"{offset}-0")
    await client.command("HSET", layout.meta(ROOM), "top", top - lost)


async def goes_on(replica: Replica, epoch: str, offset: int) -> bool:
    history = await replica.broker.history(ROOM)
    return history.follows(Position(epoch, offset)) and offset <= history.top


async def test_a_log_remembers_how_far_it_had_the_epochs_before(a: Replica, b: Replica) -> None:
    epochs = []
    for _ in range(3):
        epochs.append((await publish(a, 2)).epoch)
        await take_over(a)
    history = await b.broker.history(ROOM)
    assert history.past == {epochs[2]: 6, epochs[1]: 4, epochs[0]: 2}
    assert history.epoch not in epochs
    assert [batch.epoch for batch in history.batches] == [history.epoch] * 6
    assert [batch.first for batch in history.batches] == [1, 2, 3, 4, 5, 6]


async def test_what_was_lost_of_an_epoch_is_not_in_the_past_of_any(a: Replica, valkey, prefix: str) -> None:
    """Nobody who knows of it is left: two readers who saw it come back when its offsets are given again."""
    first = (await publish(a, 5)).epoch
    await take_over(a)
    async with Replica(valkey.url, prefix, "d") as stranger:
        second = (await stranger.broker.history(ROOM)).epoch
        await take_over(stranger, lost=2)
        third = (await publish(stranger, 3)).epoch
        assert (await stranger.broker.history(ROOM)).past == {second: 3, first: 3}
        assert len({first, second, third}) == 3
        for epoch in (first, second):
            assert await goes_on(stranger, epoch, 3)
            assert not await goes_on(stranger, epoch, 4)
        assert await goes_on(stranger, third, 6)


async def test_who_published_what_is_lost_ends_the_past_and_those_who_went_on_already_are_told(
    a: Replica, b: Replica
) -> None:
    epoch = (await publish(a, 3)).epoch
    await take_over(a, lost=1)
    reader, _ = await listen(b, ROOM, Position(epoch, 2))
    assert reader.recoveries[0].recovered, "nobody has told it yet"
    a.broker_link.abort()
    await reader.until(lambda: reader.resets == 1)
    history = await b.broker.history(ROOM)
    assert history.past == {}
    assert not await goes_on(b, epoch, 1)
    assert not reader.faults
    epoch = history.epoch
    assert (await publish(a)).epoch == epoch
    assert (await publish(b)).epoch == epoch, "it is told once"


async def test_who_heard_what_is_lost_ends_the_past(a: Replica, b: Replica) -> None:
    heard, _ = await listen(b, ROOM, replay=False)
    epoch = (await publish(a, 3)).epoch
    await heard.reaches(3)
    a.broker._witness._published.clear()
    await take_over(a, lost=1)
    assert (await publish(a)).offset == 3
    await heard.until(lambda: heard.resets == 1)
    assert not await goes_on(a, epoch, 1)
    assert not heard.faults


async def test_what_a_client_claims_ends_nothing(a: Replica, b: Replica) -> None:
    epoch = (await publish(a, 3)).epoch
    await take_over(a)
    claims, _ = await listen(b, ROOM, Position(epoch, 1_000_000))
    assert not claims.recoveries[0].recovered
    assert await goes_on(b, epoch, 3)


async def test_a_long_past_ends_somewhere(a: Replica) -> None:
    epochs = []
    for _ in range(12):
        epochs.append((await publish(a)).epoch)
        await take_over(a)
    history = await a.broker.history(ROOM)
    assert list(history.past) == epochs[:3:-1]
    assert not await goes_on(a, epochs[0], 1)


async def test_live_listeners_on_every_replica_go_on(a: Replica, b: Replica) -> None:
    recorders = [(await listen(side, ROOM, replay=False))[0] for side in (a, b, b)]
    for times in (1, 2, 3):
        await publish(a, 2)
        await take_over(a)
        await publish(b)
        for recorder in recorders:
            await recorder.reaches(3 * times)
    for recorder in recorders:
        assert recorder.moves == 3
        assert len(recorder.items) == 9
        assert not recorder.faults
        assert not recorder.resets


async def test_what_is_remembered_is_bounded(a: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "_REMEMBERED", 10)
    for item in numbered(1, 30):
        await a.broker.publish(f"room:{item.decode()}", item, size=5, ttl=5.0)
    assert len(a.broker._witness._published) == 10


async def test_a_server_that_does_not_answer_is_told_when_it_does(a: Replica, b: Replica, valkey) -> None:
    epoch = (await publish(a, 3)).epoch
    await take_over(a, lost=1)
    valkey.pause()
    a.broker._witness.relinked()
    await eventually(lambda: not a.ledger.healthy)
    valkey.resume()
    await eventually(lambda: a.broker.healthy and b.broker.healthy)
    reader, _ = await listen(b, ROOM, Position(epoch, 2))
    await reader.until(lambda: reader.resets or not reader.recoveries[0].recovered)
