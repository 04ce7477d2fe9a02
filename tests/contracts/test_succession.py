"""What every ledger promises of streams that go on when their owner is gone."""

from __future__ import annotations

import asyncio

from tests.contracts.conftest import LEASE, Pair
from tests.streams.support import listen, numbered, own

LAST = b'"the end"'


async def messages(pair: Pair) -> list[bytes]:
    await pair.settle()
    return [item for batch in (await pair.b.broker.history("gen:1")).batches for item in batch.items]


async def test_what_the_owner_notes_is_in_the_record_everywhere(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1", b"{}")
    assert await pair.a.ledger.note(owned, b'{"job":7}')
    for side in (pair.a, pair.b):
        record = await side.ledger.record("gen:1")
        assert record is not None
        assert record.info == b'{"job":7}'


async def test_nobody_notes_anything_of_a_stream_that_is_closed(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1", b"{}")
    pair.a.ledger.append(owned, [LAST], close=True)
    await pair.settle()
    assert not await pair.a.ledger.note(owned, b"late")
    record = await pair.b.ledger.record("gen:1")
    assert record is not None
    assert record.info == b"{}"


async def test_an_expired_stream_goes_on_under_its_heir_with_the_next_offset(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1", b"info")
    pair.a.ledger.append(owned, numbered(1, 3))
    recorder, _ = await listen(pair.b, "gen:1")
    await pair.settle()
    assert await pair.b.ledger.adopt("gen:1", await pair.b.broker.history("gen:1")) is None
    await pair.pass_time(LEASE + 0.05)
    assert await pair.b.ledger.adopt("gen:none", await pair.b.broker.history("gen:none")) is None
    heir = await pair.b.ledger.adopt("gen:1", await pair.b.broker.history("gen:1"))
    assert heir is not None
    assert (heir.epoch, heir.top, heir.closed) == (owned.epoch, 3, False)
    assert heir.token != owned.token
    assert await pair.b.ledger.expired() == []
    pair.b.ledger.append(heir, numbered(4, 5))
    pair.a.ledger.append(owned, [b"the old owner"])
    pair.b.ledger.append(heir, [LAST], close=True)
    assert await messages(pair) == [*numbered(1, 5), LAST]
    await recorder.reaches(6)
    assert recorder.items == [*numbered(1, 5), LAST]
    assert not recorder.faults
    record = await pair.a.ledger.record("gen:1")
    assert record is not None or pair.a is pair.b
    assert (await pair.b.ledger.record("gen:1")).info == b"info"  # type: ignore[union-attr]


async def test_the_old_owner_learns_that_he_has_an_heir(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    await pair.pass_time(LEASE + 0.05)
    heir = await pair.b.ledger.adopt("gen:1", await pair.b.broker.history("gen:1"))
    assert heir is not None
    assert not await pair.a.ledger.note(owned, b"mine")
    if pair.a is not pair.b:
        assert await pair.a.ledger.renew() == ["gen:1"]
    assert await pair.b.ledger.renew() == []


async def test_of_many_heirs_one_gets_the_stream(pair: Pair) -> None:
    owned = await own(pair.a, "gen:1")
    pair.a.ledger.append(owned, numbered(1, 2))
    await pair.settle()
    await pair.pass_time(LEASE + 0.05)
    log = await pair.b.broker.history("gen:1")
    adoptions = [side.ledger.adopt("gen:1", log) for _ in range(10) for side in (pair.a, pair.b)]
    heirs = [heir for heir in await asyncio.gather(*adoptions) if heir is not None]
    assert len(heirs) == 1


async def test_a_stream_that_has_an_heir_is_not_sealed(pair: Pair) -> None:
    await own(pair.a, "gen:1")
    await pair.pass_time(LEASE + 0.05)
    assert await pair.b.ledger.adopt("gen:1", await pair.b.broker.history("gen:1")) is not None
    assert not await pair.a.ledger.seal("gen:1", 0, [LAST])


async def test_a_value_is_put_over_another_and_read_as_often_as_wanted(pair: Pair) -> None:
    assert await pair.a.keys.read("k") is None
    await pair.a.keys.put("k", b"first", 30.0)
    await pair.b.keys.put("k", b"second", 0.1)
    assert [await side.keys.read("k") for side in (pair.a, pair.b)] == [b"second"] * 2
    await pair.pass_time(0.2)
    assert await pair.a.keys.read("k") is None
