"""ComfyUI: a prompt is posted, its progress comes over the socket of the client that posted it, its results stand in
the history. A socket that breaks is opened anew under the same client's id; what was missed then, the history tells.

A prompt that a client posted under an id of its own is told on that client's socket, which ComfyUI closes when another
comes with the same id. So that is left alone, and the queue and the history are asked instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import random
from typing import Any
from urllib.parse import quote

import orjson

from app.errors import UpstreamError, UpstreamInvalid
from app.generations.events import Artifact, Event, Queued
from app.generations.formats.comfyui import comfyui
from app.generations.formats.decoders import FrameDecoder
from app.generations.formats.refusals import error_from_response
from app.generations.sources.job import Beginning, Job, read_named
from app.generations.sources.pacing import Pacing
from app.generations.sources.poll import read_document
from app.generations.sources.port import Outlet, Post, Socket, Transport
from app.generations.sources.stream import read_start, tell_skipped

__all__ = ["ComfySource"]

_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds before the socket is opened anew; each pause is twice the last."""
_UNKNOWN = -1
"""The place of a prompt that is in no queue."""
_MOST_MISSING = 5
"""Looks in a row that find a prompt nowhere."""
_JSON = ((b"content-type", b"application/json"),)
_ANSWER = 1024 * 1024


