"""Answers from another OpenAI-compatible server, passed through byte for byte.

The request's body goes out as it came in, unless a default model or a session's earlier messages have to be put into
it. The client's disconnect closes the connection to the server, which ends the generation there. The key is sent in one
header and appears nowhere else; what the server says about the key is not passed on either, as servers quote it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx
import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.chat.errors import ApiError, InvalidRequest, Overloaded, UpstreamFailure, UpstreamTimeout
from services.chat.meter import Meter
from services.chat.protocol import ChatMessage, ChatRequest, parse_json, parse_request, sse
from services.chat.sessions import SessionStore
from services.chat.settings import ChatSettings
from services.web.streaming import EventStream, until_disconnect

__all__ = ["ForwardBackend"]

_PASSED_HEADERS = ("content-type", "retry-after", "x-request-id")
_ANSWER_LIMIT = 16 * 1024 * 1024
"""Bytes of an answer that is not streamed."""


class ForwardBackend:
    """Forwards to ``settings.base_url``. Tokens are counted where they are made: not here."""

    mode = "forward"

    def __init__(self, settings: ChatSettings, sessions: SessionStore) -> None:
        assert settings.api_key is not None, "the settings pair it with the address"
        self.model = settings.model
        self.meter = Meter()
        self._settings = settings
        self._sessions = sessions
        self._client = httpx.AsyncClient(
            headers={
                "authorization": f"Bearer {settings.api_key.get_secret_value()}",
                "content-type": "application/json",
                # Compressed, a stream would reach us in lumps.
                "accept-encoding": "identity",
            },
            timeout=httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout),
            limits=httpx.Limits(max_connections=settings.max_running),
        )

    async def models(self, request: Request) -> Response:
        """The server's list of models."""
        return await self._forward(request, "GET", "/models", b"", _Exchange())

    async def complete(self, request: Request, body: bytes, user: str) -> Response:
        """Forward a completion request. Raises ``ApiError``."""
        if self.meter.running >= self._settings.max_running:
            raise Overloaded("Too many generations are running. Try again in a moment.")
        value = parse_json(body)
        changed = False
        if value.get("model") is None and self.model is not None:
            value["model"], changed = self.model, True
        exchange = _Exchange()
        if "session_id" in value:
            chat = parse_request(value, self._settings.max_messages)
            del value["session_id"]
            changed = True
            if chat.session_id is not None:
                history = self._sessions.history(user, chat.session_id)
                value["messages"] = [*(message.model_dump() for message in history), *value["messages"]]
                exchange = _SessionExchange(self._sessions, user, chat, self._settings.session_bytes)
        content = orjson.dumps(value) if changed else body
        with self.meter.one_more():
            return await self._forward(request, "POST", "/chat/completions", content, exchange)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _forward(self, request: Request, method: str, path: str, body: bytes, exchange: _Exchange) -> Response:
        response = await until_disconnect(request.receive, self._send(method, path, body))
        if response is None:
            return Response(status_code=499)
        streams = response.headers.get("content-type", "").startswith("text/event-stream")
        if response.is_success and streams:
            events = self._events(response, exchange)
            return EventStream(events, _headers(response), release=response.aclose)
        try:
            content = await until_disconnect(request.receive, _read(response))
        finally:
            await response.aclose()
        if content is None:
            return Response(status_code=499)
        if not response.is_success:
            return _failure(response, content)
        exchange.end(_message_of(content))
        return Response(content, response.status_code, _headers(response))

    async def _send(self, method: str, path: str, body: bytes) -> httpx.Response:
        try:
            request = self._client.build_request(method, f"{self._settings.base_url}{path}", content=body)
            return await self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise _translated(error) from None

    async def _events(self, response: httpx.Response, exchange: _Exchange) -> AsyncGenerator[bytes]:
        try:
            with self.meter.one_more():
                async for data in response.aiter_bytes():
                    exchange.feed(data)
                    yield data
        except httpx.HTTPError as error:
            # The status is long sent. An error event is what OpenAI's clients understand; it needs an event's boundary.
            yield b"\n\n" + sse(_translated(error).body())
        finally:
            exchange.end(None)


class _Exchange:
    """Watches the answer that passes through. This one has nothing to remember."""

    def feed(self, data: bytes) -> None:
        """A piece of a streamed answer."""

    def end(self, text: str | None) -> None:
        """The answer is over; ``text`` is the whole of one that was not streamed."""


class _SessionExchange(_Exchange):
    """Collects the answer's text, at most ``limit`` characters of it, and stores the exchange in its session."""

    def __init__(self, sessions: SessionStore, user: str, chat: ChatRequest, limit: int) -> None:
        self._sessions = sessions
        self._user = user
        self._chat = chat
        self._left = limit
        self._line = b""
        self._said: list[str] = []

    def feed(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            text = _delta_of(line.removeprefix(b"data:")) if line.startswith(b"data:") else ""
            self._said.append(text[: self._left])
            self._left -= len(self._said[-1])
        # A line longer than an answer may be is no event that we could read.
        self._line = self._line if len(self._line) <= _ANSWER_LIMIT else b""

    def end(self, text: str | None) -> None:
        answer = "".join(self._said) if text is None else text
        if answer and self._chat.session_id is not None:
            messages: Sequence[ChatMessage] = [*self._chat.messages, ChatMessage(role="assistant", content=answer)]
            self._sessions.append(self._user, self._chat.session_id, messages, time.time())


async def _read(response: httpx.Response) -> bytes:
    """The whole body; ``UpstreamFailure`` when it is larger than the limit or breaks off."""
    content = bytearray()
    try:
        async for data in response.aiter_bytes():
            content += data
            if len(content) > _ANSWER_LIMIT:
                raise UpstreamFailure("The model server's answer is too large.")
    except httpx.HTTPError as error:
        raise _translated(error) from None
    return bytes(content)


def _failure(response: httpx.Response, content: bytes) -> Response:
    """The server's refusal in OpenAI's shape. One of our key is our fault, not the caller's."""
    status = response.status_code
    if status in (401, 403):
        raise UpstreamFailure("The model server refused this service's key. Tell its operator.")
    value = _json(content)
    if isinstance(value.get("error"), dict):
        return JSONResponse(value, status, _headers(response))
    if 400 <= status < 500:
        error: ApiError = InvalidRequest(f"The model server refused the request with status {status}.")
        return JSONResponse(error.body(), status)
    raise UpstreamFailure(f"The model server answered with status {status}.")


def _translated(error: httpx.HTTPError) -> ApiError:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return UpstreamFailure("The model server cannot be reached.")
    if isinstance(error, httpx.TimeoutException):
        return UpstreamTimeout("The model server took too long.")
    return UpstreamFailure("The model server broke off its answer.")


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name: response.headers[name] for name in _PASSED_HEADERS if name in response.headers}


def _json(content: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _delta_of(data: bytes) -> str:
    return _text_at(_json(data), "delta")


def _message_of(content: bytes) -> str:
    return _text_at(_json(content), "message")


def _text_at(value: dict[str, Any], key: str) -> str:
    """``choices[0].<key>.content`` where there is such a string."""
    match value:
        case {"choices": [{**choice}, *_]}:
            part = choice.get(key)
            text = part.get("content") if isinstance(part, dict) else None
            return text if isinstance(text, str) else ""
        case _:
            return ""
