"""What can be set about tokens and keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from app.config.issuers import DEVELOPMENT_SECRET, IssuerConfig
from app.config.section import Section, WrongSetting

__all__ = ["AuthConfig", "ServerApiConfig"]

_OWN_KEYS = frozenset({"secret", "named_secrets", "public_key", "jwks_url"})


class AuthConfig(IssuerConfig):
    """How tokens are verified: by the keys of one issuer, which is described here, and by those of further ones, each
    a table `[[auth.issuers]]`. With such tables and no key here there is no issuer but them."""

    secret: SecretStr = SecretStr(DEVELOPMENT_SECRET)
    """The shared secret of HS256, 32 bytes or more. The default is for development only."""
    cache_size: int = Field(10_000, ge=0)
    """Verified tokens that are remembered, so that a repeated one costs microseconds; 0 for none."""
    revocation_ttl: float = Field(2_592_000.0, gt=0, le=315_360_000)
    """How long revocations are kept where nobody says until when. No token may live longer than this."""
    revocation_limit: int = Field(200_000, ge=1, le=5_000_000)
    """How many revocations are kept at once, in Redis and by each replica; further ones are refused."""
    revocation_check: float = Field(1.0, ge=0.1, le=60)
    """How often a replica looks for revocations that it was not told of."""
    service_keys: dict[str, SecretStr] = Field(default_factory=dict)
    """Keys of services, by name, which they send as `X-Service-Key` or `X-Internal-Key`: upstreams, to report events
    of their generations, and others, to use routes whose `auth` is `service`."""
    ticket_ttl: float = Field(30.0, gt=0, le=300)
    """How long a one-time ticket for a socket can be redeemed."""
    issuers: tuple[IssuerConfig, ...] = ()
    """Further issuers."""

    @model_validator(mode="after")
    def _issuers_are_told_apart(self) -> AuthConfig:
        seen: set[str] = set()
        for index, issuer in enumerate(self.issuers):
            if issuer.enabled and not issuer.issuer:
                raise WrongSetting(("issuers", index, "issuer"), "is missing. Name the iss of its tokens")
        if not self.all_issuers():
            raise WrongSetting(("enabled",), "is false for every issuer: whose tokens are to be taken?")
        for key, issuer in self.all_issuers():
            for each in issuer.issuer:
                if each in seen:
                    raise WrongSetting((*key, "issuer"), f"names {each!r}, which another issuer has already")
                seen.add(each)
        return self

    def all_issuers(self) -> list[tuple[tuple[str | int, ...], IssuerConfig]]:
        """Return each issuer whose tokens are taken, and its key below ``auth``: first the one that is described there,
        if there is one."""
        own = not self.issuers or self.describes_itself or not _OWN_KEYS.isdisjoint(self.model_fields_set)
        further = [(("issuers", index), issuer) for index, issuer in enumerate(self.issuers)]
        every: list[tuple[tuple[str | int, ...], IssuerConfig]] = [*([((), self)] if own else []), *further]
        return [(key, issuer) for key, issuer in every if issuer.enabled]


class ServerApiConfig(Section):
    """The API for back ends: publish, who is there, what was said. Its form is Centrifugo's."""

    keys: tuple[Annotated[SecretStr, Field(min_length=1)], ...] = ()
    """Whoever sends one of these as `X-API-Key` may use it. Without any key there is no such API."""
