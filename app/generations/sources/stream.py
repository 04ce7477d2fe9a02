"""One request whose answer is the stream: the way of nearly all text upstreams."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from app.errors import TidegateError, UpstreamError, UpstreamInvalid
from app.generations.formats import Format
from app.generations.formats.answer import Answer
from app.generations.formats.decoders import StreamDecoder
from app.generations.sources.port import Outlet, Patience, Post, Response, Transport

__all__ = ["Call", "StreamSource", "read_start", "tell_skipped"]

_log = structlog.get_logger(__name__)
_ERROR_BODY = 64 * 1024
"""Bytes of an upstream's error answer that are read for its message."""


@dataclass(frozen=True, slots=True)
class Call:
    """The upstream call of one generation."""

    upstream: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    format: Format
    patience: Patience


class StreamSource:
    """:class:`~app.generations.sources.port.Source` of one call. Closing its connection is what ends it."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def upstream(self) -> str:
        return self._call.upstream

    async def run(self, transport: Transport, outlet: Outlet) -> None:
        call = self._call
        response = await transport.request(
            call.upstream,
            "POST",
            call.path,
            call.headers,
            call.body,
            idle_timeout=call.patience.idle,
            # The transport's, not ours: so that an upstream that does not answer is held to account.
            timeout=min(call.patience.first_event, call.patience.total),
        )
        decoder: StreamDecoder | None = None
        try:
            if not 200 <= response.status < 300:
                raise call.format.error_from_response(response.status, await read_start(response))
            if _content_type(response) in call.format.refused:
                raise UpstreamInvalid("The service behind the gateway did not answer with a stream.")
            decoder = call.format.decoder()
            answer = decoder.answer
            while not answer.ended:
                data = await response.read()
                events = decoder.feed(data) if data else decoder.end()
                if events or answer.model:
                    outlet.tell(events, answer.model)
            tell_skipped(answer, call.upstream)
        except UpstreamError:
            if decoder is not None:
                decoder.answer.report_usage()  # It broke off, but its figures had come.
                if events := decoder.answer.take():
                    outlet.tell(events, decoder.answer.model)
            raise
        finally:
            response.abort()

    async def stop(self, transport: Transport) -> None:
        """Nothing: the connection is closed."""

    def take(self, post: Post) -> bool:
        return False


def tell_skipped(answer: Answer, upstream: str) -> None:
    """Log how many events could not be read, or are not known."""
    if answer.malformed or answer.unknown:
        counts = {"malformed": answer.malformed, "unknown": answer.unknown}
        log = _log.warning if answer.malformed else _log.info
        log("an upstream sent events that were skipped", upstream=upstream, **counts)


async def read_start(response: Response, limit: int = _ERROR_BODY) -> bytes:
    """Return the beginning of an error answer's body, however badly it goes on."""
    body = b""
    try:
        while len(body) < limit and (data := await response.read()):
            body += data
    except TidegateError:
        pass
    return body


def _content_type(response: Response) -> bytes:
    value = next((value for name, value in response.headers if name == b"content-type"), b"")
    return value.partition(b";")[0].strip().lower()
