"""What clients of the proxy get: an upstream's answer as it comes, the configuration's own, or a problem."""

from __future__ import annotations

from collections.abc import Awaitable

import structlog
from starlette.types import Send

from app.errors import TidegateError, UpstreamError
from app.http.aborted import ResponseAborted
from app.http.cache.flight import Answer
from app.http.client_watch import ClientGone, ClientWatch
from app.http.header_edits import RouteHeaders
from app.http.headers import response_headers
from app.http.problems import problem
from app.http.routes import Route
from app.observe.outcomes import Ended, Outcome

__all__ = ["answer_itself", "or_refuse", "pass_on", "send_problem"]

_BODILESS = frozenset({204, 205, 304})
_log = structlog.get_logger(__name__)


async def send_problem(
    send: Send, error: TidegateError, *, request_id: bytes | None = None, allow: tuple[str, ...] = ()
) -> None:
    """Answer with the problem document of ``error``."""
    instance = None if request_id is None else f"urn:tidegate:request:{request_id.decode('ascii')}"
    status, headers, body = problem(error, instance=instance, allow=allow)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def or_refuse(work: Awaitable[None], send: Send, outcome: Outcome) -> TidegateError | None:
    """Await what answers a request, or tell the client why there is no answer; return that error.

    ``work`` raises no :exc:`~app.errors.TidegateError` once the answer has begun.
    """
    try:
        await work
    except ClientGone:
        outcome.ended = Ended.CLIENT
    except TidegateError as error:
        await _refuse(send, error, outcome)
        return error
    return None


async def answer_itself(route: Route, send: Send, outcome: Outcome) -> None:
    """Answer with what the configuration says."""
    answer = route.config.answer
    assert answer is not None, "the caller looked"
    body = answer.body.encode()
    headers = [(b"content-type", answer.content_type.encode("latin-1"))]
    if answer.status not in _BODILESS:
        headers.append((b"content-length", b"%d" % len(body)))
    if route.headers.response is not None:
        headers = route.headers.response(headers)
    outcome.status = answer.status
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if answer.status in _BODILESS else body
    await send({"type": "http.response.body", "body": body})
    outcome.sent, outcome.ended = len(body), Ended.COMPLETE


async def pass_on(answer: Answer, send: Send, watch: ClientWatch, edits: RouteHeaders, outcome: Outcome) -> None:
    """Stream an answer down to its end. ``send`` waits while the client is slow, which pauses the upstream.

    Raises :exc:`~app.http.aborted.ResponseAborted` when it broke off, for a part of it is sent by then.
    """
    try:
        await _stream(answer, send, watch, edits, outcome)
    except TidegateError as error:  # also of the request's body, which may still be on its way
        failed = isinstance(error, UpstreamError)
        outcome.ended, outcome.error = Ended.UPSTREAM if failed else Ended.REFUSED, error.code
        _log.warning("answer broke off", upstream=outcome.route.upstream, code=error.code,
                     request_id=outcome.context.id.decode("ascii"))  # fmt: skip
        raise ResponseAborted from None
    finally:
        answer.abort()


async def _refuse(send: Send, error: TidegateError, outcome: Outcome) -> None:
    request_id, failed = outcome.context.id, isinstance(error, UpstreamError)
    outcome.ended, outcome.error = Ended.UPSTREAM if failed else Ended.REFUSED, error.code
    outcome.status = outcome.status or error.status
    if failed:
        _log.warning("upstream failed", upstream=outcome.route.upstream, code=error.code,
                     request_id=request_id.decode("ascii"), cause=repr(error.__cause__))  # fmt: skip
    await send_problem(send, error, request_id=request_id)


async def _stream(answer: Answer, send: Send, watch: ClientWatch, edits: RouteHeaders, outcome: Outcome) -> None:
    headers = response_headers(answer.headers, answer.status)
    if edits.response is not None:
        headers = edits.response(headers)
    if not answer.complete:
        watch.streaming()
    outcome.status = answer.status
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    while True:
        data = await answer.read()
        outcome.sent += len(data)
        if answer.complete:  # and read: nothing comes after a complete body
            watch.end()
            await send({"type": "http.response.body", "body": data})
            outcome.ended = Ended.COMPLETE
            return
        await send({"type": "http.response.body", "body": data, "more_body": True})
