"""Requests and what came of them, in a folder or in S3."""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import obstore
import orjson
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import LocalStore, ObjectStore, S3Store, from_url

from services.storage.links import sign, verify
from services.storage.paths import history_path, is_id, request_path
from services.web.errors import ApiError, Forbidden, Gone, Unavailable

__all__ = ["Archive", "Item"]

_HISTORY_LIMIT = 4 * 1024 * 1024
"""Bytes of one user's index of one day; what a user makes beyond it that day is kept but not listed."""
_APPEND_TRIES = 8
_RETRIES: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
"""The library's own would have a request wait for minutes."""
_CLIENT: Any = {"connect_timeout": "2s", "timeout": "20s"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Item:
    """One finished request. ``files`` are by their path below the request's folder."""

    id: str
    owner: str
    input: Mapping[str, Any]
    record: Mapping[str, Any]
    files: Mapping[str, bytes]


class Archive:
    """``url`` is a folder's path or ``s3://bucket/prefix``, whose credentials are the usual AWS variables.

    What cannot be reached just now raises ``Unavailable``, from every method.
    """

    def __init__(self, url: str, kind: str, key: bytes, *, store_links: bool = True) -> None:
        self._store: ObjectStore
        if "://" in url:
            self._store = _remote(url)
        else:
            Path(url).mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(url)
        self._kind = kind
        self._key = key
        self._store_links = store_links
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def save(self, item: Item, summary: Mapping[str, Any]) -> None:
        """Keep an item, its record last: a record that can be read has its files. ``summary`` goes in the index."""
        folder = request_path(item.id)
        record = {**item.record, "id": item.id, "owner": item.owner}
        with _reached():
            await obstore.put_async(self._store, f"{folder}/input.json", orjson.dumps(item.input))
            for name, data in item.files.items():
                await obstore.put_async(
                    self._store, f"{folder}/{name}", data, attributes=self._attributes(name) or None
                )
            await obstore.put_async(self._store, f"{folder}/record.json", orjson.dumps(record))
        day = datetime.now(UTC).date()
        await self._append(history_path(item.owner, self._kind, day), orjson.dumps({"id": item.id, **summary}) + b"\n")

    def _attributes(self, name: str) -> dict[str, str] | None:
        """What S3 is told of a file, so that a link shows it as what it is. A folder knows nothing of the kind."""
        kind, _ = mimetypes.guess_type(name)
        return {"Content-Type": kind} if kind and isinstance(self._store, S3Store) else None

    async def record(self, item_id: str) -> dict[str, Any] | None:
        """The record of an item, or None."""
        if not is_id(item_id):
            return None
        data = await self._read(f"{request_path(item_id)}/record.json")
        return None if data is None else orjson.loads(data)

    async def file(self, item_id: str, name: str) -> bytes | None:
        """One of an item's files, or None."""
        return await self._read(f"{request_path(item_id)}/{name}") if is_id(item_id) else None

    async def delete(self, item_id: str) -> None:
        """Forget an item's files. Its line in the index stays: it counts as used."""
        folder = request_path(item_id)
        with _reached():
            found = await obstore.list(self._store, folder).collect_async()
            paths = [entry["path"] for entry in found]
            # The record first: without it the item is not there, whatever happens next.
            paths.sort(key=lambda path: not path.endswith("/record.json"))
            for path in paths:
                await obstore.delete_async(self._store, path)

    async def history(self, owner: str, days: int) -> AsyncIterator[dict[str, Any]]:
        """The index lines of a user, newest day first."""
        today = datetime.now(UTC).date()
        for day in (today - timedelta(days=number) for number in range(days)):
            data = await self._read(history_path(owner, self._kind, day)) or b""
            for line in reversed(data.splitlines()):
                yield orjson.loads(line)

    async def newest_of(self, owner: str, limit: int, before: date | None = None) -> list[dict[str, Any]]:
        """Records of one user, newest first, of days before ``before`` where it is given."""
        folder = history_path(owner, self._kind, date.min).rsplit("/", 3)[0]
        with _reached():
            days = sorted(
                (each["path"] for each in await obstore.list(self._store, folder).collect_async()), reverse=True
            )
        records: list[dict[str, Any]] = []
        for day in days:
            if before is not None and day >= history_path(owner, self._kind, before):
                continue
            for line in reversed((await self._read(day) or b"").splitlines()):
                if len(records) == limit:
                    return records
                record = await self.record(orjson.loads(line)["id"])
                if record is not None:
                    records.append(record)
        return records

    async def check(self) -> None:
        """Raise ``Unavailable`` unless the storage answers."""
        await self._read("health")

    async def newest(self, limit: int, before: date | None = None) -> list[dict[str, Any]]:
        """Records of all users, newest first, of days before ``before`` where it is given."""
        records: list[dict[str, Any]] = []
        for day in await self._days():
            if before is not None and day >= before:
                continue
            # Ids of a day sort by the time.
            for folder in sorted(await self._below(f"requests/{day:%Y/%m/%d}"), reverse=True):
                record = await self.record(folder.rsplit("/", 1)[-1])
                if record is not None:
                    records.append(record)
                if len(records) == limit:
                    return records
        return records

    def link(self, base: str, item_id: str, name: str, seconds: int) -> tuple[str, int]:
        """A link to a file and when it expires: the service's own at ``base``, or S3's where ``store_links``."""
        expires = int(time.time()) + seconds
        path = f"{request_path(item_id)}/{name}"
        if self._store_links and isinstance(self._store, S3Store):
            return obstore.sign(self._store, "GET", path, timedelta(seconds=seconds)), expires
        return f"{base}/{item_id}/file/{name}?{sign(self._key, path, expires)}", expires

    def check_link(self, item_id: str, name: str, expires: int, signature: str) -> None:
        """Raise ``Forbidden`` for a link that was not made here, ``Gone`` for one that has run out."""
        if not is_id(item_id) or not verify(self._key, f"{request_path(item_id)}/{name}", expires, signature):
            raise Forbidden("This link was not made by this service.")
        if expires < time.time():
            raise Gone("This link has expired. Ask for a new one.")

    async def _read(self, path: str) -> bytes | None:
        with _reached():
            try:
                answer = await obstore.get_async(self._store, path)
                return bytes(await answer.bytes_async())
            except (NotFoundError, FileNotFoundError):
                return None

    async def _append(self, path: str, line: bytes) -> None:
        """Add a line to an object: read, then written back if nobody else did so meanwhile.

        A folder knows no such condition; there the lock is enough, as one process owns it.
        """
        lock = self._locks.setdefault(path, asyncio.Lock())
        async with lock:
            for _ in range(_APPEND_TRIES):
                with _reached():
                    if await self._append_once(path, line):
                        return
        raise ApiError("The storage is too busy. Try again.", status=503)

    async def _append_once(self, path: str, line: bytes) -> bool:
        conditional = not isinstance(self._store, LocalStore)
        try:
            answer = await obstore.get_async(self._store, path)
            data, tag = bytes(await answer.bytes_async()), answer.meta["e_tag"]
        except (NotFoundError, FileNotFoundError):
            data, tag = b"", None
        if len(data) + len(line) > _HISTORY_LIMIT:
            return True
        try:
            if not conditional:
                await obstore.put_async(self._store, path, data + line)
            elif tag is None:
                await obstore.put_async(self._store, path, line, mode="create")
            else:
                await obstore.put_async(self._store, path, data + line, mode={"e_tag": tag})
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    async def _days(self) -> list[date]:
        """The days with requests, newest first."""
        days = []
        for year in await self._below("requests"):
            for month in await self._below(year):
                for folder in await self._below(month):
                    days.append(date(*(int(part) for part in folder.split("/")[-3:])))
        return sorted(days, reverse=True)

    async def _below(self, path: str) -> list[str]:
        with _reached():
            found = await obstore.list_with_delimiter_async(self._store, path)
        return [prefix.rstrip("/") for prefix in found["common_prefixes"]]


def _remote(url: str) -> ObjectStore:
    if not url.startswith("s3"):
        return from_url(url)
    # An endpoint without TLS, such as one on the same machine, was named on purpose.
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return S3Store.from_url(url, client_options=_CLIENT | {"allow_http": plain}, retry_config=_RETRIES)


@contextmanager
def _reached() -> Iterator[None]:
    """Make ``Unavailable`` of what goes wrong with the storage."""
    try:
        yield
    except (BaseError, OSError) as error:
        _log.warning("the storage failed: %s", type(error).__name__)
        raise Unavailable("The storage can't be reached just now. Try again.") from error
