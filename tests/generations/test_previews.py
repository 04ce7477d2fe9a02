"""Large previews are kept beside the log, the last of each index, and found by their links."""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from app.errors import BrokerUnavailable, NotFound
from app.generations.events import Preview
from app.generations.previews import PreviewShelf, read_preview
from app.observe.tasks import TaskSet
from app.streams.memory_keys import MemoryKeys


@pytest.fixture
async def tasks():
    made = TaskSet()
    yield made
    await made.close(5)


def shelf(keys, tasks):
    return PreviewShelf("gen_1", keys, tasks.start, inline=8, ttl=60.0)


def look(index: int, content: bytes, mime: str = "image/png") -> Preview:
    return Preview(index, mime, data=base64.b64encode(content).decode())


async def fetched(keys, link: str):
    parts = urlsplit(link)
    index = int(parts.path.rpartition("/")[2])
    return await read_preview(keys, "gen_1", index, parse_qs(parts.query)["key"][0])


async def test_a_small_preview_and_one_with_a_link_of_its_own_stay_as_they_are(tasks):
    kept = shelf(MemoryKeys(), tasks)
    small, linked = look(0, b"123456"), Preview(1, "image/png", url="https://x.test/1")
    assert kept.placed(small) is small
    assert kept.placed(linked) is linked
    assert not len(tasks)


async def test_of_each_index_the_last_one_is_found_by_any_of_its_links(tasks):
    keys = MemoryKeys()
    kept = shelf(keys, tasks)
    links = [kept.placed(look(index, b"%d:%d" % (index, turn) * 9)).url for turn in range(5) for index in (0, 1)]
    assert len(set(links)) == 10, "browsers would show what they have"
    while len(tasks):
        await asyncio.sleep(0)
    for link in links:
        index = link[link.index("previews/") + 9]
        assert await fetched(keys, link) == ("image/png", f"{index}:4".encode() * 9)
    assert len(keys._values) == 2


async def test_a_link_that_is_faster_than_its_preview_is_waited_for(tasks):
    class Slow(MemoryKeys):
        async def put(self, key, value, ttl):
            await looked.wait()
            await super().put(key, value, ttl)

        async def read(self, key):
            looked.set()
            return await super().read(key)

    looked, keys = asyncio.Event(), Slow()
    link = shelf(keys, tasks).placed(look(0, b"content" * 9)).url
    assert await fetched(keys, link) == ("image/png", b"content" * 9)


async def test_nothing_is_found_without_the_secret(tasks):
    keys = MemoryKeys()
    link = shelf(keys, tasks).placed(look(0, b"content" * 9)).url
    await fetched(keys, link)
    for index, secret in ((0, "other"), (1, parse_qs(urlsplit(link).query)["key"][0])):
        with pytest.raises(NotFound):
            await read_preview(keys, "gen_1", index, secret)


async def test_an_upstream_fills_no_store(tasks):
    keys = MemoryKeys()
    kept = shelf(keys, tasks)
    shown = [kept.placed(look(index, b"content" * 9)) for index in range(200)]
    assert [each is not None for each in shown] == [True] * 64 + [False] * 136
    assert kept.placed(look(3, b"again" * 9)) is not None
    while len(tasks):
        await asyncio.sleep(0)
    assert len(keys._values) == 64


@pytest.mark.parametrize("data", ["*" * 40, "abc=" * 10, "é" * 40])
async def test_what_is_no_base_64_is_not_shown(tasks, data):
    assert shelf(MemoryKeys(), tasks).placed(Preview(0, "image/png", data=data)) is None


async def test_a_store_that_is_away_costs_the_preview_and_nothing_else(tasks):
    class Away(MemoryKeys):
        async def put(self, key, value, ttl):
            raise BrokerUnavailable

    kept = shelf(Away(), tasks)
    for _ in range(3):
        assert kept.placed(look(0, b"content" * 9)).url
        while len(tasks):
            await asyncio.sleep(0)
    assert not kept._waiting
