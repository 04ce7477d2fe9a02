"""The library librdkafka, another one than the gateway's: a service that answers, and a broker that it mocks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, Producer

__all__ = ["answering", "mock_cluster"]

_QUIET = {"log_level": 0}
_READY = 60.0


@contextlib.contextmanager
def mock_cluster(*topics: str, brokers: int = 1) -> Iterator[str]:
    """Give the addresses of a cluster in this process, with these topics. It makes others when a writer asks for them.

    It has no controller, so nobody can ask it to make any.
    """
    owner = Producer({"test.mock.num.brokers": brokers, "bootstrap.servers": "replaced", **_QUIET})
    try:
        for topic in topics:
            owner.list_topics(topic, timeout=30)
        found = owner.list_topics(timeout=30).brokers.values()
        yield ",".join(f"{broker.host}:{broker.port}" for broker in found)
    finally:
        owner.flush(5)


@contextlib.contextmanager
def answering(address: str, topic: str, **settings: Any) -> Iterator[list[Any]]:
    """Answer each request of a topic with what it asked, in as many messages as its field ``x-pieces`` says.

    It does only what docs/kafka.md says, in a consumer group as services are; the topic must be there. Gives the
    requests that came. ``settings`` are the library's, with ``__`` for a dot, of reader and writer.
    """
    common = {"bootstrap.servers": address, **_QUIET, **{name.replace("__", "."): it for name, it in settings.items()}}
    # A group's first members are waited for; brokers that are no Kafka do so for as long as a member may be silent.
    consumer = Consumer(common | {"group.id": f"of-{topic}", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 20,
                                  "session.timeout.ms": 6000})  # fmt: skip
    producer = Producer(common | {"linger.ms": 0})
    ready, ends, came = threading.Event(), threading.Event(), list[Any]()

    def serve() -> None:
        consumer.subscribe([topic], on_assign=lambda *_: ready.set())
        while not ends.is_set():
            message = consumer.poll(0.05)
            if message is None or message.error() is not None:
                continue
            came.append(message)
            _answer(producer, message)
            producer.poll(0)
        consumer.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        assert ready.wait(_READY), "the service has no partitions"
        yield came
    finally:
        ends.set()
        thread.join(30)
        producer.flush(1)


def _answer(producer: Producer, asked: Any) -> None:
    known = dict(asked.headers())
    correlation, pieces = known["kafka_correlationId"], int(known.get("http_x-pieces", b"1"))
    told = known.get("kafka_replyPartition")
    where = {} if told is None else {"partition": int.from_bytes(told, "big")}
    for number in range(pieces):
        headers = [("kafka_correlationId", correlation), ("http_content-type", "text/plain"),
                   ("tidegate_status", "201")]  # fmt: skip
        if pieces > 1:
            headers += [("tidegate_seq", str(number)), ("tidegate_final", str(number == pieces - 1).lower())]
        producer.produce(known["kafka_replyTopic"].decode(), asked.value(), key=correlation, headers=headers, **where)
