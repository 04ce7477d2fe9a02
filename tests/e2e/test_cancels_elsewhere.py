"""A cancel at a replica that does not run the generation is answered by what happened to it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from app.config import Config, load_config
from tests.support.client import Client, Stream, connected
from tests.support.gateway import Process, running
from tests.support.jobs import IMAGE_KIND, JobServer, job_server
from tests.support.jobs import running as at
from tests.support.valkey import ValkeyServer
from tests.support.ws import eventually


@pytest.fixture
def written(tmp_path: Path, valkey: ValkeyServer, prefix: str) -> Path:
    """A configuration file, but for the address of its upstream."""
    file = tmp_path / "gateway.toml"
    file.write_text(
        f"""
[server]
log_level = "error"
playground = false
drain_window = 0.2
drain_grace = 0.5
[broker]
redis_url = "{valkey.url}"
key_prefix = "{prefix}"
[upstreams.chat]
targets = ["${{JOBS}}"]
[generations]
lease = 1.0
{IMAGE_KIND}"""
    )
    return file


def config(file: Path, server: JobServer) -> Config:
    return load_config(file, {"JOBS": server.url})


async def begun(here: Client, there: Client, server: JobServer) -> Stream:
    """Begin a job ``here`` and return what is seen of it ``there``."""
    server.answers["j1"] = at(30)
    reply = await here.command("generate", kind="image", input={"job": "j1"})
    here.streams[reply["generation_id"]] = Stream(reply["generation_id"], reply["epoch"], reply["offset"])
    watched = await there.subscribe(reply["generation_id"])
    await there.until(watched, lambda s: len(s.events) > 1)
    return watched


async def test_a_job_that_its_replica_just_left_is_cancelled_where_it_goes_on(written: Path) -> None:
    async with job_server() as server:
        made = config(written, server)
        async with running(made) as second, connected(second) as there:
            async with running(made) as first, connected(first) as here:
                watched = await begun(here, there, server)
            reply = await there.command("cancel", generation_id=watched.generation_id)
            assert reply["status"] == "cancelled"
            await there.finish(watched)
            assert watched.terminal is not None
            assert (watched.terminal["type"], watched.terminal["by"]) == ("cancelled", "user")
            await eventually(lambda: server.cancelled == ["j1"])
            again = await there.command("cancel", generation_id=watched.generation_id)
            assert again["status"] == "finished"


async def test_a_cancel_that_its_replica_does_not_hear_is_refused_and_heeded_where_it_goes_on(written: Path) -> None:
    async with job_server() as server:
        first = await asyncio.to_thread(Process, written, JOBS=server.url)
        try:
            async with (
                running(config(written, server)) as second,
                connected(second) as there,
                connected(first) as here,
            ):
                watched = await begun(here, there, server)
                os.kill(first.process.pid, signal.SIGSTOP)
                deaf = await there.command("cancel", generation_id=watched.generation_id)
                assert deaf["type"] == "reply" or (deaf["code"], deaf["status"]) == ("broker_unavailable", 503)
                async with asyncio.timeout(20):
                    while deaf["type"] == "error":
                        deaf = await there.command("cancel", generation_id=watched.generation_id)
                assert deaf["status"] == "cancelled"
                await there.finish(watched)
                assert watched.terminal is not None
                assert watched.terminal["type"] == "cancelled"
                await eventually(lambda: server.cancelled == ["j1"])
                os.kill(first.process.pid, signal.SIGCONT)
                # The one that wakes has nothing to say any more, to its own listeners neither.
                awake = await here.command("cancel", generation_id=watched.generation_id)
                assert awake["status"] == "finished"
                last = await there.subscribe(watched.generation_id)
                await there.finish(last)
                assert [event["type"] for event in last.events].count("cancelled") == 1
                assert last.events[-1] == watched.terminal
        finally:
            os.kill(first.process.pid, signal.SIGCONT)
            first.stop()
