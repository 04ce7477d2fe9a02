"""How aiokafka is set up: who reaches which brokers, how. It is an extra, looked for when it is needed."""

from __future__ import annotations

import logging
import ssl
from typing import Any

from app.config import KafkaConfig
from app.errors import ConfigError

__all__ = ["client_options", "kafka_package", "producer_options"]


def kafka_package(where: str) -> Any:
    """Return ``aiokafka``. Raises :exc:`~app.errors.ConfigError` where it is not installed."""
    try:
        import aiokafka  # noqa: PLC0415  (only who uses Kafka needs it)
        import aiokafka.admin  # noqa: PLC0415
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


def _tls(where: str, config: KafkaConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.tls_ca)
        if config.tls_certificate is not None:
            context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{where}: a TLS file cannot be used ({error}). Name PEM files that can be read") from error
    return context
