"""What can be set about the microservices behind the gateway."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from app.config.kafka import KafkaUpstreamConfig
from app.config.section import LOWER_CASE, Section, WrongSetting

__all__ = ["BreakerConfig", "HealthConfig", "HedgeConfig", "RetriesConfig", "UpstreamConfig"]

_ADDRESS = re.compile(r"^https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>\d{1,5}))?(/[^?#\s]*)?$")
_LARGEST_PORT = 65_535
_PATH = re.compile(r"/[!$-~]*")
_WEIGHT = re.compile(r"^(?P<url>\S+)(?:\s+weight=(?P<weight>[1-9]\d{0,3}))?$")


class HealthConfig(Section):
    """Which targets get requests: what is seen of their answers (passive) and what a probe finds (active)."""

    interval: float = Field(0.0, ge=0)
    """How often each target is asked for `health_path`, give or take a tenth; 0 for never."""
    timeout: float = Field(2.0, gt=0)
    """How long such a probe may take."""
    healthy_after: int = Field(2, ge=1)
    """Good probes in a row after which a target gets requests again."""
    unhealthy_after: int = Field(3, ge=1)
    """Bad probes in a row after which it gets none."""
    consecutive_failures: int = Field(5, ge=0)
    """Failed requests in a row (no connection, no answer, cut off, 5xx) that eject a target; 0 never does."""
    ejection_time: float = Field(30.0, gt=0)
    """How long a target is ejected, times how often in a row it was."""
    max_ejection_time: float = Field(300.0, gt=0)
    """The longest ejection."""
    max_ejected_percent: int = Field(50, ge=0, le=100)
    """Largest share of the targets that may be ejected at once; one of several always may."""
    panic_percent: int = Field(50, ge=0, le=100)
    """With less than this share of the targets healthy, all of them get requests; 0 answers 503 once none is."""


class BreakerConfig(Section):
    """Stops asking a target on behalf of a route that mostly fails there; see docs/http-gateway.md for its states."""

    enabled: bool = True
    """Whether there is one."""
    window: float = Field(10.0, gt=0)
    """The time over which answers are counted."""
    threshold: float = Field(0.5, gt=0, le=1)
    """The share of failures in the window that opens it."""
    min_requests: int = Field(20, ge=1)
    """Requests in the window before their share means anything."""
    consecutive_failures: int = Field(0, ge=0)
    """Failures in a row that open it whatever the share is; 0 for no such rule."""
    cool_down: float = Field(5.0, gt=0)
    """How long it stays open, doubled each time a probe fails, up to `max_cool_down`."""
    max_cool_down: float = Field(60.0, gt=0)
    """The longest time that it stays open."""
    probes: int = Field(3, ge=1)
    """Requests let through at once while half open; so many good answers in a row begin the ramp."""
    ramp: float = Field(10.0, ge=0)
    """Over this time the share of requests let through grows to all; 0 closes it at once."""


class RetriesConfig(Section):
    """When a request is sent again; docs/http-gateway.md says which ones may be."""

    count: int = Field(1, ge=0, le=10)
    """How often a request is sent again at most."""
    statuses: tuple[int, ...] = (502, 503, 504)
    """Answers that are worth another try; 4xx never is."""
    try_timeout: float | None = Field(None, gt=0)
    """How long one try of a request that may be sent again waits for the answer's head; none for `response_timeout`."""
    backoff: float = Field(0.025, ge=0)
    """The pause before try n+1 is random, up to this times 2ⁿ - 1."""
    max_backoff: float = Field(0.25, ge=0)
    """The longest such pause."""
    max_retry_after: float = Field(1.0, ge=0)
    """A `Retry-After` up to this is waited for; an answer that asks for more is passed on."""
    budget_percent: float = Field(20.0, ge=0, le=100)
    """Retries as a share of the upstream's requests."""
    budget_min: float = Field(3.0, ge=0)
    """Retries a second that are always allowed."""

    @field_validator("statuses")
    @classmethod
    def _server_errors(cls, statuses: tuple[int, ...]) -> tuple[int, ...]:
        for status in statuses:
            if not 500 <= status <= 599:
                raise ValueError(f"holds {status}. Only answers from 500 to 599 can be tried again")
        return statuses


class HedgeConfig(Section):
    """A second try of a slow GET, HEAD or OPTIONS without waiting for the first; the first good answer wins."""

    enabled: bool = False
    """Whether reads are hedged."""
    delay: float | None = Field(None, gt=0)
    """How long the first try has; none for the 95th percentile of the route's last 128 answers."""
    budget_percent: float = Field(10.0, ge=0, le=100)
    """Hedges as a share of the upstream's hedgeable requests."""


