"""How aiokafka is set up: who reaches which brokers, how. It is an extra, looked for when it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

from app.config import KafkaConfig
from app.errors import ConfigError

__all__ = ["client_options", "kafka_package", "leaving", "producer_options"]

_GOODBYE = 1.0
"""Seconds for a connection to end as it should."""


def kafka_package(where: str) -> Any:
    """Return ``aiokafka``. Raises :exc:`~app.errors.ConfigError` where it is not installed."""
    try:
        import aiokafka  # noqa: PLC0415  (only who uses Kafka needs it)
        import aiokafka.admin  # noqa: PLC0415
        import aiokafka.conn  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"{where}: needs a package that is not installed ({error.name}). Install it: pip install 'tidegate[kafka]'"
        ) from error
    # It writes several lines for each try to reach a broker that is down. The link tells that once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return aiokafka


def client_options(where: str, config: KafkaConfig, suffix: str, timeout: float) -> dict[str, Any]:
    """Return what producers, consumers and administrators have in common. ``timeout`` is of a request, in seconds.

    Raises :exc:`~app.errors.ConfigError` for TLS files that cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": list(config.bootstrap_servers),
        "client_id": f"{config.client_id}-{suffix}",
        "request_timeout_ms": max(1, round(timeout * 1000)),
        "security_protocol": config.security_protocol,
    }
    if config.encrypted:
        options["ssl_context"] = _tls(where, config)
    if config.security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": config.sasl_mechanism,
            "sasl_plain_username": config.username,
            "sasl_plain_password": config.password.get_secret_value(),
        }
    return options


def producer_options(config: KafkaConfig) -> dict[str, Any]:
    """Return how messages are written: acknowledged by all replicas of the log, and once where the broker can."""
    return {"acks": "all", "enable_idempotence": config.idempotent}


@contextlib.asynccontextmanager
async def leaving(client: Any) -> AsyncIterator[None]:
    """Stop a producer, a consumer or an administrator within this.

    No connection is begun meanwhile, for one whose TLS handshake is cancelled stays open. Those that have not ended
    after :data:`_GOODBYE` are cut off: of TLS uvloop waits half a minute for the broker's part of the ending.
    """
    connections = getattr(client, "client", None) or client._client
    async with connections._get_conn_lock:
        transports = [each._writer.transport for each in connections._conns.values() if each._writer is not None]
        timer = asyncio.get_running_loop().call_later(_GOODBYE, _cut_off, transports)
        try:
            yield
        finally:
            # A consumer whose broker is away is not left as it should be: its connections stay.
            try:
                await connections.close()
            finally:
                timer.cancel()


def _cut_off(transports: Iterable[asyncio.Transport]) -> None:
    for transport in transports:
        transport.abort()


def _tls(where: str, config: KafkaConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.tls_ca)
        if config.tls_certificate is not None:
            context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{where}: a TLS file cannot be used ({error}). Name PEM files that can be read") from error
    return context
