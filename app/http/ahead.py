"""The beginning of a request's body, read before it is passed on, and given again to whoever passes it on."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Message, Receive

from app.http.client_watch import ClientGone

__all__ = ["again", "read_messages"]


async def read_messages(receive: Receive, limit: int) -> tuple[list[Message], bytes]:
    """Return the messages of a body up to its end, or until they have ``limit`` bytes, and the bytes.

    Raises :exc:`~app.http.client_watch.ClientGone`.
    """
    messages: list[Message] = []
    body, more = bytearray(), True
    while more and len(body) < limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        messages.append(message)
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return messages, bytes(body)


def again(messages: Sequence[Message], receive: Receive) -> Receive:
    """Return a ``receive`` that gives ``messages`` first."""
    left = list(reversed(messages))

    async def receive_again() -> Message:
        return left.pop() if left else await receive()

    return receive_again
