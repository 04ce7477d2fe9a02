"""The response cache that the configuration asks for."""

from __future__ import annotations

from app.composition.broker import create_topology
from app.config import Config
from app.http.cache.cache import ResponseCache
from app.http.cache.memory import MemoryStore
from app.http.cache.redis import RedisStore
from app.http.cache.store import Store
from app.streams.redis.client import Client
from app.streams.redis.layout import Layout

__all__ = ["create_cache"]


def create_cache(config: Config) -> ResponseCache | None:
    """Return the cache; None where no route has one."""
    if not any(route.cache is not None for route in config.routes):
        return None
    return ResponseCache(_store(config), longest=config.cache.max_ttl)


def _store(config: Config) -> Store:
    """A Redis gets links of its own, so that no large answer delays a message."""
    if config.cache.store == "memory" or not config.broker.shared:
        return MemoryStore(config.cache.size)
    broker = config.broker
    topology = create_topology(broker)
    client = Client(topology, timeout=broker.command_timeout, patience=broker.connect_timeout)
    return RedisStore(client, Layout(broker.key_prefix, sharded=topology.sharded), longest=config.cache.max_ttl)
