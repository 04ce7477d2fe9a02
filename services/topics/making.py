"""Makes the topics that a service needs, where they are not there and it may."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

__all__ = ["make_topics"]

_FINE = frozenset({0, 36})
"""Codes of the protocol: it was made, or was there."""
_log = logging.getLogger(__name__)


async def make_topics(servers: Sequence[str], names: Iterable[str], partitions: int) -> None:
    """Make those that are not there, with as many copies as the broker makes by default (KIP-464).

    What a broker refuses, as to who may make none, is told in the log. Raises what the producer's ``FAILURES`` list.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=list(servers))
    try:
        await admin.start()
        made = await admin.create_topics([NewTopic(name, partitions, -1, replica_assignments={}) for name in names])
        for name, code, *_ in made.topic_errors:
            if code not in _FINE:
                _log.warning("the topic %s was not made: error %d", name, code)
    finally:
        await admin.close()
