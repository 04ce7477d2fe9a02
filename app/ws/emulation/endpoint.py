"""``/connection/sse``, ``/connection/http_stream`` and ``/emulation``: ASGI applications of type ``http``."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import structlog

from app.auth.origins import Origins
from app.config import RealtimeConfig
from app.errors import (
    BadRequest,
    MessageTooBig,
    MethodNotAllowed,
    Overloaded,
    PermissionDenied,
    TidegateError,
    UnsupportedData,
)
from app.observe.request_context import context_of
from app.ws.admission import Held
from app.ws.book import Book
from app.ws.centrifuge.endpoint import Opener
from app.ws.emulation.connection import EXTENSION, HttpConnection
from app.ws.emulation.framing import Transport
from app.ws.emulation.posts import Posts
from app.ws.emulation.requests import (
    Headers,
    check_commands,
    check_origin,
    connect_commands,
    is_binary,
    read_binary_post,
    read_post,
)
from app.ws.emulation.stream import Stream
from app.ws.endpoint import Receive, Send
from app.ws.gate import Gate
from app.ws.session import Session

__all__ = ["POST_METHODS", "Door", "PostTaker", "Problem", "Request", "StreamOpener"]

_log = structlog.get_logger(__name__)

_SESSION_SIZE = 24
"""Random bytes of a session's id: who knows it may speak for its client."""
_ESCAPES = 2
"""How many times as long as its commands a post may be: they are JSON within JSON."""
_NAMES = 1024
"""Bytes of a post beside its commands."""
POST_METHODS = ("POST",)
_STREAMED = ((b"x-accel-buffering", b"no"), (b"connection", b"close"))
_NO_STORE = (b"cache-control", b"private, no-cache, no-store, must-revalidate, max-age=0")


class Problem(Protocol):
    """Writes an error as an HTTP answer: status, headers, body. ``allow`` are the methods of a 405."""

    def __call__(self, error: TidegateError, *, allow: tuple[str, ...] = ()) -> tuple[int, Headers, bytes]: ...


class Request:
    """One request, and its answer."""

    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.send = send
        self._receive = receive

    async def start(self, status: int, headers: Headers) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def end(self, body: bytes = b"") -> None:
        await self.send({"type": "http.response.body", "body": body})

    async def body(self, limit: int, seconds: float) -> bytes | None:
        """Return the body; None when the client has gone. Raises ``MessageTooBig``, and ``BadRequest`` when late."""
        declared = self.headers.get(b"content-length", b"0")
        error = MessageTooBig(f"The body is larger than {limit} bytes.")
        if declared.isdigit() and int(declared) > limit:
            raise error
        body, more = b"", True
        try:
            async with asyncio.timeout(seconds):
                while more:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > limit:
                        raise error
        except TimeoutError:
            raise BadRequest("The body did not come in time.") from None
        return body


class Door:
    """What the endpoints have in common: who may ask and how, and errors as problems."""

    def __init__(
        self,
        handle: Callable[[Request], Awaitable[None]],
        methods: tuple[str, ...],
        origins: Origins,
        problem: Problem,
    ) -> None:
        self._handle = handle
        self._methods = methods
        self.origins = origins
        """From which pages browsers may come. May be replaced at any time."""
        self._problem = problem

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            check_origin(scope["headers"], self.origins)
            if scope["method"] not in self._methods:
                raise MethodNotAllowed
            await self._handle(request)
        except TidegateError as error:
            if isinstance(error, PermissionDenied):
                _log.warning("a request of a foreign origin was refused", path=scope["path"])
            status, headers, body = self._problem(error, allow=self._methods)
            await request.start(status, [*headers, (b"connection", b"close")])
            await request.end(body)


class StreamOpener:
    """Handles the request whose answer is a session."""

    def __init__(self, transport: Transport, opener: Opener, posts: Posts, node: str, gate: Gate, book: Book) -> None:
        self._transport = transport
        self._opener = opener
        self._config = opener.services.config
        self._posts = posts
        self._node = node
        self._gate = gate
        self._book = book

    async def __call__(self, request: Request) -> None:
        client, headers = request.scope["client"], request.scope["headers"]
        peer = client[0] if client else None
        if wait := self._gate.refuse(peer, headers):
            raise Overloaded(retry_after=wait)
        transport = self._asked_for(request)
        commands = await self._commands(request)
        if commands is None:
            return
        check_commands(commands, self._config.emulation.max_commands, binary=transport.codec.binary)
        connection: HttpConnection = request.scope["extensions"][EXTENSION]
        if connection.pipelined:
            raise BadRequest("No other request may follow on this connection.")
        admission = self._opener.services.admission
        held = await admission.admit(address=context_of(request.scope).client)
        try:
            await request.start(200, [(b"content-type", transport.content_type), _NO_STORE, *_STREAMED])
            await request.send({"type": "http.response.body", "body": b"", "more_body": True})  # The head goes now.
        except BaseException:  # The client is gone.
            admission.release(held)
            raise
        if connection.gone:
            admission.release(held)
        else:
            await self._serve(transport, connection, commands, held, request.scope)
        await request.end()

    def _asked_for(self, request: Request) -> Transport:
        """Return the flavour that the client speaks. Raises :exc:`~app.errors.UnsupportedData`."""
        if request.scope["method"] == "GET" or not is_binary(request.headers):
            return self._transport
        if self._transport.binary is None:
            raise UnsupportedData("Only text goes this way: send JSON, or ask for an http_stream.")
        return self._transport.binary

    async def _commands(self, request: Request) -> bytes | None:
        if request.scope["method"] == "GET":
            return connect_commands(request.scope["query_string"])
        return await request.body(self._config.max_message, self._config.auth_timeout)

    async def _serve(
        self,
        transport: Transport,
        connection: HttpConnection,
        commands: bytes,
        held: Held,
        scope: Mapping[str, Any],
    ) -> None:
        """Run a session until its end."""
        services = self._opener.services
        stream = Stream(connection, transport.codec, self._config.emulation.max_waiting)
        session_id = secrets.token_urlsafe(_SESSION_SIZE)

        def ended(session: Session) -> None:
            services.sessions.discard(session)
            self._book.closed(session)
            services.admission.release(session.held)
            session.held = ()
            stream.end()

        told = {"session": session_id, "node": self._node}
        session = self._opener.open(stream, transport.codec, None, None, ended, told)
        session.held = held
        self._book.opened(session, scope)
        self._posts.enter(session_id, stream)
        session.let_in()
        try:
            stream.begin(session, transport.prologue, commands)
            await stream.over.wait()
        finally:
            session.lost()
            self._posts.leave(session_id, stream)


class PostTaker:
    """Handles the requests that bring more commands."""

    def __init__(self, config: RealtimeConfig, posts: Posts) -> None:
        self._config = config
        self._posts = posts

    async def __call__(self, request: Request) -> None:
        limit = self._config.max_message
        body = await request.body(_ESCAPES * limit + _NAMES, self._config.auth_timeout)
        if body is None:
            return
        post = read_binary_post(body) if is_binary(request.headers) else read_post(body)
        if len(post.commands) > limit:
            raise MessageTooBig(f"The commands are larger than {limit} bytes.")
        check_commands(post.commands, self._config.emulation.max_commands, binary=post.binary)
        await self._posts.post(post)
        await request.start(204, [_NO_STORE])
        await request.end()
