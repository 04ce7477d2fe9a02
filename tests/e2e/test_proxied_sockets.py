"""WebSockets that a route passes on, with real clients and real services of another make on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.utils import accept_key

from app.config import Config
from tests.support.gateway import Gateway, bearer, free_port, running, settings, token
from tests.support.ws import CLOSE, PING, PONG, raw

Handler = Callable[[ServerConnection], Awaitable[None]]


class Service:
    """A WebSocket service behind the gateway."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[ServerConnection] = []
        self.ends: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()
        """How connections ended."""


@contextlib.asynccontextmanager
async def service(handler: Handler | None = None, **options: Any) -> AsyncIterator[Service]:
    """Serve; without a ``handler`` every message is sent back."""
    made = Service()

    async def handle(connection: ServerConnection) -> None:
        made.seen.append(connection)
        with contextlib.suppress(ConnectionClosed):
            await (handler or echo)(connection)
        await connection.wait_closed()
        made.ends.put_nowait((connection.close_code, connection.close_reason))

    async with serve(handle, "127.0.0.1", 0, **{"max_size": None, "compression": None, **options}) as server:
        made.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield made


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def passing(upstream: str, route: dict[str, Any] | None = None, **sections: Any) -> Config:
    routes = [{"path": "/live/*", "upstream": "chat", "websocket": True, "auth": "none", **(route or {})}]
    return settings(upstream, routes=routes, **sections)


