"""Watching a client: when the watch begins, and whose cancellation is whose."""

from __future__ import annotations

import asyncio

import pytest

from app.http.client_watch import GRACE, ClientGone, ClientWatch, Watches


class Client:
    """``receive()`` of a client that goes away when told to."""

    def __init__(self):
        self.gone = asyncio.Event()
        self.asked = 0

    async def receive(self):
        self.asked += 1
        await self.gone.wait()
        return {"type": "http.disconnect"}


@pytest.fixture
async def watches():
    watches = Watches()
    yield watches
    await watches.close()


async def test_a_request_that_is_answered_soon_is_never_watched(watches):
    client = Client()
    with ClientWatch(watches, client.receive) as watch:
        watch.body_received()
    await asyncio.sleep(3 * GRACE)
    assert client.asked == 0


async def test_a_request_that_lasts_is_watched_after_the_grace(watches):
    client = Client()
    client.gone.set()
    with pytest.raises(ClientGone):
        await serve(watches, client, asyncio.Event().wait())
    assert asyncio.current_task().cancelling() == 0


async def serve(watches, client, work, *, streaming=False):
    with ClientWatch(watches, client.receive) as watch:
        watch.body_received()
        if streaming:
            watch.streaming()
        await work


async def test_a_stream_is_watched_at_once(watches):
    client = Client()
    client.gone.set()
    started = asyncio.get_running_loop().time()
    with pytest.raises(ClientGone):
        await serve(watches, client, asyncio.Event().wait(), streaming=True)
    assert asyncio.get_running_loop().time() - started < GRACE


async def test_a_stream_is_not_watched_before_the_requests_body_has_come(watches):
    client = Client()
    with ClientWatch(watches, client.receive) as watch:
        watch.streaming()
        await asyncio.sleep(0)
        assert client.asked == 0
        watch.body_received()
        await asyncio.sleep(0)
        assert client.asked == 1


async def test_somebody_elses_cancellation_stays_one(watches):
    client = Client()
    task = asyncio.ensure_future(serve(watches, client, asyncio.Event().wait(), streaming=True))
    await asyncio.sleep(0)
    client.gone.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_client_that_goes_after_the_end_of_the_watch_changes_nothing(watches):
    client = Client()
    with ClientWatch(watches, client.receive) as watch:
        watch.body_received()
        watch.streaming()
        await asyncio.sleep(0)
        watch.end()
        client.gone.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
