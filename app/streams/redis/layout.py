"""Names of keys and channels, and a batch's form on the wire and in the log.

A batch is one log entry, whose id is its last offset, and one Pub/Sub message, the same bytes: a head line ``<epoch>
<first offset>``, then one line for each message. A batch without positions has the head line ``- 0``.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis.crc import key_slot

from app.streams.publication import Batch

__all__ = ["Layout", "decode_batch", "decode_past", "encode_batch", "join_items", "one_line", "slot_of"]

LEASE_PARTS = 16
"""Lists of leases in Redis Cluster. Replicas of one cluster must agree on it."""


class Layout:
    """All names under one prefix.

    In Redis Cluster one script can touch only keys of one *slot*, which the text between a key's first braces decides.
    So whatever is used together has one *owner*, a stream or a user, and :meth:`key` puts it between the braces.
    ``sharded``: announce with SPUBLISH, on the server that owns the channel's slot, rather than with PUBLISH on all.
    """

    def __init__(self, prefix: str, *, sharded: bool = False) -> None:
        self._prefix = prefix
        self.sharded = sharded
        self.announce = "SPUBLISH" if sharded else "PUBLISH"
        """The command that tells listeners."""
        parts = LEASE_PARTS if sharded else 0
        self.all_leases = [f"{prefix}leases:{{{part}}}" for part in range(parts)] or [f"{prefix}leases"]
        """Every list of leases: one, or in Redis Cluster several, so that no one server bears all of it."""
        self.nodes = f"{prefix}nodes"
        self.slot_holders = self.key("slots", "holders")

    def key(self, owner: str, kind: str) -> str:
        """Return the key of ``kind`` that belongs to ``owner``. All keys of one owner lie in one slot."""
        return f"{self._prefix}{{{_tag(owner)}}}:{kind}"

    def leases(self, stream: str) -> str:
        """Return the list of leases that ``stream`` is in."""
        lists = self.all_leases
        return lists[0] if len(lists) == 1 else lists[slot_of(stream) % len(lists)]

    def log(self, stream: str) -> str:
        return self.key(stream, "log")

    def meta(self, stream: str) -> str:
        return self.key(stream, "meta")

    def version(self, channel: str) -> str:
        return self.key(channel, "version")

    def once(self, channel: str, key: str) -> str:
        """What a publication with this idempotency key came to."""
        return self.key(channel, f"once:{key}")

    def present(self, channel: str) -> str:
        """Infos of those in ``channel``, by client; beside it their users, and when their entries end."""
        return self.key(channel, "who")

    def present_users(self, channel: str) -> str:
        return self.key(channel, "whose")

    def present_ends(self, channel: str) -> str:
        return self.key(channel, "until")

    def slots_of(self, node: str) -> str:
        """What ``node`` holds; with its index under one hash tag."""
        return self.key("slots", f"of:{node}")

    def channel(self, stream: str) -> str:
        """Return the Pub/Sub channel of ``stream``: in its slot, as its keys are."""
        return self.key(stream, "live")

    def node(self, node: str) -> str:
        return f"{self._prefix}node:{node}"

    def register(self, name: str) -> tuple[str, str, str, str]:
        """Times by mark, marks by number, marks by end, and the counter."""
        return self.key(name, "times"), self.key(name, "numbers"), self.key(name, "ends"), self.key(name, "counter")

    def value(self, key: str) -> str:
        return f"{self._prefix}k:{key}"

    def window(self, key: str) -> str:
        """The log of one limit's count. All share a slot: one step may look at several."""
        return self.key("windows", key)

    def budget(self, key: str) -> tuple[str, str, str]:
        """What was used of a budget, its tickets, and when they end. All budgets share a slot, as counts do."""
        key = self.key("budgets", key)
        return f"{key}:used", f"{key}:tickets", f"{key}:ends"


def slot_of(key: str | bytes) -> int:
    """Return the slot of a key or sharded channel in Redis Cluster (Redis Cluster Specification, "hash tags")."""
    return key_slot(key.encode() if isinstance(key, str) else key)


def _tag(owner: str) -> str:
    """Return ``owner`` without what would end the braces early, and never nothing: no two owners share a tag."""
    if "}" in owner or "%" in owner:
        owner = owner.replace("%", "%25").replace("}", "%7D")
    return owner or "%"


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


def decode_past(past: bytes | None) -> dict[str, int]:
    """Read what a log took over from the epochs before (``_succession.lua``)."""
    words = past.decode().split() if past else []
    return {epoch: int(top) for epoch, top in zip(words[::2], words[1::2], strict=True)}


def decode_batch(message: bytes) -> Batch:
    """Raises ValueError for what :func:`encode_batch` never wrote."""
    items = message.split(b"\n")
    epoch, _, first = items.pop(0).partition(b" ")
    return Batch("" if epoch == b"-" else epoch.decode(), int(first), items)