@contextlib.asynccontextmanager
async def passed_on(
    handler: Handler | None = None,
    route: dict[str, Any] | None = None,
    served: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[tuple[Gateway, Service]]:
    async with service(handler, **(served or {})) as behind, running(passing(behind.url, route, **more)) as gateway:
        yield gateway, behind


def live(gateway: Gateway, path: str = "/live/x") -> str:
    return f"ws://127.0.0.1:{gateway.port}{path}"


def client(gateway: Gateway, path: str = "/live/x", **options: Any) -> connect:
    return connect(live(gateway, path), **{"compression": None, "max_size": None, "proxy": None, **options})


async def refused(gateway: Gateway, path: str = "/live/x", **options: Any) -> httpx.Response:
    with pytest.raises(InvalidStatus) as refusal:
        async with client(gateway, path, **options):
            pass
    answer = refusal.value.response
    return httpx.Response(
        answer.status_code, headers=dict(answer.headers.raw_items()), content=bytes(answer.body or b"")
    )


async def closed(socket: Any) -> tuple[int | None, str | None]:
    async with asyncio.timeout(15):
        await socket.wait_closed()
    return socket.close_code, socket.close_reason


# Messages.


@pytest.mark.parametrize(
    "message", ["", "text ü", b"", b"\x00\xff", "x" * 125, b"x" * 126, b"x" * 65_535, b"x" * 65_536, b"x" * 1_000_000]
)
async def test_messages_cross_both_ways_as_they_are(message: str | bytes) -> None:
    async with passed_on() as (gateway, _), client(gateway) as live:
        await live.send(message)
        assert await live.recv() == message


async def test_fragmented_messages_cross_and_pings_come_between() -> None:
    async with passed_on() as (gateway, _), client(gateway) as live:
        pieces = [secrets.token_bytes(size) for size in (1, 70_000, 0, 300, 200_000)]
        await live.send(pieces)
        await (await live.ping())
        assert await live.recv() == b"".join(pieces)
        await live.send(["a", "b", "c"])
        assert await live.recv() == "abc"


async def test_what_the_service_sends_in_the_same_breath_as_its_handshake_arrives() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await _switching(reader, b"\x81\x05hello"))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, running(passing(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")) as gateway:
        async with client(gateway) as live:
            assert await live.recv() == "hello"
        server.close()


async def test_pings_are_answered_here_and_never_cross() -> None:
    pings: list[bytes] = []

    async def handler(connection: ServerConnection) -> None:
        protocol = connection.protocol
        recv = protocol.recv_frame

        def note(frame: Any) -> None:
            if frame.opcode in (PING, PONG):
                pings.append(bytes(frame.data))
            recv(frame)

        protocol.recv_frame = note  # type: ignore[method-assign]
        await echo(connection)

    async with passed_on(handler) as (gateway, _), client(gateway) as live:
        await live.send("1")
        await live.recv()
        await (await live.ping(b"mine"))
        await live.send("2")
        await live.recv()
        assert pings == []


async def test_a_client_that_does_not_read_stops_the_service_and_loses_nothing() -> None:
    sent = 0

    async def flood(connection: ServerConnection) -> None:
        nonlocal sent
        for number in range(400):
            await connection.send(number.to_bytes(4, "big") + bytes(100_000))
            sent += 1

    async with passed_on(flood) as (gateway, _), client(gateway, max_queue=1, ping_interval=None) as live:
        before = -1
        while before != sent:  # until it stands still
            before = sent
            await asyncio.sleep(1.0)
        assert sent < 300, "40 MB went somewhere"
        for number in range(400):
            message = await live.recv()
            assert int.from_bytes(message[:4], "big") == number


async def test_a_service_that_does_not_read_stops_the_client() -> None:
    go = asyncio.Event()

    async def slow(connection: ServerConnection) -> None:
        await go.wait()
        for number in range(400):
            message = await connection.recv()
            assert int.from_bytes(message[:4], "big") == number
        await connection.send("all")

    sent = 0
    async with passed_on(slow, served={"max_queue": 1, "ping_interval": None}) as (gateway, _):  # noqa: SIM117
        async with client(gateway, ping_interval=None) as live, asyncio.TaskGroup() as group:

            async def send() -> None:
                nonlocal sent
                for number in range(400):
                    await live.send(number.to_bytes(4, "big") + bytes(100_000))
                    sent += 1

            group.create_task(send())
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(1.0)
            assert sent < 300
            go.set()
            assert await live.recv() == "all"


@pytest.mark.parametrize("pieces", [[b"x" * 2001], [b"x" * 1000, b"x" * 1001]])
async def test_a_message_over_the_limit_closes_with_1009(pieces: list[bytes]) -> None:
    async with passed_on(route={"socket_message_limit": 2000}) as (gateway, behind), client(gateway) as live:
        await live.send(b"x" * 2000)
        assert await live.recv() == b"x" * 2000
        await live.send(pieces)
        code, reason = await closed(live)
        assert code == 1009
        assert reason
        assert (await behind.ends.get())[0] == 1001


async def test_so_does_one_of_the_service() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send(b"x" * 2001)

    async with passed_on(handler, {"socket_message_limit": 2000}) as (gateway, behind), client(gateway) as live:
        assert (await closed(live))[0] == 1009
        assert (await behind.ends.get())[0] == 1009


async def test_a_client_that_breaks_the_protocol_is_closed_with_1002() -> None:
    async with passed_on() as (gateway, behind), raw(gateway, None, path="/live/x") as live:
        assert live.status == 101
        live.send(b"\x81\x05hello")  # not masked
        code, reason, _ = await live.close_frame()
        assert code == 1002
        assert reason
        await live.ended()
        assert (await behind.ends.get())[0] == 1001


# The end.


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1000, "done"), (1001, "x"), (3000, "ü"), (4001, "r" * 123)])
async def test_the_clients_close_reaches_the_service(code: int, reason: str) -> None:
    async with passed_on() as (gateway, behind), client(gateway) as live:
        await live.send("last")
        await live.recv()
        await live.close(code, reason)
        assert await asyncio.wait_for(behind.ends.get(), 10) == (code, reason)
        assert (live.close_code, live.close_reason) == (code, reason)


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1003, "no"), (1013, "later"), (4999, "r" * 123)])
async def test_the_services_close_reaches_the_client(code: int, reason: str) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("last")
        await connection.close(code, reason)

    async with passed_on(handler) as (gateway, behind), client(gateway) as live:
        assert await live.recv() == "last"
        assert await closed(live) == (code, reason)
        assert await asyncio.wait_for(behind.ends.get(), 10) == (code, reason)


async def test_a_close_without_code_crosses_without_one() -> None:
    async with passed_on() as (gateway, behind), raw(gateway, None, path="/live/x") as live:
        live.send(b"\x88\x80abcd")
        assert await live.receive() == (CLOSE, b"")
        await live.ended()
        assert (await behind.ends.get())[0] == 1005


