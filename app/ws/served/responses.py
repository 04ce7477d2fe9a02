"""``/v1/responses`` as a WebSocket: OpenAI's Responses in lanes, over any upstream, and to be gone on with after a cut.

Requests of one lane (``stream_id``) are served in order, lanes beside each other. OpenAI's own socket loses what is
under way when it breaks; here ``response.resume`` goes on with any response after any of its events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import orjson

from app.errors import BadRequest, NotFound, TidegateError, TooManyRequests
from app.generations.formats.served.wire import openai_error, unforgotten
from app.generations.requests import Info
from app.generations.responses import Asked, Responses, generation_of
from app.generations.served import Served
from app.generations.service import Generations
from app.observe.tasks import TaskSet
from app.streams.hub import Hub
from app.streams.merge import NeverMerge
from app.ws.served.reader import Reader
from app.ws.served.socket import ServedSocket

__all__ = ["ResponseSockets"]

_RULE = NeverMerge()
_LONGEST_LANE = 256
_NOT_OVER_SOCKETS = {"background": (None, False), "generate": (None, True)}
"""What these may be."""
_LIFETIME_OVER = "This connection has reached its time. Connect again."

Work = Callable[[], Coroutine[Any, Any, None]]


class ResponseSockets:
    """Serves each socket."""

    def __init__(
        self, generations: Generations, responses: Responses, hub: Hub, served: Served, tasks: TaskSet
    ) -> None:
        self.generations = generations
        self.responses = responses
        self.hub = hub
        self.served = served
        self.tasks = tasks

    async def serve(self, socket: ServedSocket) -> None:
        """Serve one connection until it ends."""
        lanes = _Lanes(self, socket)
        try:
            async with asyncio.timeout(self.served.config.openai.connection_lifetime):
                while (message := await socket.receive()) is not None:
                    await lanes.take(message)
        except TimeoutError:
            await lanes.refuse(TooManyRequests(_LIFETIME_OVER), None, "websocket_connection_limit_reached")
            socket.close(1000, _LIFETIME_OVER)
        finally:
            lanes.close()


class _Lanes:
    """The requests of one socket, by lane; None is that of requests which name none."""

    def __init__(self, sockets: ResponseSockets, socket: ServedSocket) -> None:
        self._sockets = sockets
        self._socket = socket
        self._waiting: dict[str | None, deque[Work]] = {}
        self._tasks: dict[str | None, asyncio.Task[None]] = {}
        self._named: set[str] = set()
        self._in_flight = 0
        socket.busy = lambda: bool(self._in_flight)

    async def take(self, message: bytes) -> None:
        """Take one message."""
        lane: str | None = None
        try:
            event = _event(message)
            lane = _lane(event)
            await self._act(event, lane)
        except TidegateError as error:
            await self.refuse(error, lane)

    async def refuse(self, error: TidegateError, lane: str | None, code: str | None = None) -> None:
        """Tell what is wrong with a request, or with the socket."""
        body: dict[str, Any] = {"type": "error", "status": error.status, "error": openai_error(error, code=code)}
        if lane is not None:
            body["stream_id"] = lane
        await self._socket.send(orjson.dumps(body))

    def close(self) -> None:
        """End what is under way; what becomes of the generations is their policy's matter."""
        self._waiting.clear()
        for task in self._tasks.values():
            task.cancel()

    async def _act(self, event: dict[str, Any], lane: str | None) -> None:
        match event.get("type"):
            case "response.create":
                await self._queue(lane, lambda: self._create(event, lane))
            case "response.resume":
                response, after = event.get("response_id"), event.get("starting_after", -1)
                if not isinstance(response, str):
                    raise NotFound("There is no such response.")
                if type(after) is not int or after < -1:
                    raise BadRequest("starting_after must be a sequence_number.")
                await self._queue(lane, lambda: self._resume(response, after, lane))
            case "response.cancel":
                generation_id = generation_of(event.get("response_id"))
                await self._sockets.generations.cancel(self._socket.identity, generation_id)
            case _:
                raise BadRequest("type must be response.create, response.resume or response.cancel.")

    async def _queue(self, lane: str | None, work: Work) -> None:
        config = self._sockets.served.config.openai
        if self._in_flight >= config.max_in_flight:
            error = TooManyRequests(f"A connection may have {config.max_in_flight} responses at work and waiting.")
            await self.refuse(error, lane, "websocket_response_limit_reached")
            return
        if lane is not None and lane not in self._named and len(self._named) >= config.max_lanes:
            error = TooManyRequests(f"A connection may have {config.max_lanes} lanes.")
            await self.refuse(error, lane, "websocket_stream_limit_reached")
            return
        if lane is not None:
            self._named.add(lane)
        self._in_flight += 1
        self._waiting.setdefault(lane, deque()).append(work)
        if lane not in self._tasks:
            self._tasks[lane] = self._sockets.tasks.start(self._run(lane), "a lane of responses")

    async def _run(self, lane: str | None) -> None:
        """Serve a lane until nothing waits in it."""
        try:
            while waiting := self._waiting.get(lane):
                work = waiting.popleft()
                try:
                    await work()
                except TidegateError as error:
                    await self.refuse(error, lane)
                finally:
                    self._in_flight -= 1
        finally:
            self._tasks.pop(lane, None)
            self._waiting.pop(lane, None)
            self._socket.leave_if_idle()

    async def _create(self, event: Mapping[str, Any], lane: str | None) -> None:
        for name, allowed in _NOT_OVER_SOCKETS.items():
            if event.get(name) not in allowed:
                raise BadRequest(f"{name} is not served over a WebSocket here.")
        policy = self._sockets.served.config.openai.socket_on_last_disconnect
        body = {name: value for name, value in event.items() if name not in {"type", "stream_id"}}
        generation_id, asked, _ = await self._sockets.responses.start(self._socket.caller, body, policy=policy)
        await self._stream(generation_id, asked, -1, lane)

    async def _resume(self, response: str, after: int, lane: str | None) -> None:
        generation_id, asked = await self._sockets.responses.find(self._socket.identity, response)
        await self._stream(generation_id, asked, after, lane)

    async def _stream(self, generation_id: str, asked: Asked, after: int, lane: str | None) -> None:
        """Send a response's events from after the number ``after`` to its end."""
        generations, identity = self._sockets.generations, self._socket.identity
        suffix = b"}" if lane is None else b',"stream_id":' + orjson.dumps(lane) + b"}"
        record = await generations.record(identity, generation_id)
        stream = asked.stream(generation_id, Info.decode(record.info).created)
        reader = Reader(_RULE, self._sockets.served.room(asked.model))
        subscription = await generations.watch(identity, generation_id, reader, None, reader.recovered, _RULE)
        said = after >= 0
        try:
            while not stream.over and (items := await reader.next()):
                told = unforgotten(items, said=said)
                said = True
                for event in [event for item in told for event in stream.read(item)]:
                    if event.number > after and not await self._socket.send(event.body[:-1] + suffix):
                        return
        finally:
            self._sockets.hub.drop(subscription)
        if not stream.over:
            raise TooManyRequests("This reader was too slow. Go on with response.resume.")


def _event(message: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise BadRequest("The message must be JSON.") from None
    if not isinstance(event, dict):
        raise BadRequest("The message must be a JSON object.")
    return event


def _lane(event: Mapping[str, Any]) -> str | None:
    lane = event.get("stream_id")
    if not (lane is None or (isinstance(lane, str) and 0 < len(lane) <= _LONGEST_LANE)):
        raise BadRequest(f"stream_id must be a text of 1 to {_LONGEST_LANE} characters.")
    return lane
