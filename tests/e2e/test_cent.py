"""Centrifugo's own client of the server API, as it is."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.test_control import centrifuge
from tests.support.gateway import running, settings

cent = pytest.importorskip("cent")
KEY = "a-key-of-the-back-end"
ROOM = {"history_size": 50, "history_ttl": 60, "presence": True}


def gateway():
    return running(settings("http://127.0.0.1:1", server_api={"keys": [KEY]}, realtime={"namespaces": {"room": ROOM}}))


async def test_the_asynchronous_client() -> None:
    async with gateway() as served, cent.AsyncClient(f"{served.http}/api", api_key=KEY) as client:
        first = await client.publish(cent.PublishRequest(channel="room:1", data={"n": 1}, idempotency_key="k"))
        again = await client.publish(cent.PublishRequest(channel="room:1", data={"n": 1}, idempotency_key="k"))
        assert (first.offset, first.epoch) == (1, again.epoch)
        result = await client.broadcast(cent.BroadcastRequest(channels=["room:1", "none:1"], data=2))
        assert result.responses[0].result.offset == 2
        assert result.responses[1].error.code == 102
        page = await client.history(cent.HistoryRequest(channel="room:1", limit=-1))
        assert [each.data for each in page.publications] == [{"n": 1}, 2]
        assert (await client.presence(cent.PresenceRequest(channel="room:1"))).presence == {}
        assert (await client.presence_stats(cent.PresenceStatsRequest(channel="room:1"))).num_clients == 0
        assert (await client.channels(cent.ChannelsRequest())).channels == {}
        assert len((await client.info(cent.InfoRequest())).nodes) == 1
        await client.history_remove(cent.HistoryRemoveRequest(channel="room:1"))
        with pytest.raises(cent.CentApiResponseError) as error:
            await client.publish(cent.PublishRequest(channel="gen:1", data=1))
        assert error.value.code == 103


async def test_the_synchronous_client() -> None:
    def use(url: str) -> None:
        with cent.Client(url, api_key=KEY) as client:
            requests = [cent.PublishRequest(channel="room:1", data=n) for n in range(3)]
            replies = client.batch(cent.BatchRequest(requests=[*requests, cent.InfoRequest()])).replies
            assert [reply.offset for reply in replies[:3]] == [1, 2, 3]
            assert (
                client.history(cent.HistoryRequest(channel="room:1", limit=1, reverse=True)).publications[0].data == 2
            )
        with cent.Client(url, api_key="wrong") as client, pytest.raises(cent.CentUnauthorizedError):
            client.info(cent.InfoRequest())

    async with gateway() as served:
        await asyncio.to_thread(use, f"{served.http}/api")


async def test_it_acts_on_live_sockets() -> None:
    async with (
        gateway() as served,
        centrifuge(served, "ann") as socket,
        cent.AsyncClient(f"{served.http}/api", api_key=KEY) as client,
    ):
        await client.subscribe(cent.SubscribeRequest(user="ann", channel="room:1", data={"n": 1}))
        assert (await socket.push("subscribe"))["subscribe"]["data"] == {"n": 1}
        await client.refresh(cent.RefreshRequest(user="ann", expire_at=4_000_000_000))
        assert (await socket.push("refresh"))["refresh"]["expires"]
        requests = [cent.UnsubscribeRequest(user="ann", channel="room:1")]
        await client.batch(cent.BatchRequest(requests=requests))
        assert (await socket.push("unsubscribe"))["unsubscribe"]["code"] == 2000
        leave = cent.Disconnect(code=4000, reason="later")
        await client.disconnect(cent.DisconnectRequest(user="ann", disconnect=leave))
        assert await socket.closed() == (4000, "later")