class ComfySource:
    """:class:`~app.generations.sources.port.Source`. It has a ``beginning``, or the ``prompt_id`` of one that runs.

    ``client`` is the client's id, if it is the gateway's to use.
    """

    def __init__(
        self,
        job: Job,
        place: str,
        client: str | None,
        *,
        beginning: Beginning | None = None,
        prompt_id: str | None = None,
    ) -> None:
        self._job = job
        self._place = place
        self._client = client
        self._beginning = beginning
        self._prompt_id = prompt_id
        self._decoder: FrameDecoder | None = None
        told = () if job.told is None else job.told.artifacts
        self._told = [str(artifact.get("url")) for artifact in told]
        """Addresses of results: the history names all of them again."""
        self._position: int | None = None
        """Its last place in the queue; 0 when it is worked at."""
        self._missing = 0

    @property
    def upstream(self) -> str:
        return self._job.upstream

    async def run(self, transport: Transport, outlet: Outlet) -> None:
        if self._client is None:
            await self._ask(transport, outlet)
        else:
            await self._hear(transport, outlet)
        if self._decoder is not None:
            tell_skipped(self._decoder.answer, self._job.upstream)

    async def _hear(self, transport: Transport, outlet: Outlet) -> None:
        """Follow it on the client's socket."""
        clock, idle = asyncio.get_running_loop().time, self._job.patience.idle
        heard, pause = clock(), _PAUSE
        while not outlet.ended:
            try:
                socket = await self._connect(transport)
                heard, pause = clock(), _PAUSE
                try:
                    if self._prompt_id is None:
                        await self._begin(transport, outlet)
                    else:
                        await self._look_up(transport, outlet)
                    await self._listen(transport, socket, outlet)
                finally:
                    socket.close()
            except UpstreamError as error:
                if self._prompt_id is None or not error.retryable or clock() - heard >= idle:
                    raise
            await asyncio.sleep(0 if outlet.ended else pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _ask(self, transport: Transport, outlet: Outlet) -> None:
        """Follow it by the queue and the history."""
        clock, job = asyncio.get_running_loop().time, self._job
        pacing, good = Pacing(job.config.interval, job.config.interval_max, random), clock()
        while not outlet.ended:
            try:
                moved = await self._look_up(transport, outlet)
                good = clock()
            except UpstreamError as error:
                moved = False
                if not error.retryable or clock() - good >= job.patience.idle:
                    raise
            if self._missing >= _MOST_MISSING:
                raise UpstreamError("The service behind the gateway does not know this prompt any more.")
            await asyncio.sleep(0 if outlet.ended else pacing.next(moved=moved))

    async def stop(self, transport: Transport) -> None:
        if self._prompt_id is None:
            return
        for path, body in (
            ("/queue", {"delete": [self._prompt_id]}),
            ("/interrupt", {"prompt_id": self._prompt_id}),
        ):
            headers = (*_JSON, *self._job.headers)
            response = await transport.request(self._job.upstream, "POST", path, headers, orjson.dumps(body))
            response.abort()

    def take(self, post: Post) -> bool:
        return False

    async def _connect(self, transport: Transport) -> Socket:
        job = self._job
        path = f"{job.config.path or '/ws'}?clientId={quote(self._client or '', safe='')}"
        within = min(job.patience.idle, job.patience.first_event)
        return await transport.connect(
            job.upstream,
            path,
            job.headers,
            max_size=job.config.max_body,
            idle_timeout=job.patience.idle,
            timeout=within,
        )

    async def _begin(self, transport: Transport, outlet: Outlet) -> None:
        beginning, job = self._beginning, self._job
        assert beginning is not None, "a prompt that does not run has a beginning"
        value = orjson.loads(beginning.body)
        nodes = value.get("prompt")
        body = orjson.dumps({**value, "client_id": self._client})
        response = await transport.request(
            job.upstream, "POST", beginning.path, beginning.headers, body, timeout=job.patience.first_event
        )
        try:
            answer = await read_start(response, _ANSWER)
            if not 200 <= response.status < 300:
                raise error_from_response(response.status, answer)
        finally:
            response.abort()
        named = read_named(answer, job.config)
        if named is None:
            raise UpstreamInvalid("The service behind the gateway did not say which prompt it began.")
        self._prompt_id = named.id
        self._decoder = comfyui(self._prompt_id, len(nodes) if isinstance(nodes, dict) else None)
        await outlet.note({"by": self._place, "id": self._prompt_id, "client": self._client})

    async def _listen(self, transport: Transport, socket: Socket, outlet: Outlet) -> None:
        """Tell what comes until the end, or until the socket is closed."""
        assert self._decoder is not None, "the prompt is known"
        decoder = self._decoder
        while not outlet.ended and (message := await socket.receive()) is not None:
            events = decoder.text(message) if isinstance(message, str) else decoder.binary(message)
            self._tell(events, outlet)

    async def _look_up(self, transport: Transport, outlet: Outlet) -> bool:
        """Tell what the history knows: nothing, until the prompt has ended; before that its place in the queue.

        False where nothing is new.
        """
        prompt_id = self._prompt_id
        assert prompt_id is not None, "the caller looked"
        if self._decoder is None:
            self._decoder = comfyui(prompt_id)
        entry = await self._entry(transport)
        if entry is None:
            place = await self._place_in_queue(transport)
            if place != _UNKNOWN or (entry := await self._entry(transport)) is None:
                return self._tell_place(place, outlet)
        for kind, data in _frames(entry):
            self._tell(self._decoder.text(_frame(prompt_id, kind, data)), outlet)
        return True

    def _tell_place(self, place: int | None, outlet: Outlet) -> bool:
        if place == _UNKNOWN:
            self._missing += 1
            return False
        self._missing = 0
        assert self._decoder is not None, "the caller looked"
        if place is None or place == self._position:
            return False
        self._position = place
        if place == 0:
            self._tell(self._decoder.text(_frame(str(self._prompt_id), "execution_start", {})), outlet)
        else:
            self._tell([Queued(place - 1)], outlet)
        return True

    async def _entry(self, transport: Transport) -> Mapping[str, Any] | None:
        """Return what the history has of the prompt."""
        status, document = await self._get(transport, f"/history/{quote(str(self._prompt_id), safe='')}")
        if status != 200:
            raise error_from_response(status, document)
        try:
            entry = orjson.loads(document).get(self._prompt_id)
        except (orjson.JSONDecodeError, AttributeError):
            raise UpstreamInvalid("The service behind the gateway has a history that cannot be read.") from None
        return entry if isinstance(entry, Mapping) else None

    async def _place_in_queue(self, transport: Transport) -> int | None:
        """Return 0 where it is worked at, else its place from 1 on; None where the queue cannot be read."""
        status, document = await self._get(transport, "/queue")
        try:
            queue: Any = orjson.loads(document) if status == 200 else {}
            running, pending = (_ids(queue[name]) for name in ("queue_running", "queue_pending"))
        except (orjson.JSONDecodeError, TypeError, ValueError, KeyError, IndexError):
            return None
        if self._prompt_id in running:
            return 0
        return pending.index(self._prompt_id) + 1 if self._prompt_id in pending else _UNKNOWN

    async def _get(self, transport: Transport, path: str) -> tuple[int, bytes]:
        job = self._job
        response = await transport.request(job.upstream, "GET", path, job.headers, b"", timeout=job.patience.idle)
        try:
            if response.status != 200:
                return response.status, await read_start(response)
            return 200, await read_document(response, job.config.max_body) or b""
        finally:
            response.abort()

    def _tell(self, events: list[Event], outlet: Outlet) -> None:
        told: list[Event] = []
        for event in self._job.linked(events):
            if isinstance(event, Artifact):
                if str(event.url) in self._told:
                    continue
                self._told.append(str(event.url))
                told.append(replace(event, index=len(self._told) - 1))
            else:
                told.append(event)
        if told:
            outlet.tell(told)


def _ids(queue: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the prompts' ids in the order in which they are worked at: by number, then id."""
    return [entry[1] for entry in sorted(queue, key=lambda entry: float(entry[0]))]


def _frame(prompt_id: str, kind: str, data: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"type": kind, "data": {**data, "prompt_id": prompt_id}})


def _frames(entry: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return what the socket would have said of a prompt that stands in the history."""
    frames: list[tuple[str, dict[str, Any]]] = [("execution_start", {})]
    outputs, status = entry.get("outputs"), entry.get("status")
    for node, output in outputs.items() if isinstance(outputs, dict) else ():
        frames.append(("executed", {"node": node, "output": output}))
    status = status if isinstance(status, dict) else {}
    for message in status.get("messages") or ():
        match message:
            case ["execution_error" | "execution_interrupted" as kind, dict() as data]:
                return [*frames, (kind, data)]
    if status.get("status_str") == "error":
        return [*frames, ("execution_error", {})]
    return [*frames, ("execution_success", {})]