async def test_a_client_that_vanishes_is_not_said_to_have_closed() -> None:
    async with passed_on() as (gateway, behind), raw(gateway, None, path="/live/x") as live:
        live.abort()
        assert (await asyncio.wait_for(behind.ends.get(), 10))[0] == 1006


async def test_a_service_that_vanishes_is_1012_with_a_reason() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        connection.transport.abort()

    async with passed_on(handler) as (gateway, _), client(gateway) as live:
        await live.send("go")
        code, reason = await closed(live)
        assert code == 1012
        assert reason == "the connection to the service was lost"


async def test_a_large_frame_under_way_does_not_hold_up_an_expired_token() -> None:
    """A close frame can only follow a whole frame: what is passed on in pieces must always end with one."""
    async with passed_on(route={"auth": "required"}) as (gateway, behind):
        headers = [("Authorization", f"Bearer {token(ttl=2)}")]
        async with raw(gateway, None, path="/live/x", headers=headers) as live:
            live.send(b"\x82\xff" + (900_000).to_bytes(8, "big") + b"abcd" + bytes(200_000))  # and never the rest
            code, _, _ = await live.close_frame()
            assert code == 4401
        assert (await asyncio.wait_for(behind.ends.get(), 10))[0] == 1001


# Who may, and what is told.


async def test_tokens_roles_and_origins_are_those_of_the_route() -> None:
    route = {"auth": "required", "roles": ["admin"], "path": "/live/{room}/*", "rewrite": "/v2/{room}/{rest}"}
    async with passed_on(route=route) as (gateway, behind):
        assert (await refused(gateway, "/live/a/b")).status_code == 401
        assert (await refused(gateway, "/live/a/b", additional_headers=bearer())).status_code == 403
        bad = await refused(gateway, "/live/a/b", additional_headers={"Authorization": "Bearer x.y.z"})
        assert bad.headers["x-gateway-error"] == "invalid_token"
        assert bad.json()["code"] == "invalid_token"
        admin = bearer(roles=["admin"])
        assert (await refused(gateway, "/live/a/b", additional_headers=admin, origin="https://evil")).status_code == 403
        assert (await refused(gateway, "/other", additional_headers=admin)).status_code == 404
        assert not behind.seen
        forged = {**admin, "X-User-ID": "root", "x_user.roles": "root", "X-Forwarded-For": "1.2.3.4", "X-Mine": "1"}
        async with client(gateway, "/live/a/b?q=1&ticket=", additional_headers={**forged}) as live:
            await live.send("x")
            await live.recv()
        request = behind.seen[0].request
        assert request is not None
        assert request.path == "/v2/a/b?q=1"
        assert request.headers.get_all("X-User-ID") == ["alice"]
        assert request.headers.get_all("X-User-Roles") == ["admin"]
        assert request.headers["X-Forwarded-For"] == "127.0.0.1"
        assert request.headers["X-Mine"] == "1"
        assert "Authorization" not in request.headers
        assert not [name for name in request.headers if "." in name]
        assert "Sec-WebSocket-Extensions" not in request.headers


async def test_a_browsers_token_opens_a_socket_and_stays_here() -> None:
    async with passed_on(route={"auth": "required"}, served={"subprotocols": ["graphql", "chat"]}) as (gateway, behind):
        jwt = token()
        for offered, chosen in (
            (["tidegate.v1", f"bearer.{jwt}", "chat"], "chat"),
            ([f"bearer.{jwt}", "chat", "graphql"], "graphql"),
        ):
            async with client(gateway, subprotocols=offered) as live:
                assert live.subprotocol == chosen
                await live.send("x")
                await live.recv()
        for seen in behind.seen:
            assert jwt not in str(seen.request)


async def test_a_service_without_subprotocols_leaves_browsers_the_gateways() -> None:
    async with passed_on(route={"auth": "required"}) as (gateway, behind):
        async with client(gateway, subprotocols=["tidegate.v1", f"bearer.{token()}"]) as live:
            assert live.subprotocol == "tidegate.v1"
            await live.send("x")
            assert await live.recv() == "x"
        assert behind.seen[0].request is not None
        assert "Sec-WebSocket-Protocol" not in behind.seen[0].request.headers


