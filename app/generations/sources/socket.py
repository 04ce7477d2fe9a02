"""One WebSocket whose messages are one answer: the parameters go in, frames come out. Its end without the family's
terminal is a truncation.
"""

from __future__ import annotations

from app.generations.formats.decoders import FrameDecoder
from app.generations.sources.job import Beginning, Job
from app.generations.sources.port import Outlet, Post, Transport
from app.generations.sources.stream import tell_skipped

__all__ = ["SocketSource"]

_CANCELLED = 4333
"""How clients of screenshot-to-code say that they cancel."""


class SocketSource:
    """:class:`~app.generations.sources.port.Source`. Closing the socket is what ends it."""

    def __init__(self, job: Job, beginning: Beginning, decoder: FrameDecoder) -> None:
        self._job = job
        self._beginning = beginning
        self._decoder = decoder

    @property
    def upstream(self) -> str:
        return self._job.upstream

    async def run(self, transport: Transport, outlet: Outlet) -> None:
        job, decoder, answer = self._job, self._decoder, self._decoder.answer
        patience = job.patience
        socket = await transport.connect(
            job.upstream,
            self._beginning.path,
            self._beginning.headers,
            max_size=job.config.max_body,
            idle_timeout=patience.idle,
            timeout=min(patience.first_event, patience.total),
        )
        try:
            socket.send(self._beginning.body.decode())
            while not (answer.ended or outlet.ended):
                message = await socket.receive()
                if message is None:
                    events = decoder.end(socket.close_code)
                else:
                    events = decoder.text(message) if isinstance(message, str) else decoder.binary(message)
                if events or answer.model:
                    outlet.tell(job.linked(events), answer.model)
            tell_skipped(answer, job.upstream)
        finally:
            socket.close(1000 if answer.ended else _CANCELLED)

    async def stop(self, transport: Transport) -> None:
        """Nothing: the socket is closed."""

    def take(self, post: Post) -> bool:
        return False
