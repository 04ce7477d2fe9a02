"""The broker that the configuration asks for."""

from __future__ import annotations

from pathlib import Path
from ssl import SSLContext

from pydantic import SecretStr

from app.config import Config
from app.config.broker import BrokerConfig
from app.errors import ConfigError
from app.streams.backend import Backend, memory_backend, redis_backend
from app.streams.hub import Hub
from app.streams.redis.cluster import Cluster
from app.streams.redis.sentinel import Sentinels
from app.streams.redis.server import Access, Address, access_of, address_of, tls_context
from app.streams.redis.topology import Standalone, Topology

__all__ = ["create_backend", "create_topology"]

_CLUSTER = "+cluster://"


def create_backend(config: Config, node: str, hub: Hub) -> Backend:
    """Return memory, or Redis where there is one. ``node`` is this process's name among the replicas."""
    lease, retention = config.generations.lease, config.generations.retention
    presence_ttl, slots_ttl = config.realtime.presence_ttl, config.realtime.limits.ttl
    revocation_limit = config.auth.revocation_limit
    if not config.broker.shared:
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
        topology=create_topology(config.broker),
        key_prefix=config.broker.key_prefix,
        lease=lease,
        retention=retention,
        connect_timeout=config.broker.connect_timeout,
        command_timeout=config.broker.command_timeout,
        copies=(config.broker.wait_replicas, config.broker.wait_timeout) if config.broker.wait_replicas else None,
        presence_ttl=presence_ttl,
        slots_ttl=slots_ttl,
        revocation_limit=revocation_limit,
    )


def create_topology(broker: BrokerConfig) -> Topology:
    """Return how to find the masters. Raises :exc:`~app.errors.ConfigError` for files of TLS that can't be used."""
    if broker.redis_url is not None:
        return _of_url(broker.redis_url.get_secret_value(), broker)
    tls = _tls(broker) if broker.tls else None
    access = Access(broker.username, _text(broker.password), broker.database, tls, broker.connect_timeout)
    if broker.cluster:
        return Cluster([_address(node) for node in broker.cluster], access)
    asking = Access(broker.sentinel_username, _text(broker.sentinel_password), tls=tls, timeout=broker.connect_timeout)
    return Sentinels([_address(sentinel) for sentinel in broker.sentinels], broker.sentinel_master, access, asking)


def _of_url(url: str, broker: BrokerConfig) -> Topology:
    clustered = _CLUSTER in url
    url = url.replace(_CLUSTER, "://")
    scheme, _, rest = url.partition("://")
    tls = _tls(broker) if scheme == "rediss" else None
    if not clustered:
        return Standalone(address_of(url), access_of(url, timeout=broker.connect_timeout, tls=tls))
    user, at, places = rest.rpartition("@")
    seeds = [f"{scheme}://{user}{at}{place}" for place in places.partition("/")[0].split(",")]
    return Cluster([address_of(seed) for seed in seeds], access_of(seeds[0], timeout=broker.connect_timeout, tls=tls))


def _tls(broker: BrokerConfig) -> SSLContext:
    for key in ("tls_ca", "tls_certificate", "tls_key"):
        path = getattr(broker, key)
        if path is not None and not Path(path).is_file():
            raise ConfigError(f"broker.{key}: there is no file {path}. Name an existing one.")
    try:
        return tls_context(broker.tls_ca, broker.tls_certificate, broker.tls_key)
    except OSError as error:  # An SSLError is one.
        raise ConfigError(f"broker.tls_ca, tls_certificate, tls_key: {error}. Name PEM files that fit.") from error


def _address(place: str) -> Address:
    host, _, port = place.rpartition(":")
    return Address(host.strip("[]"), int(port))


def _text(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()
