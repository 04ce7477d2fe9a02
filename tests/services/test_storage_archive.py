from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.storage.archive import Archive, Item
from services.storage.paths import is_id, new_id, request_path, user_folder
from services.web.errors import Forbidden

RECORD = {"created": 1, "artifacts": []}


@pytest.fixture(params=["folder", "memory"])
def archive(request: Any, tmp_path: Path) -> Archive:
    """A folder, and a store that, as S3 does, knows conditional writes."""
    return Archive(str(tmp_path / "kept") if request.param == "folder" else "memory://", "image", b"key")


async def save(archive: Archive, owner: str = "ann", now: float = 1e9) -> str:
    item = Item(new_id("img", now), owner, {"prompt": "x"}, RECORD, {"image/original.png": b"png"})
    await archive.save(item, {"units": 1})
    return item.id


async def test_what_was_saved_is_read_listed_and_deleted(archive: Archive) -> None:
    item = await save(archive)
    record = await archive.record(item)
    assert record is not None
    assert (record["id"], record["owner"]) == (item, "ann")
    assert await archive.file(item, "image/original.png") == b"png"
    assert [line["id"] async for line in archive.history("ann", 1)] == [item]
    assert [line async for line in archive.history("bob", 1)] == []
    await archive.delete(item)
    assert await archive.record(item) is None
    assert await archive.file(item, "image/original.png") is None


async def test_the_newest_come_first_and_a_page_is_a_page(archive: Archive) -> None:
    items = [await save(archive, now=1e9 + 40_000 * number) for number in range(5)]
    assert [record["id"] for record in await archive.newest(3)] == items[:1:-1]
    assert len(await archive.newest(99)) == 5


async def test_lines_that_are_added_at_once_are_all_there(archive: Archive) -> None:
    items = await asyncio.gather(*(save(archive) for _ in range(20)))
    assert {line["id"] async for line in archive.history("ann", 1)} == set(items)


async def test_two_processes_that_add_at_once_lose_nothing() -> None:
    """Two archives over one store share no lock: the condition of the write alone keeps the lines."""
    first = Archive("memory://", "image", b"key")
    second = Archive("memory://", "image", b"key")
    second._store = first._store
    items = await asyncio.gather(*(save(archive) for archive in (first, second) for _ in range(3)))
    assert {line["id"] async for line in first.history("ann", 1)} == set(items)


@pytest.mark.parametrize("name", ["", "x", "../../etc/passwd", "img_20261121_zz", "img_20261121_" + "0" * 24 + "/.."])
async def test_what_is_no_id_is_no_path(archive: Archive, name: str) -> None:
    assert await archive.record(name) is None
    assert await archive.file(name, "record.json") is None
    with pytest.raises(Forbidden):
        archive.check_link(name, "record.json", 2**40, "0" * 64)


def test_s3_signs_its_own_links(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "s"), ("REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    archive = Archive("s3://bucket/prefix", "image", b"key")
    item = new_id("img", 1e9)
    url, _ = archive.link("http://unused", item, "image/original.png", 60)
    parts = urlsplit(url)
    assert parts.path.endswith(f"prefix/{request_path(item)}/image/original.png")
    assert parse_qs(parts.query)["X-Amz-Expires"] == ["60"]


@given(st.text(max_size=100), st.text(max_size=100))
def test_users_folders_are_plain_and_never_the_same_for_two(one: str, other: str) -> None:
    folder = user_folder(one)
    assert folder
    assert folder not in (".", "..")
    assert set(folder) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-=")
    assert (folder == user_folder(other)) == (one == other)


def test_an_id_carries_its_day_and_sorts_by_its_time() -> None:
    ids = [new_id("img", now) for now in (1e9, 1e9 + 1, 1e9 + 3600, 1e9 + 86_400)]
    assert all(is_id(one) for one in ids)
    assert ids == sorted(ids)
    assert request_path(ids[0]).startswith("requests/2001/09/09/")
