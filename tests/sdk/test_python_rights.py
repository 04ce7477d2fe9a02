"""The Python SDK, as it comes from PyPI: tokens that end, what is refused, and positions that are the client's own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import centrifuge
import pytest
from centrifuge import ReplyError, StreamPosition

from tests.sdk.test_python import FLAVOURS, ROOM, Seen, client, payload
from tests.support.centrifuge import channel_token
from tests.support.gateway import running, settings, token

NOWHERE = "http://127.0.0.1:1"
REALTIME: dict[str, Any] = {
    "namespaces": {"room": ROOM, "closed": {"history_size": 10, "history_ttl": 60}},
    "centrifuge": {"expired_delay": 1.0},
}


class Life(centrifuge.ClientEventHandler):
    """How often a client was connected, and the end of it."""

    def __init__(self) -> None:
        self.connected = 0
        self.ended: list[Any] = []

    async def on_connected(self, ctx: Any) -> None:
        self.connected += 1

    async def on_disconnected(self, ctx: Any) -> None:
        self.ended.append(ctx.code)


class Place(Seen):
    """What a subscription was told, its faults, its end, and who came and went."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[int] = []
        self.ended: list[int] = []
        self.others: list[tuple[str, str]] = []

    async def on_error(self, ctx: Any) -> None:
        self.faults.append(ctx.code)
        await self._tell()

    async def on_unsubscribed(self, ctx: Any) -> None:
        self.ended.append(ctx.code)
        await self._tell()

    async def on_join(self, ctx: Any) -> None:
        self.others.append(("join", ctx.info.user))
        await self._tell()

    async def on_leave(self, ctx: Any) -> None:
        self.others.append(("leave", ctx.info.user))
        await self._tell()


@FLAVOURS
async def test_an_expired_token_is_fetched_anew_and_a_short_one_refreshed_on_the_way(binary: bool) -> None:
    async with running(settings(NOWHERE, realtime=REALTIME)) as gateway:
        fetched, life, place = [], Life(), Place()

        async def fetch() -> str:
            fetched.append(time.monotonic())
            return token(ttl=2 if len(fetched) == 1 else 600)

        sdk = client(gateway, binary, token=token(ttl=-100), get_token=fetch, events=life)
        await sdk.connect()
        await sdk.ready(timeout=10)
        subscription = sdk.new_subscription("room:1", events=place)
        await subscription.subscribe()
        await place.until(lambda it: it.subscribed)
        assert len(fetched) == 1
        async with asyncio.timeout(10):
            while len(fetched) < 2:
                await asyncio.sleep(0.05)
        await asyncio.sleep(max(0.0, fetched[0] + 3.5 - time.monotonic()))  # Past the end of the short one.
        await subscription.publish(payload("still here", binary))
        await place.until(lambda it: it.data == ["still here"])
        assert (life.connected, life.ended, len(place.subscribed)) == (1, [], 1)
        await sdk.disconnect()


@FLAVOURS
async def test_a_channels_token_lets_in_is_refreshed_and_anothers_is_the_end(binary: bool) -> None:
    async with running(settings(NOWHERE, realtime=REALTIME)) as gateway:
        fetched, life, place = [], Life(), Place()

        async def fetch(channel: str) -> str:
            fetched.append(channel)
            return channel_token(channel, ttl=-100 if len(fetched) == 1 else 2 if len(fetched) == 2 else 600)

        sdk = client(gateway, binary, events=life)
        await sdk.connect()
        subscription = sdk.new_subscription("closed:1", events=place, get_token=fetch, min_resubscribe_delay=0.05)
        await subscription.subscribe()
        await place.until(lambda it: it.subscribed)
        assert fetched == ["closed:1"] * 2, "one was over, and the next was taken"
        async with asyncio.timeout(10):
            while len(fetched) < 3:
                await asyncio.sleep(0.05)
        assert not place.ended
        foreign = sdk.new_subscription("closed:2", token=channel_token("closed:3"))
        await foreign.subscribe()
        async with asyncio.timeout(10):
            while not life.ended:
                await asyncio.sleep(0.02)
        assert life.ended == [3500]