async def test_a_ticket_opens_one_socket() -> None:
    async with passed_on(route={"auth": "required"}) as (gateway, behind):
        async with httpx.AsyncClient(base_url=gateway.http, headers=bearer()) as rest:
            ticket = (await rest.post("/api/v1/ws/tickets")).json()["ticket"]
        async with client(gateway, f"/live/x?a=1&ticket={ticket}") as live:
            await live.send("x")
            await live.recv()
        assert behind.seen[0].request is not None
        assert behind.seen[0].request.path == "/live/x?a=1"
        assert behind.seen[0].request.headers["X-User-ID"] == "alice"
        assert (await refused(gateway, f"/live/x?ticket={ticket}")).status_code == 401


async def test_a_token_that_ends_ends_the_socket_within_a_second() -> None:
    async with passed_on(route={"auth": "required"}) as (gateway, behind):
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with client(gateway, additional_headers=bearer(ttl=3)) as live:
            assert await closed(live) == (4401, "token expired")
            assert loop.time() - began < 4.5
        assert (await behind.ends.get())[0] == 1001


async def test_a_logout_ends_the_socket() -> None:
    async with passed_on(route={"auth": "required"}) as (gateway, behind):
        headers = bearer()
        async with client(gateway, additional_headers=headers) as live:
            async with httpx.AsyncClient(base_url=gateway.http, headers=headers) as rest:
                assert (await rest.post("/api/v1/auth/logout")).status_code < 300
            assert (await closed(live))[0] == 4501
        assert (await behind.ends.get())[0] == 1001


# Services that refuse, fail, or are not there.


async def test_a_refusal_is_the_clients_before_its_upgrade() -> None:
    async def refuse(connection: ServerConnection, request: Any) -> Any:
        response = connection.respond(418, "no tea\n")
        response.headers["X-Why"] = "pot"
        return response

    async with passed_on(served={"process_request": refuse}) as (gateway, _):
        answer = await refused(gateway)
        assert (answer.status_code, answer.text, answer.headers["x-why"]) == (418, "no tea\n", "pot")
        assert "x-gateway-error" not in answer.headers


async def test_a_service_that_is_not_there_is_502_before_the_upgrade() -> None:
    async with running(passing(f"http://127.0.0.1:{free_port()}")) as gateway:
        answer = await refused(gateway)
        assert answer.status_code == 502
        assert answer.json()["code"] == "upstream_unreachable"


async def test_a_service_that_does_not_answer_is_504() -> None:
    stuck = socket.create_server(("127.0.0.1", 0))
    with stuck:
        config = passing(f"http://127.0.0.1:{stuck.getsockname()[1]}", {"timeout": 0.5})
        async with running(config) as gateway:
            answer = await refused(gateway)
            assert answer.status_code == 504


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 S\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n",
        b"HTTP/1.1 101 S\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_an_answer_to_another_handshake_is_502(answer: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server, running(passing(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")) as gateway:
        got = await refused(gateway)
        assert got.status_code == 502
        assert got.json()["code"] == "upstream_invalid"


async def test_another_target_is_asked_when_one_is_not_there() -> None:
    async with service() as behind:
        config = passing(behind.url, upstreams={"chat": {"targets": [f"http://127.0.0.1:{free_port()}", behind.url]}})
        async with running(config) as gateway:
            for _ in range(4):
                async with client(gateway) as live:
                    await live.send("x")
                    assert await live.recv() == "x"


async def test_a_target_takes_no_more_than_its_sockets() -> None:
    async with service() as behind:
        config = passing(behind.url, upstreams={"chat": {"targets": [behind.url], "max_sockets": 2}})
        async with running(config) as gateway, client(gateway), client(gateway) as second:
            answer = await refused(gateway)
            assert (answer.status_code, answer.json()["code"]) == (503, "upstream_busy")
            await second.close()
            await behind.ends.get()
            async with client(gateway) as live:
                await live.send("x")
                assert await live.recv() == "x"


