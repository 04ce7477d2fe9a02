"""Events over real sockets to a service that is slow, refuses, dies, and comes back: nothing that was acknowledged is
lost, and every event is counted once."""

from __future__ import annotations

import asyncio
import contextlib
import re

from app.config import EventsConfig
from app.events.courier import Courier
from app.events.sinks.http import HttpSink
from tests.events.support import event, events, posting, receiver
from tests.support.waiting import eventually


@contextlib.asynccontextmanager
async def courier(post, *, batch=True, path="/events", fields=None, **config):
    sink = HttpSink(post, path, batch=batch, fields=fields)
    quick = {"flush_interval": 0.02, "backoff": 0.01, "max_backoff": 0.05, "batch_size": 50}
    made = Courier("analytics", sink, EventsConfig(**(quick | config)))
    task = asyncio.ensure_future(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def keys(service):
    return [re.search(r"idempotency-key: (\S+)", head)[1] for head in service.heads]


async def test_a_batch_is_one_request_with_a_list_of_events():
    async with receiver() as service, posting(service.server.url) as post, courier(post, path="/v1/ingest") as made:
        for each in events(3):
            made.put(each, 100)
        await eventually(lambda: made.counts.delivered == 3)
    (head,) = service.heads
    assert head.startswith("post /v1/ingest http/1.1")
    assert "content-type: application/json" in head
    assert service.ids == ["e000001", "e000002", "e000003"]


async def test_one_event_each_goes_under_its_service_with_the_names_that_the_service_knows():
    fields = {
        "id": "id", "service_type": "service", "status": "status", "user_id": "user_id", "timestamp": "timestamp",
        "metadata.response_time": "latency_ms", "metadata.error_message": "error_code",
    }  # fmt: skip
    async with (
        receiver() as service,
        posting(service.server.url) as post,
        courier(post, batch=False, path="/api/track/{service}", fields=fields) as made,
    ):
        made.put(event(1, service="text_to_image"), 100)
        await eventually(lambda: made.counts.delivered == 1)
    assert service.heads[0].startswith("post /api/track/text_to_image http/1.1")
    assert service.taken == [
        {
            "id": "e000001", "service_type": "text_to_image", "status": "success", "user_id": "42",
            "timestamp": "2027-01-15T08:00:01.125Z", "metadata": {"response_time": 12.5, "error_message": None},
        }
    ]  # fmt: skip
    assert keys(service) == ["e000001"]


async def test_a_service_that_fails_in_every_way_gets_every_event_in_the_end():
    trouble = {1: (500, b""), 2: (429, b"Retry-After: 1\r\n"), 3: None, 4: (503, b""), 6: (401, b""), 7: None}

    def behave(number, _):
        return trouble.get(number, (202, b""))

    async with (
        receiver(behave) as service,
        posting(service.server.url, retries={"count": 0}) as post,
        courier(post, max_backoff=0.2) as made,
    ):
        began = asyncio.get_running_loop().time()
        for each in events(120):
            made.put(each, 100)
        await eventually(lambda: made.counts.delivered == 120)
        assert asyncio.get_running_loop().time() - began >= 0.95  # what the 429 asked for
    assert service.ids == [each.id for each in events(120)]
    assert made.counts.dropped == made.counts.refused == 0
    assert made.counts.retries == len(trouble)
    assert keys(service)[0] == keys(service)[3]  # the same events, the same key


async def test_one_by_one_nothing_that_was_acknowledged_comes_again():
    trouble = {3: (500, b""), 9: (429, b"")}

    async with (
        receiver(lambda number, _: trouble.get(number, (202, b""))) as service,
        posting(service.server.url) as post,
        courier(post, batch=False) as made,
    ):
        for each in events(30):
            made.put(each, 100)
        await eventually(lambda: made.counts.delivered == 30)
    assert sorted(service.ids) == [each.id for each in events(30)]


async def test_a_service_that_is_away_costs_what_is_beyond_the_bound_and_no_more():
    async with receiver() as service, posting(service.server.url, retries={"count": 0}) as post:
        service.hang = asyncio.Event()
        async with courier(post, max_events=200) as made:
            for each in events(1000):
                made.put(each, 100)
                await asyncio.sleep(0)
            assert made.counts.dropped == 800
            service.hang.set()
            await eventually(lambda: not len(made))
    assert len(service.ids) == len(set(service.ids)) == 200
    assert made.counts.dropped == 1000 - len(service.ids)


async def test_a_delivery_that_takes_too_long_is_given_up_and_made_again():
    async with receiver() as service, posting(service.server.url, timeout=0.1, retries={"count": 0}) as post:
        service.hang = asyncio.Event()
        async with courier(post) as made:
            made.put(event(), 100)
            await eventually(lambda: made.counts.retries >= 2)
            service.hang.set()
            await eventually(lambda: made.counts.delivered == 1)
    assert set(service.ids) == {"e000001"}


async def test_a_service_that_refuses_one_event_gets_the_others():
    def behave(_, value):
        return (422, b"") if "e000013" in [each["id"] for each in value["events"]] else (200, b"")

    async with receiver(behave) as service, posting(service.server.url) as post, courier(post) as made:
        for each in events(50):
            made.put(each, 100)
        await eventually(lambda: not len(made))
    assert set(service.ids) == {each.id for each in events(50)} - {"e000013"}
    assert (made.counts.delivered, made.counts.refused) == (49, 1)


async def test_what_the_service_has_already_counts_as_delivered():
    async with (
        receiver(lambda *_: (409, b"")) as service,
        posting(service.server.url) as post,
        courier(post, batch=False) as made,
    ):
        made.put(event(), 100)
        await eventually(lambda: made.counts.delivered == 1)
    assert len(service.heads) == 1
