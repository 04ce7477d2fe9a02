"""What every ledger promises."""

from __future__ import annotations

import asyncio

import pytest

from app.streams.broker import OwnedStream, Record
from tests.contracts.conftest import LEASE, RETENTION, Pair
from tests.streams.support import listen, numbered, own

LAST = b'"the end"'


async def messages(pair: Pair, stream: str = "gen:1", since: int = 0) -> list[bytes]:
    await pair.settle()
    history = await pair.b.broker.history(stream, since)
    return [item for batch in history.batches for item in batch.items]


async def test_the_first_claim_owns_and_the_second_gets_the_record(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1", b'{"kind":"chat"}')
    assert owned.stream == "gen:1"
    assert owned.epoch
    assert (owned.top, owned.closed) == (0, False)
    expected = Record("gen:1", owned.epoch, 0, False, "a", b'{"kind":"chat"}')
    assert await pair.b.ledger.claim("gen:1", b"another") == expected
    assert await pair.a.ledger.claim("gen:1", b"another") == expected


async def test_of_many_claims_at_once_one_owns(pair: Pair) -> None:
    claims = [side.ledger.claim("gen:1", b"{}") for side in (pair.a, pair.b) for _ in range(20)]
    answers = await asyncio.gather(*claims)
    owners = [answer for answer in answers if isinstance(answer, OwnedStream)]
    assert len(owners) == 1
    assert {answer.epoch for answer in answers} == {owners[0].epoch}


async def test_offsets_count_from_one_and_are_broadcast_at_once(pair: Pair) -> None:
    recorder, _ = await listen(pair.a, "gen:1")
    owned = await own(pair.a, "gen:1")
    pair.a.ledger.append(owned, numbered(1, 2))
    assert owned.top == 2
    assert pair.a.hub.position("gen:1") == (owned.epoch, 2)
    pair.a.ledger.append(owned, numbered(3, 3))
    assert pair.a.hub.position("gen:1") == (owned.epoch, 3)
    await recorder.reaches(3)
    assert recorder.items == numbered(1, 3)
    assert not recorder.faults


async def test_a_listener_of_the_other_replica_gets_the_same(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    pair.a.ledger.append(owned, numbered(1, 5))
    recorder, _ = await listen(pair.b, "gen:1")
    pair.a.ledger.append(owned, numbered(6, 9))
    pair.a.ledger.append(owned, [LAST], close=True)
    await recorder.reaches(10)
    assert recorder.position.epoch == owned.epoch
    assert recorder.items == [*numbered(1, 9), LAST]
    assert not recorder.faults
    assert not recorder.resets


async def test_history_starts_past_any_offset_also_within_a_batch(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    for first, last in [(1, 1), (2, 6), (7, 7), (8, 10)]:
        pair.a.ledger.append(owned, numbered(first, last))
        await pair.settle()
    for since in range(11):
        history = await pair.b.broker.history("gen:1", since)
        assert (history.epoch, history.top) == (owned.epoch, 10)
        offsets = [offset for batch in history.batches for offset in range(batch.first, batch.last + 1)]
        assert offsets == list(range(since + 1, 11))
        assert await messages(pair, since=since) == numbered(since + 1, 10)


async def test_a_claimed_stream_without_messages_has_a_history(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    history = await pair.b.broker.history("gen:1")
    assert (history.epoch, history.top, history.batches) == (owned.epoch, 0, [])


async def test_an_unknown_stream_has_no_record_and_no_history(pair: Pair) -> None:
    assert await pair.a.ledger.record("gen:none") is None
    history = await pair.a.broker.history("gen:none")
    assert (history.epoch, history.top, history.batches) == ("", 0, [])


async def test_nothing_comes_after_the_close(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    recorder, _ = await listen(pair.a, "gen:1")
    pair.a.ledger.append(owned, [*numbered(1, 2), LAST], close=True)
    assert owned.closed
    pair.a.ledger.append(owned, [b"late"])
    pair.a.ledger.append(owned, [b"later"], close=True)
    await recorder.reaches(3)
    assert await messages(pair) == [*numbered(1, 2), LAST]
    assert recorder.items == [*numbered(1, 2), LAST]
    record = await pair.b.ledger.record("gen:1")
    assert record is not None
    assert (record.top, record.closed) == (3, True)
    pair.a.ledger.append(owned, [b"latest"])
    assert await messages(pair) == [*numbered(1, 2), LAST]


async def test_an_append_of_nothing_is_a_mistake(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    with pytest.raises(AssertionError):
        pair.a.ledger.append(owned, [], close=True)


async def test_a_closed_stream_is_forgotten_after_its_retention_and_may_begin_anew(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    pair.a.ledger.append(owned, [LAST], close=True)
    await pair.settle()
    assert isinstance(await pair.b.ledger.claim("gen:1", b"{}"), Record)
    await pair.pass_time(RETENTION + 0.05)
    assert await pair.b.ledger.record("gen:1") is None
    assert await messages(pair) == []
    again = await own(pair.b, "gen:1")
    assert again.epoch != owned.epoch
    pair.b.ledger.append(again, numbered(1, 1))
    pair.a.ledger.append(owned, [b"from the old owner"])
    assert await messages(pair) == numbered(1, 1)


async def test_an_open_stream_outlives_the_retention_while_it_is_renewed(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    for offset in range(1, 5):
        pair.a.ledger.append(owned, numbered(offset, offset))
        await pair.settle()
        await pair.pass_time(LEASE / 2)
        assert await pair.a.ledger.renew() == []
        assert await pair.b.ledger.expired() == []
    assert await messages(pair) == numbered(1, 4)


async def test_a_stream_expires_when_its_owner_does_not_renew(pair: Pair) -> None:
    await own(pair.a, "gen:1")
    await own(pair.a, "gen:2")
    assert await pair.b.ledger.expired() == []
    await pair.pass_time(LEASE + 0.05)
    assert sorted(await pair.b.ledger.expired()) == ["gen:1", "gen:2"]


async def test_a_closed_stream_never_expires(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    pair.a.ledger.append(owned, [LAST], close=True)
    await pair.settle()
    assert isinstance(await pair.b.ledger.claim("gen:1", b"{}"), Record)
    await pair.pass_time(LEASE + 0.05)
    assert await pair.b.ledger.expired() == []
    assert not await pair.b.ledger.seal("gen:1", 1, [b"twice"])


async def test_only_an_expired_stream_that_ends_where_it_was_seen_to_is_sealed(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    pair.a.ledger.append(owned, numbered(1, 3))
    await pair.settle()
    assert not await pair.b.ledger.seal("gen:1", 3, [LAST])
    await pair.pass_time(LEASE + 0.05)
    assert not await pair.b.ledger.seal("gen:1", 2, [LAST])
    assert not await pair.b.ledger.seal("gen:none", 0, [LAST])
    assert await pair.b.ledger.seal("gen:1", 3, [LAST])
    assert await messages(pair) == [*numbered(1, 3), LAST]
    record = await pair.b.ledger.record("gen:1")
    assert record is not None
    assert (record.top, record.closed) == (4, True)
    assert await pair.b.ledger.expired() == []


async def test_an_owner_who_comes_back_in_time_keeps_his_stream(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    await pair.pass_time(LEASE + 0.05)
    assert await pair.b.ledger.expired() == ["gen:1"]
    assert await pair.a.ledger.renew() == []
    assert not await pair.b.ledger.seal("gen:1", 0, [LAST])
    assert await pair.b.ledger.expired() == []
    pair.a.ledger.append(owned, numbered(1, 1))
    assert await messages(pair) == numbered(1, 1)


async def test_of_many_seals_at_once_one_wins(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    pair.a.ledger.append(owned, numbered(1, 3))
    await pair.settle()
    await pair.pass_time(LEASE + 0.05)
    seals = [pair.b.ledger.seal("gen:1", 3, [b'"%d"' % number]) for number in range(30)]
    assert sum(await asyncio.gather(*seals)) == 1
    assert len(await messages(pair)) == 4


async def test_the_messages_of_a_seal_reach_listeners(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    pair.a.ledger.append(owned, numbered(1, 3))
    recorder, _ = await listen(pair.b, "gen:1")
    await pair.settle()
    await pair.pass_time(LEASE + 0.05)
    assert await pair.b.ledger.seal("gen:1", 3, [b'"last but one"', LAST])
    await recorder.reaches(5)
    assert recorder.items == [*numbered(1, 3), b'"last but one"', LAST]
    assert await messages(pair) == recorder.items
    assert not recorder.faults


async def test_an_owner_whose_stream_was_sealed_can_write_no_more_and_learns_of_it(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    pair.a.ledger.append(owned, numbered(1, 3))
    recorder, _ = await listen(pair.a, "gen:1")
    await pair.settle()
    await pair.pass_time(LEASE + 0.05)
    assert await pair.b.ledger.seal("gen:1", 3, [LAST])
    pair.a.ledger.append(owned, [b"frozen"])
    assert await messages(pair) == [*numbered(1, 3), LAST]
    assert await pair.a.ledger.renew() == ["gen:1"]
    assert await pair.a.ledger.renew() == []
    pair.a.ledger.append(owned, [b"still here"])
    await recorder.until(lambda: recorder.items == [*numbered(1, 3), LAST])
    assert recorder.position == (owned.epoch, 4)
    assert not recorder.faults
    assert await messages(pair) == [*numbered(1, 3), LAST]


async def test_a_lost_stream_is_reported_by_renew_also_without_an_append(pair: Pair) -> None:
    await own(pair.a, "gen:1")
    await own(pair.a, "gen:2")
    await pair.pass_time(LEASE + 0.05)
    assert await pair.b.ledger.seal("gen:1", 0, [LAST])
    assert await pair.a.ledger.renew() == ["gen:1"]
    record = await pair.a.ledger.record("gen:1")
    assert record is not None
    assert record.closed


async def test_two_streams_do_not_mix(pair: Pair) -> None:
    one, two = await own(pair.a, "gen:1"), await own(pair.b, "gen:2")
    for offset in range(1, 21):
        pair.a.ledger.append(one, numbered(offset, offset))
        pair.b.ledger.append(two, [b"%d" % (1000 + offset)])
    assert await messages(pair, "gen:1") == numbered(1, 20)
    assert await messages(pair, "gen:2") == [b"%d" % (1000 + offset) for offset in range(1, 21)]
