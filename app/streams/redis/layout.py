"""Names of keys and channels, and a batch's form on the wire and in the log.

A stream's two keys share a hash tag, so that one script can touch both in Redis Cluster. A batch is one log entry,
whose id is its last offset, and one Pub/Sub message, the same bytes: a head line ``<epoch> <first offset>``, then one
line for each message. A batch without positions has the head line ``- 0``.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.streams.publication import Batch

__all__ = ["Layout", "decode_batch", "encode_batch", "join_items", "one_line"]


class Layout:
    """All names under one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._channel_prefix = f"{prefix}c:".encode()
        self.leases = f"{prefix}leases"
        self.nodes = f"{prefix}nodes"
        self.slot_holders = f"{prefix}{{slots}}:holders"

    def log(self, stream: str) -> str:
        return f"{self._prefix}{{{stream}}}:log"

    def meta(self, stream: str) -> str:
        return f"{self._prefix}{{{stream}}}:meta"

    def version(self, channel: str) -> str:
        return f"{self._prefix}{{{channel}}}:version"

    def once(self, channel: str, key: str) -> str:
        """What a publication with this idempotency key came to."""
        return f"{self._prefix}{{{channel}}}:once:{key}"

    def present(self, channel: str) -> str:
        """Infos of those in ``channel``, by client; beside it their users, and when their entries end."""
        return f"{self._prefix}{{{channel}}}:who"

    def present_users(self, channel: str) -> str:
        return f"{self._prefix}{{{channel}}}:whose"

    def present_ends(self, channel: str) -> str:
        return f"{self._prefix}{{{channel}}}:until"

    def slots_of(self, node: str) -> str:
        """What ``node`` holds; with its index under one hash tag."""
        return f"{self._prefix}{{slots}}:of:{node}"

    def channel(self, stream: str) -> str:
        return f"{self._prefix}c:{stream}"

    def node(self, node: str) -> str:
        return f"{self._prefix}node:{node}"

    def register(self, name: str) -> tuple[str, str, str, str]:
        """Times by mark, marks by number, marks by end, and the counter."""
        return tuple(f"{self._prefix}{{{name}}}:{part}" for part in ("times", "numbers", "ends", "counter"))  # type: ignore[return-value]

    def value(self, key: str) -> str:
        return f"{self._prefix}k:{key}"

    def stream_of(self, channel: bytes) -> str | None:
        """Return the stream that a Pub/Sub channel announces; None for a node's own channel."""
        return channel[len(self._channel_prefix) :].decode() if channel.startswith(self._channel_prefix) else None


def encode_batch(epoch: str, first: int, items: Sequence[bytes]) -> bytes:
    return b"%b %d\n%b" % (epoch.encode() or b"-", first, join_items(items))


def join_items(items: Sequence[bytes]) -> bytes:
    """Return the lines for ``items``. A line feed within one is space between two tokens: JSON allows no other."""
    body = b"\n".join(items)
    if body.count(b"\n") != len(items) - 1:
        body = b"\n".join([one_line(item) for item in items])
    return body


def one_line(item: bytes) -> bytes:
    return item.replace(b"\n", b" ")


def decode_batch(message: bytes) -> Batch:
    """Raises ValueError for what :func:`encode_batch` never wrote."""
    items = message.split(b"\n")
    epoch, _, first = items.pop(0).partition(b" ")
    return Batch("" if epoch == b"-" else epoch.decode(), int(first), items)