class UpstreamConfig(Section):
    """A microservice: one or more addresses that serve the same."""

    targets: tuple[str, ...] = ()
    """`http://host:port` or `https://host:port`, with a path prefix where it has one, and ` weight=3` where it gets
    more requests than the others. Each address of a name is a target."""
    optional: bool = False
    """Whether it may have no targets: its routes are then answered 501 `not_implemented`."""
    strategy: Annotated[Literal["round_robin", "weighted_round_robin", "least_connections", "random"], LOWER_CASE] = (
        "round_robin"
    )
    """Which target is next: each in turn; in turn by weight; of two random ones the less busy; any."""
    connect_timeout: float = Field(5.0, gt=0)
    """How long connecting may take."""
    response_timeout: float = Field(60.0, gt=0)
    """From the request's last byte to the answer's head."""
    idle_timeout: float = Field(60.0, gt=0)
    """Between two reads of the answer's body."""
    max_connections: int = Field(1000, ge=1)
    """Open connections to one target; when all have so many a request is answered 503 at once."""
    max_idle_connections: int = Field(1000, ge=0)
    """Of those to one target, so many are kept while they are unused."""
    unreachable_status: Literal[502, 503] = 502
    """What a client gets where no connection to a target can be had: 502 `upstream_unreachable`, or 503
    `upstream_down`."""
    max_sockets: int = Field(10_000, ge=1)
    """WebSockets of routes that one target may have at once; with more they are answered 503."""
    keepalive: float = Field(30.0, ge=0)
    """How long an unused connection is kept."""
    keepalive_unsafe: float = Field(4.0, ge=0)
    """How long an unused connection may carry a request that must not be sent twice (POST, PATCH): the upstream may be
    about to close it. Set it below the upstream's own keep-alive time."""
    dns_ttl: float = Field(30.0, gt=0)
    """How long the addresses of a name hold before they are looked up again."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Set on every request, for example `authorization`. Values are secret."""
    health_path: str | None = "/health"
    """What probes ask for; empty for none. Any answer below 500 is good."""
    openapi_path: str = "/openapi.json"
    """Where it describes itself by OpenAPI 3, for the gateway's own `/docs`; empty where it does not. It is asked when
    somebody looks at them."""
    tls_ca: str | None = None
    """A PEM file of the authorities that https targets are verified by; none for the system's."""
    tls_certificate: str | None = None
    """A PEM file of the certificate that the gateway shows."""
    tls_key: str | None = None
    """Its key, if it is in a file of its own."""
    tls_server_name: str | None = None
    """The name that the target's certificate must have; none for the host of the address."""
    tls_verify: bool = True
    """Whether certificates are verified; must be true in production."""
    kafka: KafkaUpstreamConfig = KafkaUpstreamConfig()
    """`[upstreams.<name>.kafka]`: with `bootstrap_servers`, and without `targets`, requests go over topics instead of
    connections. Of the keys above, `connect_timeout` is then for the broker's word that it has a request,
    `response_timeout` and `idle_timeout` are for the answer's messages, and `breaker` holds as ever; retries, hedges,
    health and balancing do not: see docs/kafka.md."""
    health: HealthConfig = HealthConfig()
    breaker: BreakerConfig = BreakerConfig()
    retries: RetriesConfig = RetriesConfig()
    hedge: HedgeConfig = HedgeConfig()

    @property
    def over_kafka(self) -> bool:
        """Whether requests go over topics."""
        return bool(self.kafka.bootstrap_servers) and not self.targets

    @property
    def set_up(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self.targets or self.kafka.bootstrap_servers)

    def weighted_targets(self) -> list[tuple[str, int]]:
        """Return each target's address and its weight, 1 where none was given."""
        matches = [_WEIGHT.match(target) for target in self.targets]
        return [(match["url"], int(match["weight"] or 1)) for match in matches if match is not None]

    @field_validator("targets")
    @classmethod
    def _targets_are_urls(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for target in targets:
            if "@" in target:
                raise ValueError("holds a password in an address. Put it under headers, as authorization")
            match = _WEIGHT.match(target)
            if match is None:
                raise ValueError(f"holds {target!r}. Write an address and its weight as http://host:port weight=3")
            address = _ADDRESS.match(match["url"])
            if address is None:
                raise ValueError(f"holds {target!r}, which is not of the form http://host:port")
            if not 1 <= int(address["port"] or 1) <= _LARGEST_PORT:
                raise ValueError(f"holds {target!r}, whose port is not one of 1 to {_LARGEST_PORT}")
        return targets

    @field_validator("openapi_path")
    @classmethod
    def _openapi_path_is_a_path(cls, path: str) -> str:
        if path and not _PATH.fullmatch(path):
            raise ValueError("is no path. Write one such as /openapi.json, or leave it empty")
        return path

    @model_validator(mode="after")
    def _settings_fit(self) -> UpstreamConfig:
        if not self.set_up and not self.optional:
            fault = "is empty" if "targets" in self.model_fields_set else "is missing"
            raise WrongSetting(
                ("targets",), f'{fault}. Name at least one address, for example ["http://127.0.0.1:8002"]'
            )
        if self.strategy == "round_robin" and len({weight for _, weight in self.weighted_targets()}) > 1:
            raise WrongSetting(("strategy",), "takes no weights. Set it to weighted_round_robin, or leave them out")
        if self.tls_key is not None and self.tls_certificate is None:
            raise WrongSetting(("tls_key",), "is of no use without tls_certificate. Name the certificate's file, too")
        if self.health.interval and not self.health_path:
            raise WrongSetting(("health", "interval"), "needs a health_path to ask for. Set both or neither")
        return self