async def test_requests_and_sockets_share_a_path_where_the_route_says_so() -> None:
    async with passed_on() as (gateway, _), httpx.AsyncClient(base_url=gateway.http) as rest:
        assert (await rest.get("/live/x")).status_code == 426, "the service's own word"
        async with client(gateway) as live:
            await live.send("x")
            assert await live.recv() == "x"


# Time.


async def test_an_idle_socket_is_closed_and_one_in_use_is_not() -> None:
    async with passed_on(route={"socket_idle_timeout": 1.5}) as (gateway, _), client(gateway) as idle:
        async with client(gateway) as used:
            for _ in range(10):
                await used.send("x")
                assert await used.recv() == "x"
                await asyncio.sleep(0.3)
        assert await closed(idle) == (1001, "idle for too long")


async def test_a_socket_lives_as_long_as_it_may() -> None:
    async with passed_on(route={"socket_lifetime": 1.0}) as (gateway, _), client(gateway) as live:
        code, reason = await closed(live)
        assert code == 1012
        assert reason


async def test_a_client_that_answers_no_ping_is_dropped() -> None:
    realtime = {"ping_interval": 0.3, "pong_timeout": 0.7}
    async with passed_on(realtime=realtime) as (gateway, behind):
        async with raw(gateway, None, path="/live/x") as dead, client(gateway) as alive:
            assert await dead.receive() == (PING, b"")
            await dead.ended()
            await alive.send("x")
            assert await alive.recv() == "x"
        assert (await asyncio.wait_for(behind.ends.get(), 10))[0] == 1006


async def test_a_service_that_answers_no_ping_is_dropped() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await _switching(reader))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    config = passing(
        f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", realtime={"ping_interval": 0.3, "pong_timeout": 0.7}
    )
    async with server, running(config) as gateway, client(gateway) as live:
        assert (await closed(live))[0] == 1012


async def test_a_gateway_that_stops_closes_with_1012() -> None:
    async with service() as behind:
        async with contextlib.AsyncExitStack() as stack:
            gateway = await stack.enter_async_context(running(passing(behind.url)))
            sockets = [await client(gateway) for _ in range(5)]
            async with httpx.AsyncClient(base_url=gateway.http) as rest:
                assert (await rest.get("/health/detailed")).status_code == 200
            await stack.aclose()
        for live in sockets:
            assert await closed(live) == (1012, "service restart")
            assert (await behind.ends.get())[0] == 1001


async def test_they_count_among_all_sockets_of_a_user_until_they_end() -> None:
    limits = {"limits": {"sockets_per_user": 2}}
    async with passed_on(route={"auth": "required"}, realtime=limits) as (gateway, behind):
        alice = {"additional_headers": bearer("alice")}
        async with client(gateway, "/api/v1/ws", **alice), client(gateway, **alice) as live:
            for path in ("/live/x", "/api/v1/ws"):
                assert (await refused(gateway, path, **alice)).status_code == 429
            assert len(behind.seen) == 1, "nobody asked the service for a socket that may not be"
            async with client(gateway, additional_headers=bearer("bob")) as other:
                await other.send("x")
                assert await other.recv() == "x"
            await live.close()
            await behind.ends.get()
            async with asyncio.timeout(15), httpx.AsyncClient(base_url=gateway.http) as rest:
                while (await rest.get("/health/detailed")).json()["sockets_passed_on"]:
                    await asyncio.sleep(0.01)
            async with client(gateway, **alice) as again:
                await again.send("y")
                assert await again.recv() == "y"


async def test_a_socket_that_the_service_does_not_take_counts_no_more() -> None:
    def no(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(403, "no")

    limits = {"limits": {"sockets_per_ip": 1}}
    async with passed_on(served={"process_request": no}, realtime=limits) as (gateway, behind):
        for _ in range(3):
            assert (await refused(gateway)).status_code == 403
        async with client(gateway, "/api/v1/ws", additional_headers=bearer()) as own:
            await own.recv()
            assert (await refused(gateway)).status_code == 429
        assert not behind.seen


async def _switching(reader: asyncio.StreamReader, more: bytes = b"") -> bytes:
    """Read a handshake, and return its answer as a service writes it by hand."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    key = next(line[19:] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key: "))
    answer = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
    )
    return answer.encode() + more
