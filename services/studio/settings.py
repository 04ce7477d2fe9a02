"""Settings of a service that keeps what it makes. Sizes are bytes, durations seconds."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Any

from pydantic import Field, SecretStr, field_validator, model_validator

from services.web.settings import HttpUrl, ServiceSettings

__all__ = ["StudioSettings"]


class StudioSettings(ServiceSettings):
    """Settings of queue, storage, links, webhooks and access."""

    storage: str = Field("out/storage", min_length=1)
    """A folder, or s3://bucket/prefix (with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL)."""
    signing_key: SecretStr = Field(default_factory=lambda: SecretStr(secrets.token_hex(32)))
    """Signs links. Without one, links end with the process."""
    public_url: HttpUrl | None = None
    """Where clients reach the service; the beginning of its links. By default the address of the request."""
    store_links: bool = True
    """In S3: links lead to the store itself; ``false`` where clients cannot reach it: files then come from here."""
    link_seconds: int = Field(3600, ge=1, le=7 * 86_400)
    internal_key: SecretStr | None = None
    """Opens what is for administrators, as X-Internal-Key or as a bearer token."""
    trust_roles: bool = False
    """Take the role ``admin`` from X-User-Roles. Only where nobody but the gateway can reach the service."""
    jwt_secret: SecretStr | None = None
    """Check tokens (HS256) here and take callers from them alone: for a service that others than the gateway reach."""
    webhook_hosts: tuple[str, ...] = ()
    """Hosts (``name`` or ``name:port``) that callback addresses may have; none by default."""
    webhook_secret: SecretStr | None = None
    """Signs webhooks; ``whsec_…`` or any text."""
    workers: int = Field(1, ge=1, le=64)
    """Jobs at once, each with a thread."""
    queue_limit: int = Field(64, ge=0, le=100_000)
    """Jobs that wait; one more is answered 429."""
    keep: int = Field(200, ge=0, le=100_000)
    """Ended jobs that are remembered in memory; the storage remembers all."""
    body_limit: int = Field(1024 * 1024, ge=1024)

    @field_validator("webhook_hosts", mode="before")
    @classmethod
    def _listed(cls, hosts: Any) -> Any:
        return tuple(host.strip() for host in hosts.split(",") if host.strip()) if isinstance(hosts, str) else hosts

    @field_validator("webhook_secret")
    @classmethod
    def _is_decodable(cls, secret: SecretStr | None) -> SecretStr | None:
        text = secret.get_secret_value() if secret else ""
        if text.startswith("whsec_"):
            try:
                base64.b64decode(text.removeprefix("whsec_"), validate=True)
            except binascii.Error:
                raise ValueError("must be base 64 after whsec_") from None
        return secret

    @model_validator(mode="after")
    def _webhooks_are_signed(self) -> StudioSettings:
        if self.webhook_hosts and self.webhook_secret is None:
            raise ValueError(f"{self.prefix}WEBHOOK_HOSTS needs {self.prefix}WEBHOOK_SECRET, which signs what is sent")
        return self
