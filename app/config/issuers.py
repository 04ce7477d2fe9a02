"""What can be set about one issuer of tokens, and what known providers need no words for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from app.config.section import LOWER_CASE, Section, WrongSetting

__all__ = ["DEVELOPMENT_SECRET", "KNOWN_SECRETS", "IssuerConfig", "known_secrets", "unsafe_in_production"]

DEVELOPMENT_SECRET = "tidegate-development-secret-not-for-production"

KNOWN_SECRETS = frozenset(
    {
        DEVELOPMENT_SECRET,
        "dev-super-secret-access-key-2024",
        "gateway-secret-key-2024",
        "your-jwt-secret",
        "your-secret-key",
        "YOUR_DEFAULT_JWT_SECRET_KEY_CHANGE_ME_IN_ENV_OR_SECRET",
    }
)
"""Secrets that stand in presets and in the pages of their systems: whoever can read can use them."""

_HS256_KEY_SIZE = 32
"""Bytes: RFC 7518 section 3.2 asks for a key no shorter than the hash."""
_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[^\s#@]*)?")
_MANY_TENANTS = ("common", "organizations", "consumers")

_KEYS = ("secret", "named_secrets", "public_key")

_ALGORITHM = BeforeValidator(
    lambda value: {"EDDSA": "EdDSA"}.get(value.upper(), value.upper()) if isinstance(value, str) else value
)
Algorithm = Annotated[
    Literal["HS256", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"],
    _ALGORITHM,
]


class IssuerConfig(Section):
    """A further issuer of tokens. A token's `iss` says whose it is, and these keys alone then verify it."""

    enabled: bool = True
    """Whether its tokens are taken, and the rest of this table counts."""
    name: str = ""
    """What logs and `tidegate check` call the issuer; empty for its `issuer`."""
    provider: Annotated[Literal["generic", "azure", "supabase"], LOWER_CASE] = "generic"
    """Whose tokens they are: known providers set what is not set here by itself. docs/authentication.md says what."""
    tenant: str | None = None
    """Azure: the tenant's id."""
    client_id: str | None = None
    """Azure: the id of the application that tokens are for."""
    authority: str | None = None
    """Azure: the sign-in service, where it is another cloud's. Supabase: the project's URL."""
    secret: SecretStr = SecretStr("")
    """The shared secret of HS256, 32 bytes or more. The default of `[auth]` is for development only."""
    previous_secrets: tuple[SecretStr, ...] = Field((), max_length=8)
    """Secrets that tokens may still be signed with, while `secret` replaces them."""
    named_secrets: dict[str, SecretStr] = Field(default_factory=dict)
    """Secrets by the `kid` of the tokens that are signed with them; others are tried by `secret`."""
    public_key: str | None = None
    """PEM text, or the path of a PEM file (relative to the configuration file), for all algorithms but HS256."""
    jwks_url: str | None = None
    """Where the issuer publishes its keys, instead of a `public_key`; https in production. An issuer that is an address
    (`https://…`), and has no key here at all, is asked for it (`/.well-known/openid-configuration`)."""
    jwks_refresh: float = Field(300.0, ge=1, le=86_400)
    """How often they are fetched."""
    jwks_cooldown: float = Field(10.0, ge=0.1, le=3600)
    """The least time between two fetches, however many tokens name keys that are not known."""
    jwks_timeout: float = Field(5.0, gt=0, le=60)
    """How long a fetch may take."""
    algorithms: tuple[Algorithm, ...] = ("HS256",)
    """What a token may be signed with; RS256 and ES256 by default where the issuer publishes its keys. HS256 does not
    go together with the others."""
    audience: tuple[str, ...] = ()
    """The token's `aud` must name one of these; empty for no check."""
    issuer: tuple[str, ...] = ()
    """The token's `iss` must be one of these; empty for no check, which `[auth]` alone may have."""
    required_claims: tuple[str, ...] = ("exp", "sub")
    """Claims that every token must carry."""
    leeway: float = Field(0.0, ge=0, le=300)
    """How far the clocks of issuer and gateway may differ."""
    user_claim: str = "sub"
    """The claim that names the user. Here and in the next five, dots descend: `app_metadata.company_id`."""
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

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """Put under what is set what the provider, and then a ``jwks_url``, make of it."""
        if not isinstance(data, Mapping):
            return data
        provider = data.get("provider")
        kind = _PROVIDERS.get(provider.lower()) if isinstance(provider, str) else None
        filled = {**(kind(data) if kind else {}), **data}
        publishes = filled.get("jwks_url") or (_is_address(filled.get("issuer")) and not any(map(filled.get, _KEYS)))
        return {"algorithms": ("RS256", "ES256"), **filled} if publishes else filled

    @property
    def publishes(self) -> bool:
        """Whether its keys are fetched from where it publishes them."""
        return self.jwks_url is not None or self.describes_itself

    @property
    def describes_itself(self) -> bool:
        """Whether it is asked where it publishes them."""
        public = self.algorithms and "HS256" not in self.algorithms
        return bool(public and self.jwks_url is None and self.public_key is None and _is_address(self.issuer))

    @model_validator(mode="after")
    def _a_key_for_each_algorithm(self) -> IssuerConfig:
        if not self.enabled:
            return self
        public = [algorithm for algorithm in self.algorithms if algorithm != "HS256"]
        if not self.algorithms:
            raise WrongSetting(("algorithms",), 'is empty. Name at least one, for example ["HS256"]')
        if public and "HS256" in self.algorithms:
            raise WrongSetting(
                ("algorithms",),
                f"mixes HS256 with {public[0]}: a public key could then be used as a shared secret. Keep one kind",
            )
        if public:
            self._check_public_keys(public[0])
        elif self.jwks_url is not None:
            raise WrongSetting(("jwks_url",), "publishes no secrets of HS256. Remove one of the two")
        elif not self.secret.get_secret_value() and not self.named_secrets:
            raise WrongSetting(("secret",), "is empty, and HS256 needs it. Set it to 32 bytes or more")
        return self

    def _check_public_keys(self, algorithm: str) -> None:
        if self.public_key is None and not self.publishes:
            raise WrongSetting(
                ("public_key",),
                f"is missing, and {algorithm} needs it. Set it to a PEM file's path, or set jwks_url, or one issuer "
                "that begins with https://, which is then asked for its keys",
            )
        if self.public_key is not None and self.jwks_url is not None:
            raise WrongSetting(("public_key",), "cannot stand beside jwks_url. Keep one of the two")
        if self.jwks_url is not None and not _URL.fullmatch(self.jwks_url):
            raise WrongSetting(("jwks_url",), "is not of the form https://host/path, without a password")

    @model_validator(mode="after")
    def _provider_is_told_enough(self) -> IssuerConfig:
        if self.provider != "azure" or not self.enabled:
            return self
        for key in ("tenant", "client_id"):
            if getattr(self, key) is None:
                raise WrongSetting((key,), "is missing, and azure needs it. Copy it from the app's registration")
        if self.tenant in _MANY_TENANTS:
            raise WrongSetting(("tenant",), "stands for many tenants, each of which is an issuer. Name one by its id")
        return self


