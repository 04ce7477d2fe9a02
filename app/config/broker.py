"""What can be set about the log that replicas share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from app.config.section import Section, WrongSetting

__all__ = ["BrokerConfig"]

_SCHEMES = ("redis://", "rediss://", "redis+cluster://", "rediss+cluster://")
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]*)(:(?P<port>[0-9]{1,5}))?")
_LARGEST_PORT = 65_535
HostAndPort = Annotated[str, StringConstraints(pattern=r"^(\[[0-9A-Fa-f:]+\]|[^:\s/@]+):[0-9]{1,5}$")]


class BrokerConfig(Section):
    """The log that replicas share: a Redis or Valkey server, one behind sentinels, or a cluster. Without `redis_url`,
    `sentinels` and `cluster` it is this process's memory.
    """

    redis_url: SecretStr | None = None
    """`redis://[user:password@]host:port/number`, `rediss://` for TLS, `unix://` for a socket.
    `redis+cluster://host:port,host:port` names nodes of a cluster."""
    sentinels: tuple[HostAndPort, ...] = ()
    """`host:port` of each sentinel; they are asked for the master of `sentinel_master`."""
    sentinel_master: str = ""
    """The name under which the sentinels watch the master."""
    sentinel_username: str = ""
    """The ACL user at the sentinels."""
    sentinel_password: SecretStr | None = None
    """The password at the sentinels."""
    cluster: tuple[HostAndPort, ...] = ()
    """`host:port` of some nodes of a Redis Cluster; the others are found through them."""
    username: str = ""
    """The ACL user at the servers, for `sentinels` and `cluster`; a `redis_url` names its own."""
    password: SecretStr | None = None
    """The password at the servers, likewise."""
    database: int = Field(0, ge=0)
    """The number of the database, for `sentinels`; a cluster has only 0."""
    tls: bool = False
    """Speak TLS with sentinels, servers and nodes; a `redis_url` says so itself with `rediss://`."""
    tls_ca: str | None = None
    """File with the certificates (PEM) that a server's certificate must lead to; those of the system without it."""
    tls_certificate: str | None = None
    """File with the certificate (PEM) that this gateway shows."""
    tls_key: str | None = None
    """File with its private key (PEM), where it is not in the same file."""
    key_prefix: str = Field("tg:", pattern=r"^[^{}]*$")
    """What the name of every key and every Pub/Sub channel in Redis begins with."""
    embedded: bool = False
    """Start a private Valkey on a socket in a temporary folder; several workers without a Redis do so anyway."""
    connect_timeout: float = Field(2.0, gt=0)
    """How long connecting to Redis may take, and how long a command waits for a link that is down."""
    command_timeout: float = Field(5.0, gt=0)
    """How long an answer of Redis may take."""
    wait_replicas: int = Field(0, ge=0)
    """Replicas of Redis that must have a room's publication before its publisher is told that it was published; 0 for
    none. It is out to its readers all the same."""
    wait_timeout: float = Field(1.0, gt=0)
    """How long they may take. After that the publisher gets `broker_unavailable`: it may be published or not."""

    @property
    def shared(self) -> bool:
        """Whether the log is in Redis."""
        return self.redis_url is not None or bool(self.sentinels) or bool(self.cluster)

    @field_validator("redis_url")
    @classmethod
    def _names_a_server(cls, url: SecretStr | None) -> SecretStr | None:
        """A URL may hold a password: what is wrong with it is told without repeating it."""
        text = "" if url is None else url.get_secret_value()
        scheme, sign, rest = text.partition("://")
        if url is None or (scheme == "unix" and rest):
            return url
        if scheme + sign not in _SCHEMES:
            raise ValueError("must begin with redis://, rediss://, redis+cluster:// or unix:///path")
        places, _, database = rest.partition("?")[0].partition("/")
        for place in places.rpartition("@")[2].split(","):
            match = _PLACE.fullmatch(place)
            if match is None or int(match["port"] or 0) > _LARGEST_PORT:
                raise ValueError("names a server that is not of the form host:port, as in redis://127.0.0.1:6379/0")
        if database and not database.isdigit():
            raise ValueError("must end with the number of a database, as in redis://127.0.0.1:6379/0")
        return url

    @model_validator(mode="after")
    def _one_place(self) -> BrokerConfig:
        if (self.redis_url is not None) + bool(self.sentinels) + bool(self.cluster) > 1:
            key = "cluster" if self.cluster else "sentinels"
            raise WrongSetting((key,), "names a second Redis: set redis_url, sentinels or cluster, only one of them")
        if bool(self.sentinels) != bool(self.sentinel_master):
            raise WrongSetting(("sentinel_master",), "and sentinels need each other")
        if self.wait_replicas and self.wait_timeout >= self.command_timeout:
            raise WrongSetting(("wait_timeout",), "must be shorter than command_timeout")
        if self.tls_key is not None and self.tls_certificate is None:
            raise WrongSetting(("tls_key",), "is the key of no certificate: set tls_certificate too")
        return self