@FLAVOURS
async def test_what_is_refused_is_refused_by_its_number(binary: bool) -> None:
    namespaces = {**REALTIME["namespaces"], "mute": {"allow_subscribe": True}}
    async with running(settings(NOWHERE, realtime={**REALTIME, "namespaces": namespaces})) as gateway:
        sdk = client(gateway, binary)
        await sdk.connect()
        places = {}
        for channel, options in (
            ("closed:1", {}),
            ("nowhere:1", {}),
            ("user:bob", {}),
            ("room:1", {"tags_filter": centrifuge.Filter.eq("a", "b")}),
        ):
            places[channel] = Place()
            await sdk.new_subscription(channel, events=places[channel], **options).subscribe()
            await places[channel].until(lambda it: it.ended)
        assert {channel: place.ended for channel, place in places.items()} == {
            "closed:1": [103],
            "nowhere:1": [102],
            "user:bob": [103],
            "room:1": [107],
        }
        mute = sdk.new_subscription("mute:1")
        await mute.subscribe()
        for asked, code in (
            (mute.publish(payload(1, binary)), 103),
            (mute.history(limit=1), 108),
            (mute.presence(), 108),
            (mute.presence_stats(), 108),
            (sdk.rpc("nothing of the kind", payload({}, binary)), 104),
        ):
            with pytest.raises(ReplyError) as refused:
                await asked
            assert refused.value.code == code
        await sdk.disconnect()


@FLAVOURS
async def test_a_state_of_the_applications_own_is_gone_on_from_and_loaded_anew_when_it_is_unknown(binary: bool) -> None:
    async with running(settings(NOWHERE, realtime=REALTIME)) as gateway:
        writer = client(gateway, binary, "bob")
        await writer.connect()
        other = writer.new_subscription("room:1")
        await other.subscribe()
        for number in range(1, 11):
            await other.publish(payload(number, binary))
        history = await other.history(limit=0)
        assert history.offset == 10
        positions = [StreamPosition(5, "of another time"), StreamPosition(7, history.epoch)]
        asked: list[str] = []

        async def state(channel: str) -> StreamPosition:
            asked.append(channel)
            return positions[min(len(asked), len(positions)) - 1]

        sdk, place = client(gateway, binary), Place()
        await sdk.connect()
        subscription = sdk.new_subscription("room:1", events=place, get_state=state, min_resubscribe_delay=0.05)
        await subscription.subscribe()
        await place.until(lambda it: len(it.data) == 3)
        assert (place.data, asked, place.ended) == ([8, 9, 10], ["room:1"] * 2, [])
        await sdk.disconnect()
        await writer.disconnect()


@FLAVOURS
async def test_who_comes_and_goes_is_told_to_who_asks(binary: bool) -> None:
    async with running(settings(NOWHERE, realtime=REALTIME)) as gateway:
        sdk, curious, quiet = client(gateway, binary), Place(), Place()
        await sdk.connect()
        deaf = client(gateway, not binary, "carol")
        await deaf.connect()
        await deaf.new_subscription("room:1", events=quiet).subscribe()
        await quiet.until(lambda it: it.subscribed)
        await sdk.new_subscription("room:1", events=curious, join_leave=True).subscribe()
        await curious.until(lambda it: it.subscribed)
        bob = client(gateway, binary, "bob")
        await bob.connect()
        there = bob.new_subscription("room:1")
        await there.subscribe()
        await curious.until(lambda it: ("join", "bob") in it.others)
        await there.unsubscribe()
        await curious.until(lambda it: ("leave", "bob") in it.others)
        assert not quiet.others
        for each in (sdk, deaf, bob):
            await each.disconnect()
