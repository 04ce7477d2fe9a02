"""What can be set. Durations are seconds, sizes are bytes. Each table of the file has a module of its own.

Every key has its meaning written below it; ``docs/configuration.md`` is made from these texts (``make docs``), and a
test compares the two. A combination that cannot work is refused here, whoever builds the value, with the key to mend.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from app.config.auth import AuthConfig, ServerApiConfig
from app.config.broker import BrokerConfig
from app.config.cache import CacheConfig
from app.config.events import EventsConfig
from app.config.generations import GenerationsConfig
from app.config.issuers import KNOWN_SECRETS, known_secrets, unsafe_in_production
from app.config.jobs import JobConfig
from app.config.limits import RateLimitConfig
from app.config.observability import MetricsConfig, TracingConfig
from app.config.realtime import RealtimeConfig
from app.config.recorder import RecorderConfig
from app.config.routes import RouteConfig
from app.config.section import Section, WrongSetting
from app.config.served import ServedConfig
from app.config.server import ServerConfig
from app.config.upstreams import UpstreamConfig

__all__ = ["Config"]


class Config(Section):
    """All of it."""

    server: ServerConfig = ServerConfig()
    auth: AuthConfig = AuthConfig()
    realtime: RealtimeConfig = RealtimeConfig()
    broker: BrokerConfig = BrokerConfig()
    server_api: ServerApiConfig = ServerApiConfig()
    generations: GenerationsConfig = GenerationsConfig()
    served: ServedConfig = ServedConfig()
    limits: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")], RateLimitConfig] = Field(
        default_factory=dict
    )
    """`[limits.burst]` is a limit that routes name as `burst`."""
    cache: CacheConfig = CacheConfig()
    events: EventsConfig = EventsConfig()
    metrics: MetricsConfig = MetricsConfig()
    tracing: TracingConfig = TracingConfig()
    recorder: RecorderConfig = RecorderConfig()
    upstreams: dict[str, UpstreamConfig] = Field(default_factory=dict)
    """`[upstreams.chat]` is a microservice that routes and generations name as `chat`."""
    routes: tuple[RouteConfig, ...] = ()
    """Each is a table `[[routes]]`."""

    @model_validator(mode="after")
    def _names_exist(self) -> Config:
        for kind, generation in self.generations.kinds.items():
            above = ("generations", "kinds", kind)
            named: dict[tuple[str | int, ...], str] = {(*above, "upstream"): generation.upstream}
            named |= {(*above, "failover_to", place): to for place, to in enumerate(generation.failover_to)}
            for key, upstream in named.items():
                if upstream not in self.upstreams:
                    raise WrongSetting(key, _not_an_upstream(upstream))
                if self.upstreams[upstream].optional:
                    raise WrongSetting(key, "is optional, but generations need it. Set its optional to false")
        for below, kind in self.served.kinds_named():
            if kind not in self.generations.kinds:
                what = f"names {kind!r}, which is not under [generations.kinds]. Add a table [generations.kinds.{kind}]"
                raise WrongSetting(("served", *below), what)
        for index, sink in enumerate(self.events.sinks):
            if sink.upstream and sink.upstream not in self.upstreams:
                raise WrongSetting(("events", "sinks", index, "upstream"), _not_an_upstream(sink.upstream))
        for index, route in enumerate(self.routes):
            if route.auth == "service" and not any(self.auth.service_keys.values()):
                what = "is service, but nobody has a key. Add one under [auth.service_keys]"
                raise WrongSetting(("routes", index, "auth"), what)
            if route.upstream and route.upstream not in self.upstreams:
                raise WrongSetting(("routes", index, "upstream"), _not_an_upstream(route.upstream))
        return self

    @model_validator(mode="after")
    def _webhooks_exist(self) -> Config:
        kinds, webhooks = self.generations.kinds, self.generations.webhooks
        jobs: dict[tuple[str | int, ...], JobConfig | None]
        jobs = {("generations", "kinds", kind, "job"): each.job for kind, each in kinds.items()}
        jobs |= {("routes", index, "generation"): route.generation for index, route in enumerate(self.routes)}
        for key, job in jobs.items():
            if job is not None and job.webhook and job.webhook not in webhooks:
                what = f"names {job.webhook!r}, which is not under [generations.webhooks]. Add a table"
                raise WrongSetting((*key, "webhook"), f"{what} [generations.webhooks.{job.webhook}]")
            if job is not None and job.upstream and job.upstream not in self.upstreams:
                raise WrongSetting((*key, "upstream"), _not_an_upstream(job.upstream))
        return self

    @model_validator(mode="after")
    def _limits_exist(self) -> Config:
        for kind, generation in self.generations.kinds.items():
            self._check_limits(("generations", "kinds", kind, "limits"), generation.limits)
            self._check_one_unit(("generations", "kinds", kind, "limits"), generation.limits)
        self._check_limits(("server", "health", "limits"), self.server.health.limits)
        for index, route in enumerate(self.routes):
            self._check_limits(("routes", index, "limits"), route.limits)
            for place, limit in enumerate(route.limits):
                if self.limits[limit].unit in {"images", "seconds"}:
                    what = f"names {limit!r}, a budget of {self.limits[limit].unit}, which is for kinds of generations"
                    raise WrongSetting(("routes", index, "limits", place), what)
            if route.generation is not None:
                key = ("routes", index, "generation", "limits")
                self._check_limits(key, route.generation.limits)
                kind_ = self.generations.kinds.get(route.generation.kind)
                named = (*route.generation.limits, *(() if kind_ is None else kind_.limits))
                self._check_one_unit(key, named)
                self._check_not_twice(key, named, route.limits)
        return self

    def _check_limits(self, key: tuple[str | int, ...], names: tuple[str, ...]) -> None:
        for place, limit in enumerate(names):
            if limit not in self.limits:
                raise WrongSetting((*key, place), _not_a_limit(limit))

    def _check_one_unit(self, key: tuple[str | int, ...], names: tuple[str, ...]) -> None:
        units = sorted({unit for limit in names if (unit := self.limits[limit].unit) is not None})
        if len(units) > 1:
            raise WrongSetting(key, f"name budgets of {' and of '.join(units)}; those of a kind are of one unit")

    def _check_not_twice(self, key: tuple[str | int, ...], names: tuple[str, ...], others: tuple[str, ...]) -> None:
        for limit in names:
            if limit in others and self.limits[limit].budget is not None:
                raise WrongSetting(key, f"hold a job to the budget {limit!r}, which the route itself counts, too")

    @model_validator(mode="after")
    def _cache_has_its_store(self) -> Config:
        has_redis = self.broker.shared or self.broker.embedded or self.server.workers > 1
        if self.cache.store == "redis" and not has_redis:
            raise WrongSetting(("cache", "store"), "is redis, but [broker] names none. Name one, or choose memory")
        return self

    @model_validator(mode="after")
    def _production_is_safe(self) -> Config:
        if not self.server.guarded:
            return self
        for above, issuer in self.auth.all_issuers():
            for key, what in unsafe_in_production(issuer):
                raise WrongSetting(("auth", *above, *key), what)
        for name in self._known_service_keys():
            what = "is a key that everybody knows. In production set your own"
            raise WrongSetting(("auth", "service_keys", name), what)
        for name, upstream in self.upstreams.items():
            if not upstream.tls_verify:
                raise WrongSetting(
                    ("upstreams", name, "tls_verify"),
                    "is for development only. Set it to true, and tls_ca to the authority that signed the certificate",
                )
        if self.realtime.insecure:
            raise WrongSetting(("realtime", "insecure"), "is for development only. Set it to false in production")
        return self

    def known_secrets(self) -> list[tuple[str | int, ...]]:
        """Return the keys of secrets that everybody knows: good for a trial, and for nothing that others can reach."""
        issuers = [("auth", *above, *key) for above, issuer in self.auth.all_issuers() for key in known_secrets(issuer)]
        return [*issuers, *(("auth", "service_keys", name) for name in self._known_service_keys())]

    def _known_service_keys(self) -> list[str]:
        keys = self.auth.service_keys
        return [name for name, secret in keys.items() if secret.get_secret_value() in KNOWN_SECRETS]


def _not_a_limit(name: str) -> str:
    return f"names {name!r}, which is not under [limits]. Add a table [limits.{name}]"


def _not_an_upstream(name: str) -> str:
    return f"names {name!r}, which is not under [upstreams]. Add a table [upstreams.{name}] with its targets"
