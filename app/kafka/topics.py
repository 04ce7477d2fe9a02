"""Makes topics that are not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from app.kafka.clients import leaving

__all__ = ["make_topic"]

_log = structlog.get_logger(__name__)
_ALREADY_EXISTS = 36
_NOT_ALLOWED = frozenset({29, 31})
"""Codes of the protocol's errors: topic and cluster authorisation failed."""


async def make_topic(kafka: Any, options: Mapping[str, Any], topic: str, partitions: int, where: str) -> bool:
    """Make ``topic`` with as many copies as the broker makes by default; False when another try may help.

    ``kafka`` is the package, ``where`` is what the log calls who wants it. Raises what aiokafka does.
    """
    admin = kafka.admin.AIOKafkaAdminClient(**options)
    try:
        await admin.start()
        if admin._client.cluster.controller is None:  # The package does not look.
            raise kafka.errors.NodeNotReadyError(
                "no controller is known; where others make topics say create_topics = false"
            )
        # -1: as many copies as the broker makes by default (KIP-464); aiokafka takes it with no assignments.
        made = await admin.create_topics([kafka.admin.NewTopic(topic, partitions, -1, replica_assignments={})])
        for _, code, *_ in made.topic_errors:
            if code not in (0, _ALREADY_EXISTS):
                _log.warning("a topic was not made", where=where, topic=topic, code=code)
                if code not in _NOT_ALLOWED:
                    return False
    finally:
        async with leaving(admin):
            await admin.close()
    return True
