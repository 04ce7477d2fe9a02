"""What can be set about generations that are served in other systems' formats."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator

from app.config.section import Section, WrongSetting

__all__ = [
    "ServedCodeConfig",
    "ServedConfig",
    "ServedKeyConfig",
    "ServedModelConfig",
    "ServedOpenAIConfig",
    "ServedVercelConfig",
]

_POLICY = re.compile(r"continue|cancel|cancel_after:\d{1,5}(\.\d+)?")
_SHORTEST_KEY = 16
MOST_VARIANTS = 8


def _checked_policy(policy: str) -> str:
    if not _POLICY.fullmatch(policy):
        raise ValueError("must be continue, cancel, or cancel_after:<seconds>, for example cancel_after:30")
    return policy


class ServedModelConfig(Section):
    """A name that clients give as `model` (`[served.models.fast]`), and the kind of generation that it stands for."""

    kind: str
    """The name of a table under `[generations.kinds]`."""
    model: str | None = None
    """The model that the upstream is asked for; none: the kind's own."""


class ServedKeyConfig(Section):
    """An API key (`[served.keys.batch]`), which is sent as `Authorization: Bearer` in place of a token."""

    key: SecretStr
    """The key, of 16 characters or more."""
    user: str | None = Field(None, min_length=1)
    """Whose its generations are; none: of a user `key:<name>`."""
    company: str | None = None
    """The company of that user."""

    @field_validator("key")
    @classmethod
    def _long_enough(cls, key: SecretStr) -> SecretStr:
        if len(key.get_secret_value()) < _SHORTEST_KEY:
            raise ValueError(f"must have {_SHORTEST_KEY} characters or more")
        return key


class ServedOpenAIConfig(Section):
    """OpenAI's API: `/v1/chat/completions`, `/v1/responses` (also as a WebSocket), `/v1/images/generations` and
    `/v1/models`."""

    enabled: bool = False
    """Whether it is served; its paths then go before routes that only cover them."""
    default_kind: str | None = None
    """The kind for models that have no table and are no kind's name; their name is passed on. None: they are not
    found."""
    on_last_disconnect: str = "cancel"
    """What becomes of a generation whose client goes away: `continue`, `cancel`, `cancel_after:<seconds>`."""
    socket_on_last_disconnect: str = "cancel_after:60"
    """The same for responses that were asked for over a WebSocket: so long they can be gone on with."""
    head_wait: float = Field(5.0, ge=0, le=300)
    """How long a stream's head waits for the upstream's first word, so that a refusal has a status of its own."""
    max_in_flight: int = Field(16, ge=1, le=1024)
    """Responses that one WebSocket may have at work and waiting."""
    max_lanes: int = Field(32, ge=1, le=1024)
    """Named lanes (`stream_id`) that one WebSocket may use."""
    connection_lifetime: float = Field(3600.0, gt=0)
    """How long one WebSocket may live."""

    policy = field_validator("on_last_disconnect", "socket_on_last_disconnect")(_checked_policy)


class ServedVercelConfig(Section):
    """The chat of Vercel's AI SDK: `POST /api/chat`, and `GET /api/chat/{id}/stream` to go on after a cut."""

    enabled: bool = False
    """Whether it is served."""
    kind: str = "chat"
    """The kind of generation that answers."""
    on_last_disconnect: str = "continue"
    """What becomes of a generation whose client goes away: `continue`, `cancel`, `cancel_after:<seconds>`."""

    policy = field_validator("on_last_disconnect")(_checked_policy)


class ServedCodeConfig(Section):
    """The WebSocket of screenshot-to-code: `/generate-code`."""

    enabled: bool = False
    """Whether it is served."""
    kinds: tuple[str, ...] = ("code", "code")
    """The kind of generation for each variant."""
    anonymous: bool = False
    """Whether callers without a token are served; that project's own front end can't send one."""
    body_limit: int = Field(20_000_000, ge=1024)
    """Largest message with the parameters; it holds the screenshots."""

    @field_validator("kinds")
    @classmethod
    def _some_variants(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        if not 1 <= len(kinds) <= MOST_VARIANTS:
            raise ValueError(f"must name 1 to {MOST_VARIANTS} kinds, one for each variant")
        return kinds


class ServedConfig(Section):
    """Generations in the formats of other systems ([served formats](served-formats.md)). All are off by default."""

    models: dict[str, ServedModelConfig] = Field(default_factory=dict)
    """`[served.models.fast]` serves `"model": "fast"`. A kind's own name is a model's name, too."""
    keys: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], ServedKeyConfig] = Field(default_factory=dict)
    """API keys, by name, for `/v1/*` and `/api/chat`."""
    openai: ServedOpenAIConfig = ServedOpenAIConfig()
    vercel: ServedVercelConfig = ServedVercelConfig()
    code: ServedCodeConfig = ServedCodeConfig()

    @model_validator(mode="after")
    def _keys_differ(self) -> ServedConfig:
        seen: set[str] = set()
        for name, entry in self.keys.items():
            key = entry.key.get_secret_value()
            if key in seen:
                raise WrongSetting(("keys", name, "key"), "is another one's, too. Give each its own")
            seen.add(key)
        return self

    def kinds_named(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Return each kind that is needed, with the key that names it, relative to this table."""
        needed: list[tuple[tuple[str | int, ...], str]] = [
            (("models", name, "kind"), model.kind) for name, model in self.models.items()
        ]
        if self.openai.enabled and self.openai.default_kind is not None:
            needed.append((("openai", "default_kind"), self.openai.default_kind))
        if self.vercel.enabled:
            needed.append((("vercel", "kind"), self.vercel.kind))
        if self.code.enabled:
            needed += [(("code", "kinds", index), kind) for index, kind in enumerate(self.code.kinds)]
        return needed
