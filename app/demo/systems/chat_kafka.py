"""The demo of the preset ``chat-kafka``: accounts by HTTP, chats over a broker of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.demo.kafka import BOOTSTRAP, broker
from app.demo.system import Companion, Surroundings, System

__all__ = ["SYSTEM"]

_DATABASE = ("sqlalchemy", "aiosqlite", "alembic")
_EVENTS = ("auth-events", "user-events", "organization-events", "chat-service-events", "chat-service-responses")


def _organisations(around: Surroundings) -> Any:
    from services.organisations.app import create_app  # noqa: PLC0415  (a demo imports the services that it has)
    from services.organisations.settings import OrganisationsSettings  # noqa: PLC0415

    told = around.unless_set(
        OrganisationsSettings.prefix, database_url=f"sqlite:///{around.folder}/organisations.db"
    ) | {"kafka_servers": around.environ.get(BOOTSTRAP, "")}
    return create_app(OrganisationsSettings.from_environ(around.environ, **told))


def _chatui(around: Surroundings) -> Any:
    from services.chatui.app import create_app  # noqa: PLC0415
    from services.chatui.settings import ChatUiSettings  # noqa: PLC0415

    told = around.unless_set(ChatUiSettings.prefix, database_url=f"sqlite:///{around.folder}/chatui.db")
    return create_app(ChatUiSettings.from_environ(around.environ, **told))


@contextlib.contextmanager
def _broker_with_topics(folder: Path, environ: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    from services.chatui.settings import ChatUiSettings  # noqa: PLC0415

    with broker(folder, environ) as variables:
        if BOOTSTRAP in variables:
            topics = {*_EVENTS, *ChatUiSettings.from_environ(dict(environ)).topics}
            asyncio.run(_create(variables[BOOTSTRAP], sorted(topics)))
        yield variables


async def _create(servers: str, names: list[str]) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # noqa: PLC0415

    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1) for name in names])
    finally:
        await admin.close()


SYSTEM = System(
    {
        "auth": Companion("accounts and organisations", _organisations, needs=("pwdlib", "aiokafka", *_DATABASE)),
        "chat-ui": Companion("conversations and answers, over Kafka", _chatui, needs=("aiokafka", *_DATABASE)),
    },
    try_first=(
        'curl {url}/v1/client/sign-up --json \'{{"email": "ann@example.com", "password": "password123"}}\'',
        "curl {url}/api/chat/settings/",
    ),
    backdrop=_broker_with_topics,
)
