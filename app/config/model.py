"""What can be set. Durations are seconds, sizes are bytes.

Every key has its meaning written below it; ``docs/configuration.md`` is made from these texts (``make docs``), and a
test compares the two. A combination that cannot work is refused here, whoever builds the value, with the key to mend.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from app.config.section import LOWER_CASE, UPPER_CASE, Section, WrongSetting
from app.config.services import GenerationsConfig, RouteConfig, UpstreamConfig

__all__ = [
    "DEVELOPMENT_SECRET",
    "AuthConfig",
    "BrokerConfig",
    "CentrifugeConfig",
    "ChannelConfig",
    "Config",
    "RealtimeConfig",
    "ServerApiConfig",
    "ServerConfig",
]

DEVELOPMENT_SECRET = "tidegate-development-secret-not-for-production"
_HS256_KEY_SIZE = 32
"""Bytes: RFC 7518 section 3.2 asks for a key no shorter than the hash."""


class ServerConfig(Section):
    """Where and how the gateway listens."""

    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` for all of the machine's."""
    port: int = Field(8080, ge=0, le=65535)
    """The port to listen on; 0 lets the system choose."""
    workers: int = Field(1, ge=1, le=64)
    """Processes that share the port, and the Redis of `broker`; where there is none they start an embedded Valkey."""
    environment: Literal["development", "production"] = "development"
    """In production the development secret, a short secret and `realtime.insecure` are refused."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], LOWER_CASE] = "info"
    """What is logged: this and what is worse."""
    log_format: Literal["console", "json"] = "console"
    """Lines for people, or one JSON object a line."""
    allowed_origins: tuple[str, ...] = ()
    """Exact origins (`https://app.example.com`) from which browsers may connect; `*` allows all. The gateway's own
    origin is always allowed."""
    body_limit: int = Field(10 * 1024 * 1024, ge=1)
    """Largest body of a request."""
    drain_delay: float = Field(0.0, ge=0, le=300)
    """After SIGTERM readiness says 503, and requests are still taken for so long, until load balancers have noticed."""
    drain_window: float = Field(5.0, ge=0, le=300)
    """Over this time, after that, sockets are sent away, each at its own moment."""
    drain_grace: float = Field(10.0, ge=0, le=600)
    """How long after SIGTERM running generations may finish; what runs on is ended as `interrupted`."""
    stop_timeout: float = Field(30.0, gt=0, le=600)
    """How long requests in flight may take to finish once the port is closed."""
    playground: bool = True
    """Whether the page to try the gateway is served, at `/playground/`."""


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


class ChannelConfig(Section):
    """What a channel keeps and who may use it."""

    history_size: int = Field(0, ge=0)
    """Publications that are kept for those who come back; 0 for none."""
    history_ttl: float = Field(0.0, ge=0)
    """How long they are kept."""
    allow_subscribe: bool = False
    """Whether any authenticated client may subscribe without a token of the channel's own."""
    allow_anonymous: bool = False
    """Whether anonymous clients may, too, whatever else is allowed."""
    allow_publish: bool = False
    """Whether a client that is subscribed, or may be, may publish. Here and below: over the Centrifuge protocol."""
    allow_history: bool = False
    """Whether such a client may page through the history."""
    allow_presence: bool = False
    """Whether such a client may ask who is there."""
    presence: bool = False
    """Whether it is kept who is there."""
    join_leave: bool = False
    """Whether it is announced who comes and goes, to those who ask for it when they subscribe."""
    force_push_join_leave: bool = False
    """Announce it to those, too, who did not ask."""
    force_recovery: bool = False
    """Whether those who come back recover what they missed even when they did not ask for it. Needs a history."""
    recovery_max_publications: int = Field(300, ge=1)
    """Publications that are recovered at most, and that one page of history holds. Generations have no such limit."""


class CentrifugeConfig(Section):
    """Sockets that speak the Centrifuge client protocol, at `/connection/websocket`."""

    anonymous: bool = False
    """Whether sockets without a token, or with one that names no user, are let in as anonymous."""
    personal_channel: Literal["none", "user:", "#"] = "none"
    """What the name of the channel begins with that each signed-in user is subscribed to, followed by the user's id."""
    max_channels: int = Field(128, ge=1)
    """Channels that one socket may be in."""
    max_channel_length: int = Field(255, ge=1)
    """Characters of a channel's name."""
    pong_timeout: float = Field(8.0, gt=0)
    """How long the answer to a ping may take before the socket is closed."""
    expired_delay: float = Field(25.0, ge=0)
    """How long after a token's end its connection or subscription is ended; until then the client may refresh it."""


