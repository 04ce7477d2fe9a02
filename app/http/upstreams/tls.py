"""The TLS of connections to upstreams. Certificates are verified unless the configuration says otherwise."""

from __future__ import annotations

import ssl

from app.config import UpstreamConfig
from app.errors import ConfigError

__all__ = ["client_context"]


def client_context(name: str, config: UpstreamConfig) -> ssl.SSLContext | None:
    """Return the context for the https targets of upstream ``name``, None when it has none.

    HTTP/1.1 is the only protocol offered (RFC 7301). Raises :exc:`~app.errors.ConfigError` for files that cannot be
    used.
    """
    if not any(url.startswith("https:") for url, _ in config.weighted_targets()):
        return None
    try:
        context = ssl.create_default_context(cafile=config.tls_ca)
    except (OSError, ssl.SSLError):
        raise ConfigError(f"upstreams.{name}.tls_ca: is not a readable file of certificates in PEM form") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if config.tls_certificate is not None:
        try:
            context.load_cert_chain(config.tls_certificate, config.tls_key, password=_no_password)
        except (OSError, ssl.SSLError):
            raise ConfigError(
                f"upstreams.{name}.tls_certificate: no certificate with its key can be read. Give PEM files, the key "
                "without a password"
            ) from None
    if not config.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    """OpenSSL would ask the terminal."""
    return ""
