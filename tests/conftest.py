"""Fixtures that many tests share."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping

import hypothesis
import pytest

from app.composition.event_loop import EventLoop
from tests.support.postgres import NoPostgres, PostgresServer
from tests.support.redis_servers import ClusterServers, SentinelServers, closing
from tests.support.valkey import ValkeyServer

# Where a change is judged the same examples are tried each time; everywhere else new ones.
hypothesis.settings.register_profile("here")  # A machine that is busy is not a fault.
hypothesis.settings.register_profile("ci", derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests on the loop that the gateway runs on."""
    return {"uvloop": EventLoop}


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """One server for all tests of a run."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> Iterator[ValkeyServer]:
    """The same, up and running when a test begins and whatever the test does to it."""
    valkey_server.heal()
    yield valkey_server
    valkey_server.heal()


@pytest.fixture(scope="session")
def sentinel_servers() -> Iterator[SentinelServers]:
    """A master, a replica and three sentinels for all tests of a run."""
    with closing(SentinelServers()) as servers:
        yield servers


@pytest.fixture
def sentinels(sentinel_servers: SentinelServers) -> SentinelServers:
    """The same, in order when a test begins."""
    sentinel_servers.heal()
    return sentinel_servers


@pytest.fixture(scope="session")
def cluster_servers() -> Iterator[ClusterServers]:
    """Three masters for all tests of a run."""
    with closing(ClusterServers()) as servers:
        yield servers


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests of a run; without any here, those who need it are skipped."""
    try:
        server = PostgresServer()
    except NoPostgres as error:
        pytest.skip(str(error))
    with closing(server):
        server.start()
        yield server


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> str:
    """A database of its own for a test."""
    postgres_server.heal()
    return await postgres_server.create_database()


@pytest.fixture
def prefix() -> str:
    """Begin the names of all keys of a test with this, and no other test sees them."""
    return f"test-{secrets.token_hex(4)}:"


@pytest.fixture(autouse=True)
def logging_stays_as_it_was() -> Iterator[None]:
    """Let no test's set-up of logs decide what the next one can see."""
    loggers = [logging.root, *(it for it in logging.root.manager.loggerDict.values() if isinstance(it, logging.Logger))]
    before = [(logger, dict(vars(logger)), logger.handlers[:], logger.filters[:]) for logger in loggers]
    yield
    for logger, attributes, handlers, filters in before:
        vars(logger).update(attributes, handlers=handlers, filters=filters)
        logger.setLevel(attributes["level"])  # Forgets what was cached of the other level, too.
