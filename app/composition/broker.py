"""The broker that the configuration asks for."""

from __future__ import annotations

from app.config import Config
from app.streams.backend import Backend, memory_backend, redis_backend
from app.streams.hub import Hub

__all__ = ["create_backend"]


def create_backend(config: Config, node: str, hub: Hub) -> Backend:
    """Return memory, or Redis where there is a ``redis_url``. ``node`` is this process's name among the replicas."""
    lease, retention = config.generations.lease, config.generations.retention
    presence_ttl, slots_ttl = config.realtime.presence_ttl, config.realtime.limits.ttl
    revocation_limit = config.auth.revocation_limit
    if config.broker.redis_url is None:
        return memory_backend(
            node,
            hub,
            lease=lease,
            retention=retention,
            presence_ttl=presence_ttl,
            slots_ttl=slots_ttl,
            revocation_limit=revocation_limit,
        )
    return redis_backend(
        node,
        hub,
        url=config.broker.redis_url.get_secret_value(),
        key_prefix=config.broker.key_prefix,
        lease=lease,
        retention=retention,
        connect_timeout=config.broker.connect_timeout,
        command_timeout=config.broker.command_timeout,
        presence_ttl=presence_ttl,
        slots_ttl=slots_ttl,
        revocation_limit=revocation_limit,
    )
