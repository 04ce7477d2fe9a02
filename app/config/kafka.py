"""What can be set about Kafka: its brokers, and an upstream that is asked over topics."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from app.config.section import UPPER_CASE, Section, WrongSetting

__all__ = ["TOPIC", "KafkaConfig", "KafkaSinkConfig", "KafkaUpstreamConfig"]

TOPIC = r"^[A-Za-z0-9._-]{0,249}$"
_BROKER = re.compile(r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}$")


class KafkaConfig(Section):
    """How brokers are reached. Needs the extra `tidegate[kafka]`."""

    bootstrap_servers: tuple[str, ...] = ()
    """`host:port` of some of them; the others are learnt from those."""
    client_id: str = Field("tidegate", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """What the gateway calls itself, with the replica's own name after it."""
    security_protocol: Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], UPPER_CASE] = "PLAINTEXT"
    """Whether connections are encrypted, and whether the gateway signs in."""
    sasl_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], UPPER_CASE] = "PLAIN"
    """How it signs in."""
    username: str = ""
    """As whom."""
    password: SecretStr = SecretStr("")
    """With which password."""
    tls_ca: str | None = None
    """A PEM file of the authorities that brokers are verified by; none for the system's."""
    tls_certificate: str | None = None
    """A PEM file of the certificate that the gateway shows."""
    tls_key: str | None = None
    """Its key, if it is in a file of its own."""
    idempotent: bool = True
    """Whether brokers drop a message that comes a second time since its acknowledgement was lost. Not all that speak
    Kafka's protocol can."""

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @field_validator("bootstrap_servers")
    @classmethod
    def _servers_are_addresses(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            if not _BROKER.match(server):
                raise ValueError(f"holds {server!r}, which is not of the form host:port")
        return servers

    @model_validator(mode="after")
    def _signs_in_with_a_name(self) -> KafkaConfig:
        if self.security_protocol.startswith("SASL") and not self.username:
            raise WrongSetting(("username",), "is missing. Say as whom the gateway signs in")
        return self


class KafkaUpstreamConfig(KafkaConfig):
    """Requests go out as messages, and answers come back as messages; docs/kafka.md has their form."""

    topic: str = Field("", pattern=TOPIC)
    """Where requests go, unless their route names another topic."""
    reply_topic: str = Field("", pattern=TOPIC)
    """Where answers come from. All replicas read it, each without a group of its own."""
    reply_partition: Literal["all", "own"] = "all"
    """Whether a replica reads all partitions of it and leaves aside what is for others, or one partition, which it then
    tells with each request; for that, services must heed `kafka_replyPartition`."""
    cancel_topic: str = Field("", pattern=TOPIC)
    """Where a request's correlation id goes when its client has left before the end of the answer; empty for
    nowhere."""
    dead_letter_topic: str = Field("", pattern=TOPIC)
    """Where answers go that cannot be understood; empty for nowhere: they are counted all the same."""
    create_topics: bool = True
    """Whether topics that are not there are made."""
    partitions: int = Field(6, ge=1, le=1000)
    """Of topics that are made."""
    max_outstanding: int = Field(10_000, ge=1)
    """Requests that wait for their answers, or for the end of them; one more is answered 503."""
    max_request_bytes: int = Field(1_000_000, ge=1024)
    """The largest request, headers included; the broker has a limit of its own, 1 MiB where nobody changed it. A larger
    one is answered 413."""
    max_reply_buffer: int = Field(8 * 1024 * 1024, ge=1024)
    """Bytes of one answer that wait for a slow client; past it the answer is cut off."""
    max_replies_buffer: int = Field(256 * 1024 * 1024, ge=1024)
    """The same of all answers together: past it the one that grows is cut off."""
    watch_interval: float = Field(1.0, gt=0)
    """How often the broker is asked whether it is there."""
    fetch_wait: float = Field(0.1, gt=0, le=10)
    """How long a broker keeps a question for answers while there are none. Kafka replies as soon as there is one;
    others that speak its protocol look only now and then, up to half of this time later."""

    @model_validator(mode="after")
    def _answers_come_from_somewhere(self) -> KafkaUpstreamConfig:
        if self.bootstrap_servers and not self.reply_topic:
            raise WrongSetting(("reply_topic",), "is missing. Name the topic that answers come from")
        return self


class KafkaSinkConfig(KafkaConfig):
    """Where events go over Kafka: a message each, with the user's id as its key; docs/events.md has their form."""

    topic: str = Field("tidegate-events", pattern=r"^([A-Za-z0-9._-]|\{(service|kind|status)\}){1,249}$")
    """Where they go; `{service}`, `{kind}` and `{status}` stand for what an event says."""
    create_topics: bool = True
    """Whether topics that are not there are made."""
    partitions: int = Field(6, ge=1, le=1000)
    """Of topics that are made."""
    outbox: SecretStr | None = None
    """A database in which events wait for a broker that is away, `sqlite:///outbox.db` or
    `postgresql://user:password@host/database`; none to keep them in memory alone. Needs the extra `tidegate[sql]`."""
    outbox_limit: int = Field(100_000, ge=1)
    """Events that wait there; further ones wait in memory, within `events.max_events`, and past that are dropped."""
    watch_interval: float = Field(2.0, gt=0)
    """How often the broker is asked whether it is there."""
