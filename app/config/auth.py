"""What can be set about tokens and keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from app.config.section import UPPER_CASE, Section, WrongSetting

__all__ = ["DEVELOPMENT_SECRET", "AuthConfig", "ServerApiConfig"]

DEVELOPMENT_SECRET = "tidegate-development-secret-not-for-production"


class AuthConfig(Section):
    """How tokens are verified. One of `secret` and `public_key` goes with the algorithms."""

    secret: SecretStr = SecretStr(DEVELOPMENT_SECRET)
    """The shared secret of HS256, 32 bytes or more. The default is for development only."""
    public_key: str | None = None
    """PEM text, or the path of a PEM file (relative to the configuration file), for RS256 and ES256."""
    algorithms: tuple[Annotated[Literal["HS256", "RS256", "ES256"], UPPER_CASE], ...] = ("HS256",)
    """What a token may be signed with. HS256 does not go together with the others."""
    audience: tuple[str, ...] = ()
    """The token's `aud` must name one of these; empty for no check."""
    issuer: tuple[str, ...] = ()
    """The token's `iss` must be one of these; empty for no check."""
    required_claims: tuple[str, ...] = ("exp", "sub")
    """Claims that every token must carry."""
    leeway: float = Field(0.0, ge=0, le=300)
    """How far the clocks of issuer and gateway may differ."""
    cache_size: int = Field(10_000, ge=0)
    """Verified tokens that are remembered, so that a repeated one costs microseconds; 0 for none."""
    user_claim: str = "sub"
    """The claim that names the user. Here and in the next three, dots descend: `app_metadata.company_id`."""
    company_claim: str = "company_id"
    """The claim that names the company."""
    email_claim: str = "email"
    """The claim that holds the e-mail address."""
    roles_claim: str = "roles"
    """The claim that holds the roles: a list, or words in one text."""
    scopes_claim: str = "scope"
    """The claim that holds the scopes: a list, or words in one text (RFC 8693 section 4.2)."""
    session_claim: str = "sid"
    """The claim that names the login session, all of whose tokens a logout revokes."""
    revocation_ttl: float = Field(2_592_000.0, gt=0, le=315_360_000)
    """How long revocations are kept where nobody says until when. No token may live longer than this."""
    revocation_limit: int = Field(200_000, ge=1, le=5_000_000)
    """How many revocations are kept at once, in Redis and by each replica; further ones are refused."""
    revocation_check: float = Field(1.0, ge=0.1, le=60)
    """How often a replica looks for revocations that it was not told of."""
    service_keys: dict[str, SecretStr] = Field(default_factory=dict)
    """Keys, by the upstream's name, with which upstreams report events of their generations."""
    ticket_ttl: float = Field(30.0, gt=0, le=300)
    """How long a one-time ticket for a socket can be redeemed."""

    @model_validator(mode="after")
    def _a_key_for_each_algorithm(self) -> AuthConfig:
        public = [algorithm for algorithm in self.algorithms if algorithm != "HS256"]
        if not self.algorithms:
            raise WrongSetting(("algorithms",), 'is empty. Name at least one, for example ["HS256"]')
        if public and "HS256" in self.algorithms:
            raise WrongSetting(
                ("algorithms",),
                f"mixes HS256 with {public[0]}: a public key could then be used as a shared secret. Keep one kind",
            )
        if public and self.public_key is None:
            raise WrongSetting(("public_key",), f"is missing, and {public[0]} needs it. Set it to a PEM file's path")
        if not public and not self.secret.get_secret_value():
            raise WrongSetting(("secret",), "is empty, and HS256 needs it. Set it to 32 bytes or more")
        return self


class ServerApiConfig(Section):
    """The API for back ends: publish, who is there, what was said. Its form is Centrifugo's."""

    keys: tuple[Annotated[SecretStr, Field(min_length=1)], ...] = ()
    """Whoever sends one of these as `X-API-Key` may use it. Without any key there is no such API."""
