"""Several processes of one gateway tell the same figures."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app.observe.families import Snapshot
from app.observe.workers import Workers
from tests.support.ws import eventually


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir="/tmp") as name:  # pytest's own are too long for sockets
        yield Path(name)


def counted(number: int) -> Snapshot:
    return {"tidegate_messages_total": {(): number}, "tidegate_workers": {(): 1}}


@contextlib.asynccontextmanager
async def worker(folder: Path, snapshot: Snapshot) -> AsyncIterator[Workers]:
    workers = Workers(folder, lambda: snapshot)
    await workers.start()
    try:
        yield workers
    finally:
        await workers.close()


async def test_whoever_is_asked_tells_for_all_and_as_it_is_now(folder: Path) -> None:
    one, two = counted(1), counted(10)
    async with worker(folder, one) as first, worker(folder, two) as second:
        assert (
            await first.snapshot()
            == await second.snapshot()
            == {
                "tidegate_messages_total": {(): 11},
                "tidegate_workers": {(): 2},
            }
        )
        two["tidegate_messages_total"][()] = 20
        assert (await first.snapshot())["tidegate_messages_total"] == {(): 21}


async def test_what_a_process_counted_that_has_ended_still_counts_and_its_gauges_do_not(folder: Path) -> None:
    async with worker(folder, counted(1)) as first:
        async with worker(folder, counted(10)):
            pass
        assert await first.snapshot() == {"tidegate_messages_total": {(): 11}, "tidegate_workers": {(): 1}}


def _live(folder: str, number: int) -> None:
    async def run() -> None:
        await Workers(Path(folder), lambda: counted(number)).start()
        await asyncio.Event().wait()

    asyncio.run(run())


async def test_killed_processes_keep_their_counts_however_many_there_were(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    async with worker(folder, counted(1)) as first:
        expected = 1
        for number in (10, 100):
            process = context.Process(target=_live, args=(str(folder), number), daemon=True)
            process.start()
            assert process.pid is not None
            pid = process.pid
            await eventually(lambda pid=pid: list(folder.glob(f"{pid}-*.json")), timeout=60)  # type: ignore[misc]
            expected += number
            assert (await first.snapshot())["tidegate_messages_total"] == {(): expected}
            os.kill(pid, signal.SIGKILL)
            process.join()
            assert await first.snapshot() == {"tidegate_messages_total": {(): expected}, "tidegate_workers": {(): 1}}
        async with worker(folder, counted(1000)) as third:  # which puts them together
            assert (folder / "gone.json").exists()
            assert (await third.snapshot())["tidegate_messages_total"] == {(): expected + 1000}
            assert len(list(folder.glob("*.sock"))) == 2


async def test_a_process_that_does_not_answer_is_told_as_it_was_last(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.observe.workers._PATIENCE", 0.1)
    stuck = folder / "1-stuck.sock"
    (folder / "1-stuck.json").write_bytes(b'{"tidegate_messages_total":[[[],5]],"tidegate_workers":[[[],1]]}')

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_unix_server(say_nothing, stuck)
    async with worker(folder, counted(1)) as first:
        began = time.monotonic()
        assert await first.snapshot() == {"tidegate_messages_total": {(): 6}, "tidegate_workers": {(): 2}}
        assert time.monotonic() - began < 10
    silent.close()
    await silent.wait_closed()
