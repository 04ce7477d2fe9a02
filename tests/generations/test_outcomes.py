"""What is told of every generation at its terminal: exactly once, whichever way it ended."""

from __future__ import annotations

import asyncio
import contextlib

from app.auth.identity import Identity
from app.composition.broker import create_backend
from app.generations.channels import ends_channel
from app.generations.requests import StartRequest
from app.generations.service import Generations
from app.http.transport import HttpTransport
from app.observe.outcomes import GenerationOutcome, GenerationOutcomes
from app.streams.control import Replicas
from app.streams.hub import Hub
from tests.support.gateway import settings
from tests.support.upstream import DONE, Call, chunk, scripted

ALICE = Identity("alice", "acme")
START = StartRequest("chat", {"message": "Hello"})


class Told(list):
    def __call__(self, outcome: GenerationOutcome) -> None:
        self.append({name: getattr(outcome, name) for name in GenerationOutcome.__slots__})

    async def one(self):
        async with asyncio.timeout(20):
            while not self:
                await asyncio.sleep(0.005)
        (told,) = self
        return told


@contextlib.asynccontextmanager
async def service(upstream: str):
    """The service in memory, and what its listener was told."""
    config, told = settings(upstream), Told()
    hub = Hub(asyncio.get_running_loop().call_soon, ends_channel)
    backend = create_backend(config, "node", hub)
    transport = HttpTransport(config.upstreams)
    generations = Generations(
        config.generations,
        config.routes,
        hub,
        backend.broker,
        backend.ledger,
        backend.succession,
        backend.keys,
        Replicas("node", backend.signals),
        transport,
        GenerationOutcomes(told),
        shared=False,
    )
    tasks = [asyncio.ensure_future(run()) for run in backend.tasks.values()]
    try:
        yield generations, told
    finally:
        await generations.close(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await backend.close()
        await transport.close()


async def test_a_completed_generation_is_told_with_its_model_its_tokens_and_both_times() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("Hi"))
        await call.send(chunk(finish="stop", usage={"prompt_tokens": 3, "completion_tokens": 1}))
        await call.send(DONE)
        await call.end()

    async with scripted(script) as upstream, service(upstream.url) as (generations, told):
        generation_id, _ = await generations.start(ALICE, START)
        seen = await told.one()
    assert (seen["id"], seen["kind"], seen["upstream"], seen["model"]) == (generation_id, "chat", "chat", "m1")
    assert (seen["user_id"], seen["company_id"]) == ("alice", "acme")
    assert (seen["terminal"], seen["code"]) == ("completed", "")
    assert (seen["prompt_tokens"], seen["completion_tokens"], seen["tokens_source"]) == (3, 1, "provider")
    assert 0 < seen["first_seconds"] <= seen["seconds"]


async def test_an_upstream_that_breaks_off_is_told_as_a_failure_with_its_code() -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk("Hi"))

    async with scripted(script) as upstream, service(upstream.url) as (generations, told):
        await generations.start(ALICE, START)
        seen = await told.one()
    assert (seen["terminal"], seen["code"], seen["tokens_source"]) == ("failed", "upstream_truncated", "estimated")


async def test_a_generation_that_is_cancelled_before_its_first_token_is_told_without_a_first_time() -> None:
    async def script(call: Call) -> None:
        await asyncio.Event().wait()

    async with scripted(script) as upstream, service(upstream.url) as (generations, told):
        generation_id, _ = await generations.start(ALICE, START)
        await upstream.call()
        await generations.cancel(ALICE, generation_id)
        seen = await told.one()
    assert (seen["terminal"], seen["code"], seen["first_seconds"]) == ("cancelled", "", None)


async def test_what_still_runs_when_the_replica_stops_is_told_as_interrupted() -> None:
    async def script(call: Call) -> None:
        await asyncio.Event().wait()

    async with scripted(script) as upstream:
        async with service(upstream.url) as (generations, told):
            await generations.start(ALICE, START)
            await upstream.call()
        seen = await told.one()
    assert (seen["terminal"], seen["code"]) == ("failed", "interrupted")
