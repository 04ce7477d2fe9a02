"""What a client is told whose WebSocket is not opened: by the gateway, or by the upstream itself."""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import Send

from app.errors import TidegateError
from app.http.header_edits import RouteHeaders
from app.http.headers import response_headers
from app.http.problems import problem
from app.http.sockets.handshake import answered_headers
from app.http.upstream_response import UpstreamResponse
from app.http.upstreams.kafka.answer import KafkaAnswer
from app.observe.outcomes import Ended, Outcome

__all__ = ["pass_refusal", "refuse_socket", "told_headers"]

_LONGEST_REFUSAL = 64 * 1024
"""Bytes of a refusal's body that are passed on."""
_STATUSES = frozenset(int(status) for status in HTTPStatus)


async def refuse_socket(send: Send, error: TidegateError, request_id: bytes | None = None) -> None:
    """Answer a handshake with the problem document of ``error``."""
    instance = None if request_id is None else f"urn:tidegate:request:{request_id.decode('ascii')}"
    status, headers, body = problem(error, instance=instance)
    if request_id is not None:
        headers.append((b"x-request-id", request_id))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def told_headers(answer: UpstreamResponse | KafkaAnswer, request_id: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields of the upstream's answer for the client."""
    return [*answered_headers(response_headers(answer.headers, answer.status)), (b"x-request-id", request_id)]


async def pass_refusal(
    answer: UpstreamResponse | KafkaAnswer, send: Send, edits: RouteHeaders, outcome: Outcome
) -> None:
    """Give the client the upstream's own answer, of which a handshake needs no more than the beginning."""
    headers = told_headers(answer, outcome.context.id)
    if edits.response is not None:
        headers = edits.response(headers)
    body = b""
    while len(body) < _LONGEST_REFUSAL and (data := await answer.read()):
        body += data
    # RFC 9110 section 15: a status that is not known is as good as the first of its class.
    status = answer.status if answer.status in _STATUSES else answer.status // 100 * 100
    outcome.status = status
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body[:_LONGEST_REFUSAL]})
    outcome.sent, outcome.ended = len(body), Ended.COMPLETE