def _is_address(issuer: Any) -> bool:
    """Whether there is one issuer, and it is a place that can be asked; a text is what a variable holds."""
    names = [issuer] if isinstance(issuer, str) else issuer
    return isinstance(names, (list, tuple)) and len(names) == 1 and _URL.fullmatch(str(names[0])) is not None


def unsafe_in_production(issuer: IssuerConfig) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the keys of what development alone may have, and what is wrong with each."""
    if "HS256" in issuer.algorithms:
        for key, secret in _secrets(issuer):
            if secret in KNOWN_SECRETS:
                yield (
                    key,
                    "is the development secret, which everybody knows. In production set your own, "
                    "for example by GATEWAY_AUTH__SECRET",
                )
            elif len(secret.encode()) < _HS256_KEY_SIZE:
                yield key, f"is shorter than {_HS256_KEY_SIZE} bytes: it could be guessed"
    if issuer.describes_itself and not issuer.issuer[0].startswith("https://"):
        yield (("issuer",), "must begin with https:// in production, as it is asked for its keys: whoever sits in "
               "between could give his own")  # fmt: skip
    if issuer.jwks_url is not None and not issuer.jwks_url.startswith("https://"):
        yield ("jwks_url",), "must begin with https:// in production: whoever sits in between could give his own keys"


def known_secrets(issuer: IssuerConfig) -> Iterator[tuple[str | int, ...]]:
    """Yield the keys of secrets that everybody knows."""
    if "HS256" in issuer.algorithms:
        yield from (key for key, secret in _secrets(issuer) if secret in KNOWN_SECRETS)


def _secrets(issuer: IssuerConfig) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if issuer.secret.get_secret_value() or not issuer.named_secrets:
        yield ("secret",), issuer.secret.get_secret_value()
    for index, secret in enumerate(issuer.previous_secrets):
        yield ("previous_secrets", index), secret.get_secret_value()
    for name, secret in issuer.named_secrets.items():
        yield ("named_secrets", name), secret.get_secret_value()


def _azure(data: Mapping[str, Any]) -> dict[str, Any]:
    """Microsoft Entra ID, v2.0 of its tokens."""
    tenant, client = data.get("tenant"), data.get("client_id")
    if not tenant or not client:
        return {"algorithms": ("RS256",), "jwks_url": "https://login.microsoftonline.com/"}
    base = f"{str(data.get('authority') or 'https://login.microsoftonline.com').rstrip('/')}/{tenant}"
    return {
        "issuer": (f"{base}/v2.0",),
        "audience": (client,),
        "jwks_url": f"{base}/discovery/v2.0/keys",
        "algorithms": ("RS256",),
        "company_claim": "tid",
        "scopes_claim": "scp",
    }


def _supabase(data: Mapping[str, Any]) -> dict[str, Any]:
    """Its own keys by their URL, or the shared secret of older projects."""
    known: dict[str, Any] = {
        "audience": ("authenticated",),
        "company_claim": "app_metadata.company_id",
        "roles_claim": "app_metadata.roles",
        "session_claim": "session_id",
    }
    if data.get("authority"):
        base = f"{str(data['authority']).rstrip('/')}/auth/v1"
        known["issuer"] = (base,)
        if not data.get("secret"):
            known |= {"jwks_url": f"{base}/.well-known/jwks.json", "algorithms": ("ES256", "RS256")}
    return known


_PROVIDERS = {"azure": _azure, "supabase": _supabase}
