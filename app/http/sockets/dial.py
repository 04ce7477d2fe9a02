"""A WebSocket from the gateway itself to an upstream: over the pooled client, so that balancing, breakers, TLS and the
upstream's own headers apply; the frames are the websockets package's (RFC 6455).
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from secrets import token_bytes
from typing import Any

from websockets.frames import Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from app.errors import UpstreamError, UpstreamInvalid, UpstreamTimeout
from app.http.sockets.handshake import Offer, asked_headers, check_answer
from app.http.tunnel import Tunnel
from app.http.upstream_response import UpstreamResponse
from app.http.upstreams.kafka.answer import KafkaAnswer

__all__ = ["UpstreamSocket", "dial"]

_WAITING = 64
"""Messages that wait to be read before no more is read from the connection."""
_NO_CLOSE_FRAME = 1006
_OFFER = Offer(None, (), None, b"")


async def dial(
    request: Callable[..., Coroutine[Any, Any, UpstreamResponse | KafkaAnswer]],
    upstream: str,
    path: str,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    max_size: int,
    idle_timeout: float,
    timeout: float,  # noqa: ASYNC109
) -> UpstreamSocket:
    """As :meth:`app.generations.sources.port.Transport.connect`; ``request`` is the client's."""
    key = base64.b64encode(token_bytes(16))
    asked = asked_headers(list(headers), _OFFER, key)
    response = await request(upstream, "GET", path, asked, b"", timeout=timeout, upgrade=True)
    tunnel = response.tunnel
    if tunnel is None:
        response.abort()
        status = response.status
        raise UpstreamError(f"The service behind the gateway refused a WebSocket ({status}).", retryable=status >= 500)
    try:
        check_answer(response.headers, _OFFER, key)
    except UpstreamInvalid:
        tunnel.close()
        raise
    return UpstreamSocket(tunnel, max_size, idle_timeout)


class UpstreamSocket:
    """:class:`~app.generations.sources.port.Socket`. One reader at a time."""

    def __init__(self, tunnel: Tunnel, max_size: int, idle_timeout: float) -> None:
        self._tunnel = tunnel
        self._protocol = Protocol(CLIENT, max_size=max_size)
        self._idle = idle_timeout
        self._messages: deque[str | bytes] = deque()
        self._parts: list[bytes] = []
        self._is_text = False
        self._over = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        tunnel.carry(_Ears(self))

    @property
    def close_code(self) -> int | None:
        code = self._protocol.close_code
        return None if code in {None, _NO_CLOSE_FRAME} else code

    def send(self, text: str) -> None:
        if self._protocol.state is OPEN:
            self._protocol.send_text(text.encode())
            self._flush()

    async def receive(self) -> str | bytes | None:
        asked = False
        while not self._messages:
            if self._error is not None:
                raise self._error
            if self._over:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self._idle / 2):
                    await self._waiter
                asked = False
            except TimeoutError:
                if asked:
                    self._tunnel.close()
                    raise UpstreamTimeout from None
                asked = True
                self._ping()
            finally:
                self._waiter = None
        message = self._messages.popleft()
        if len(self._messages) < _WAITING and not self._tunnel.transport.is_closing():
            self._tunnel.transport.resume_reading()
        return message

    def close(self, code: int = 1000) -> None:
        if self._protocol.state is OPEN:
            self._protocol.send_close(code)
            self._flush()
        self._over = True
        self._tunnel.close()

    # The connection's side.

    def heard(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for frame in self._protocol.events_received():
            self._take(frame)
        if self._protocol.parser_exc is not None and self._error is None:
            self._error = UpstreamInvalid("The service behind the gateway sent what is no WebSocket's, or too large.")
        self._flush()
        if len(self._messages) >= _WAITING and not self._tunnel.transport.is_closing():
            self._tunnel.transport.pause_reading()
        self._wake()

    def gone(self) -> None:
        self._over = True
        self._wake()

    # Private.

    def _take(self, frame: Any) -> None:
        if frame.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            if frame.opcode is not Opcode.CONT:
                self._is_text = frame.opcode is Opcode.TEXT
            self._parts.append(bytes(frame.data))
            if frame.fin:
                whole, self._parts = b"".join(self._parts), []
                self._messages.append(whole.decode("utf-8", "replace") if self._is_text else whole)
        elif frame.opcode is Opcode.CLOSE:
            self._over = True

    def _ping(self) -> None:
        if self._protocol.state is OPEN:
            self._protocol.send_ping(b"tidegate")
            self._flush()

    def _flush(self) -> None:
        transport = self._tunnel.transport
        for data in self._protocol.data_to_send():
            if transport.is_closing():
                return
            if data:
                transport.write(data)
            else:
                self._over = True
                self._tunnel.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Ears:
    """:class:`~app.http.tunnel.Passenger`."""

    def __init__(self, socket: UpstreamSocket) -> None:
        self._socket = socket

    def receive(self, data: bytes) -> None:
        self._socket.heard(data)

    def pause_writing(self) -> None:
        """Little is ever sent: one message, pings and pongs."""

    def resume_writing(self) -> None:
        """As :meth:`pause_writing`."""

    def gone(self) -> None:
        self._socket.gone()
