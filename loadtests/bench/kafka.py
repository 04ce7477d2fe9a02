"""A service behind topics, for the scenario over Kafka, and a broker: librdkafka's mocked one, in this process.

``python -m loadtests.bench.kafka --port PORT --file FILE``: FILE says by which address the broker is reached; PORT
listens from then on. With ``TIDEGATE_KAFKA=host:port`` the broker there is asked, and its topics are made where they
are not there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

__all__ = ["ANSWER", "ANSWERS", "ASKED", "DIRECT", "WAIT_MS"]

ASKED, ANSWERS, DIRECT = "tidegate-bench-asked", "tidegate-bench-answers", "tidegate-bench-direct"
"""Topics: of requests, of answers to the gateway, and of answers to who asks without it."""
ANSWER = b'{"object":"list","ok":true}'
WAIT_MS = 100 if os.environ.get("TIDEGATE_KAFKA") else 2
"""How long readers let the broker wait for messages: the mocked one looks for new ones only when that is over."""
_QUIET = {"log_level": 0}


def main() -> None:
    """Answer requests until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args()
    named = os.environ.get("TIDEGATE_KAFKA", "")
    broker = None if named else Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "replaced", **_QUIET})
    address = named if broker is None else _address(broker)
    common: dict[str, str | int | float | bool] = {"bootstrap.servers": address, **_QUIET}
    if named:
        _make(AdminClient(common))
    consumer = Consumer(
        common | {"group.id": "tidegate-bench", "enable.auto.commit": False, "fetch.wait.max.ms": WAIT_MS}
    )
    producer = Producer(common | {"linger.ms": 0})
    parts = consumer.list_topics(ASKED, timeout=30).topics[ASKED].partitions
    consumer.assign([TopicPartition(ASKED, part, _end(consumer, part)) for part in parts])
    options.file.write_text(address)
    threading.Thread(target=_listen, args=(options.port,), daemon=True).start()
    while True:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            _answer(producer, message)


def _address(broker: Any) -> str:
    for topic in (ASKED, ANSWERS, DIRECT):
        broker.list_topics(topic, timeout=30)
    (found,) = broker.list_topics(timeout=30).brokers.values()
    return f"{found.host}:{found.port}"


def _make(admin: Any) -> None:
    for future in admin.create_topics([NewTopic(topic, 3, 1) for topic in (ASKED, ANSWERS, DIRECT)]).values():
        with contextlib.suppress(KafkaException):  # It is there.
            future.result(30)


def _end(consumer: Any, part: int) -> int:
    """Return where new messages go; a topic that was just made has no leader yet."""
    ends = time.monotonic() + 30
    while True:
        try:
            found: int = consumer.get_watermark_offsets(TopicPartition(ASKED, part), timeout=30)[1]
            return found
        except KafkaException:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)


def _listen(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            server.accept()[0].close()


def _answer(producer: Any, asked: Any) -> None:
    known = dict(asked.headers())
    correlation = known["kafka_correlationId"]
    headers = [("kafka_correlationId", correlation)]
    producer.produce(known["kafka_replyTopic"].decode(), ANSWER, key=correlation, headers=headers)
    producer.poll(0)


if __name__ == "__main__":
    main()
