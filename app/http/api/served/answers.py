"""What the endpoints of served formats have in common: a start, its stream or its end, and errors in OpenAI's form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.auth.identity import Identity
from app.errors import BadRequest, TidegateError
from app.generations.formats.served.wire import Failure, Wire, failure_of, openai_error, status_of
from app.generations.requests import StartRequest
from app.generations.served import Served
from app.generations.service import Generation, Generations
from app.generations.waiting import Waiter
from app.http.api.served.caller import ServedCaller
from app.http.problems import GATEWAY_ERROR, problem
from app.http.served_stream import LIMIT, RULE, ServedAnswer, ServedListener, ServedStream, ServedStreams
from app.limits.callers import counted_caller
from app.streams.merge import MergeRule

__all__ = ["GENERATION_ID", "Answers", "json_answer", "json_body", "openai_errors", "openai_refusal"]

GENERATION_ID = b"x-generation-id"
"""Names the generation behind an answer, so that it can be watched and cancelled like any other."""
_KEPT = frozenset({b"retry-after", b"www-authenticate", GATEWAY_ERROR})


class Answers:
    """Starts generations for callers and answers with them."""

    def __init__(self, generations: Generations, served: Served, streams: ServedStreams, caller: ServedCaller) -> None:
        self.generations = generations
        self.served = served
        self.caller = caller
        self._streams = streams

    async def start(self, request: Request, identity: Identity, asked: StartRequest) -> str:
        """Return the generation's id. Raises what :meth:`Generations.start` raises."""
        asked = replace(asked, caller=counted_caller(request.scope, identity))
        generation_id, _ = await self.generations.start(identity, asked)
        return generation_id

    async def stream(
        self,
        identity: Identity,
        generation_id: str,
        wire: Wire,
        *,
        head_wait: float,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        rule: MergeRule = RULE,
        limit: int = LIMIT,
        begun: bool = False,
        refusal: Callable[[Failure], Response] | None = None,
        delivered: Callable[[], Awaitable[None]] | None = None,
    ) -> Response:
        """Answer with a generation's events from its beginning, as ``wire`` writes them."""
        listener = ServedListener(wire, rule=rule, limit=limit, begun=begun)
        watch = self.generations.watch
        subscription = await watch(identity, generation_id, listener, None, listener.recovered, rule)
        try:
            self.caller.check(identity)
        except TidegateError:
            self._streams.hub.drop(subscription)
            raise
        more = [(GENERATION_ID, generation_id.encode()), *headers]
        return ServedStream(
            self._streams,
            listener,
            subscription,
            identity,
            headers=more,
            head_wait=head_wait,
            refusal=refusal or openai_refusal,
            delivered=delivered,
        )

    async def whole(
        self, identity: Identity, generation_id: str, build: Callable[[Generation], dict[str, Any]]
    ) -> Response:
        """Answer when the generation has ended: with what ``build`` makes of a completed one, or with an error."""
        waiter = Waiter()
        subscription = await self.generations.watch(identity, generation_id, waiter, None, lambda recovery: None)

        async def finished() -> Response:
            try:
                generation = await self.generations.read(identity, generation_id)
            except TidegateError as error:
                return openai_refusal(error)
            terminal = generation.snapshot.terminal or {}
            if terminal.get("type") == "completed":
                answer = json_answer(build(generation))
            else:
                answer = openai_refusal(failure_of(terminal))
            answer.raw_headers.append((GENERATION_ID, generation_id.encode()))
            return answer

        return ServedAnswer(self._streams, waiter, subscription, identity, finished)


async def json_body(request: Request) -> dict[str, Any]:
    """Return the body's object. Raises :exc:`~app.errors.BadRequest`, and ``MessageTooBig``."""
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise BadRequest("The body must be JSON.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def json_answer(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def openai_refusal(error: TidegateError | Failure) -> Response:
    """Return an error in OpenAI's form, with the status and the headers that a problem would have.

    ``x-should-retry`` tells OpenAI's libraries what the status alone would not: that the same again is of no use.
    """
    body = {"error": openai_error(error)}
    if isinstance(error, TidegateError):
        status, headers, _ = problem(error)
        answer = json_answer(body, status)
        answer.raw_headers += [(name, value) for name, value in headers if name in _KEPT]
    else:
        answer = json_answer(body, status_of(error.code))
        answer.raw_headers.append((GATEWAY_ERROR, error.code.encode("ascii", "replace")))
    if not error.retryable:
        answer.raw_headers.append((b"x-should-retry", b"false"))
    return answer


Endpoint = Callable[..., Awaitable[Response]]


def openai_errors(endpoint: Endpoint) -> Endpoint:
    """Answer what ``endpoint`` raises in OpenAI's form."""

    @wraps(endpoint)
    async def answered(*args: Any, **options: Any) -> Response:
        try:
            return await endpoint(*args, **options)
        except TidegateError as error:
            return openai_refusal(error)

    return answered
