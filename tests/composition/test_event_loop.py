"""Connections are taken in bursts: whoever comes while many are busy does not wait for one turn of the loop each."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket

import pytest

from app.composition.event_loop import EventLoop
from app.config import Config
from app.serving import uvicorn_config

NEWCOMERS = 200


class Answering(asyncio.Protocol):
    made: list[Answering] = []  # noqa: RUF012 (emptied by each test)

    def connection_made(self, transport):
        self.made.append(self)
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


@pytest.fixture(autouse=True)
def nobody_yet():
    Answering.made.clear()


@pytest.fixture
def run():
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        yield runner.run


@contextlib.asynccontextmanager
async def serving(listener=None):
    loop = asyncio.get_running_loop()
    where = {"sock": listener} if listener else {"host": "127.0.0.1", "port": 0}
    server = await loop.create_server(Answering, **where, backlog=NEWCOMERS)
    try:
        yield server, server.sockets[0].getsockname()
    finally:
        server.close()
        await server.wait_closed()


def come(address) -> list[socket.socket]:
    """Connect, which needs nobody to accept."""
    return [socket.create_connection(address) for _ in range(NEWCOMERS)]


def leave(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()


async def turns_until(condition, most=1000):
    """Return how many turns of the loop there were until then."""
    for turn in range(most):
        if condition():
            return turn
        await asyncio.sleep(0)
        # A turn in which nothing waits but timers does not look at sockets.
        await asyncio.sleep(0.0001)
    raise AssertionError("it never came")


def test_the_gateway_runs_on_it():
    assert uvicorn_config(Config()).get_loop_factory() is EventLoop


@pytest.mark.parametrize("given", [False, True], ids=["by address", "by socket"])
def test_all_who_wait_are_taken_within_a_few_turns(run, given):
    async def main():
        listener = socket.create_server(("127.0.0.1", 0), backlog=NEWCOMERS) if given else None
        async with serving(listener) as (_, address):
            clients = come(address)
            turns = await turns_until(lambda: len(Answering.made) == NEWCOMERS)
            leave(clients)
            return turns

    assert run(main()) < NEWCOMERS / 10


def test_connections_of_a_burst_are_as_all_others(run):
    async def main():
        async with serving() as (_, address):
            clients = come(address)
            await turns_until(lambda: len(Answering.made) == NEWCOMERS)
            options = {
                each.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                for each in Answering.made
            }
            peers = {each.transport.get_extra_info("peername") for each in Answering.made}
            assert peers == {client.getsockname() for client in clients}
            assert len({type(each.transport) for each in Answering.made}) == len(options) == 1
            loop = asyncio.get_running_loop()
            for number, client in enumerate(clients):
                client.setblocking(False)
                await loop.sock_sendall(client, str(number).encode())
                assert await loop.sock_recv(client, 10) == str(number).encode()
            leave(clients)

    run(main())


def test_a_closed_server_takes_nobody_and_leaves_no_descriptor(run):
    before = len(os.listdir("/proc/self/fd"))

    async def main():
        async with serving() as (server, address):
            clients = come(address)
            await turns_until(lambda: Answering.made)
            server.close()
            with socket.socket() as late:
                assert late.connect_ex(address) == errno.ECONNREFUSED
            await server.wait_closed()
            assert not server.is_serving()
            leave(clients)
            for each in Answering.made:
                each.transport.abort()
            await turns_until(lambda: len(os.listdir("/proc/self/fd")) <= before + 10)

    run(main())


def test_without_descriptors_it_goes_on_when_there_are_some_again(run):
    import resource

    async def main():
        async with serving() as (_, address):
            clients = come(address)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
            try:
                await turns_until(lambda: Answering.made)
                for _ in range(20):
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            leave(clients)
            Answering.made.clear()
            newcomer = socket.create_connection(address)
            await turns_until(lambda: Answering.made)
            newcomer.close()

    run(main())