class RealtimeConfig(Section):
    """Sockets and channels."""

    insecure: bool = False
    """Development only: sockets without a token are let in as anonymous."""
    query_token: bool = False
    """Whether `?token=` is accepted. It ends up in logs of proxies: prefer a ticket."""
    max_message: int = Field(64 * 1024, ge=1024)
    """Largest frame that a client may send."""
    send_queue: int = Field(1024 * 1024, ge=16 * 1024)
    """Bytes that may wait for a slow socket before it is closed with `slow_consumer`."""
    auth_timeout: float = Field(10.0, gt=0)
    """How long a socket that came without a token may wait before it sends one."""
    ping_interval: float = Field(25.0, gt=0)
    """Time between two pings to a socket."""
    pong_timeout: float = Field(15.0, gt=0)
    """How long the answer to a ping may take before the socket counts as dead."""
    expiry_warning: float = Field(60.0, ge=0)
    """How long before a token's expiry its socket is warned."""
    max_subscriptions: int = Field(512, ge=1)
    """Channels and generations that one socket may listen to."""
    max_pending_commands: int = Field(64, ge=1)
    """Commands of one socket that may be at work at once."""
    centrifuge: CentrifugeConfig = CentrifugeConfig()
    presence_ttl: float = Field(60.0, ge=1)
    """How long the clients of a replica that was killed stay present in their channels."""
    channel: ChannelConfig = ChannelConfig()
    """For channels whose name has no namespace."""
    namespaces: dict[str, ChannelConfig] = Field(default_factory=dict)
    """`[realtime.namespaces.chat]` is for the channels named `chat:…`."""


class BrokerConfig(Section):
    """The log that replicas share. Without `redis_url` it is this process's memory."""

    redis_url: SecretStr | None = None
    """`redis://[user:password@]host:port/number`, `rediss://` for TLS, `unix://` for a socket."""
    key_prefix: str = "tg:"
    """What the name of every key in Redis begins with."""
    embedded: bool = False
    """Start a private Valkey on a socket in a temporary folder; several workers without a `redis_url` do so anyway."""
    connect_timeout: float = Field(2.0, gt=0)
    """How long connecting to Redis may take."""
    command_timeout: float = Field(5.0, gt=0)
    """How long an answer of Redis may take."""


class ServerApiConfig(Section):
    """The API for back ends: publish, who is there, what was said. Its form is Centrifugo's."""

    keys: tuple[Annotated[SecretStr, Field(min_length=1)], ...] = ()
    """Whoever sends one of these as `X-API-Key` may use it. Without any key there is no such API."""


class Config(Section):
    """All of it."""

    server: ServerConfig = ServerConfig()
    auth: AuthConfig = AuthConfig()
    realtime: RealtimeConfig = RealtimeConfig()
    broker: BrokerConfig = BrokerConfig()
    server_api: ServerApiConfig = ServerApiConfig()
    generations: GenerationsConfig = GenerationsConfig()
    upstreams: dict[str, UpstreamConfig] = Field(default_factory=dict)
    """`[upstreams.chat]` is a microservice that routes and generations name as `chat`."""
    routes: tuple[RouteConfig, ...] = ()
    """Each is a table `[[routes]]`."""

    @model_validator(mode="after")
    def _names_exist(self) -> Config:
        for kind, generation in self.generations.kinds.items():
            if generation.upstream not in self.upstreams:
                key = ("generations", "kinds", kind, "upstream")
                raise WrongSetting(key, _not_an_upstream(generation.upstream))
        for index, route in enumerate(self.routes):
            if route.upstream not in self.upstreams:
                raise WrongSetting(("routes", index, "upstream"), _not_an_upstream(route.upstream))
        return self

    @model_validator(mode="after")
    def _production_is_safe(self) -> Config:
        if self.server.environment != "production":
            return self
        if "HS256" in self.auth.algorithms:
            secret = self.auth.secret.get_secret_value()
            if secret == DEVELOPMENT_SECRET:
                raise WrongSetting(
                    ("auth", "secret"),
                    "is the development secret, which everybody knows. In production set your own, "
                    "for example by GATEWAY_AUTH__SECRET",
                )
            if len(secret.encode()) < _HS256_KEY_SIZE:
                raise WrongSetting(("auth", "secret"), f"is shorter than {_HS256_KEY_SIZE} bytes: it could be guessed")
        if self.realtime.insecure:
            raise WrongSetting(("realtime", "insecure"), "is for development only. Set it to false in production")
        return self


def _not_an_upstream(name: str) -> str:
    return f"names {name!r}, which is not under [upstreams]. Add a table [upstreams.{name}] with its targets"
